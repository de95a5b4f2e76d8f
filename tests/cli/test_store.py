"""`fairlead store gc` on a real registry and a real folder."""

import pytest

from fairlead import places
from fairlead.cli.store import duration
from fairlead.errors import ConfigError
from fairlead.registry import open_registry
from fairlead.storage import open_store
from tests.cli.records import PROJECT, add_version


@pytest.fixture
def leftover(home):
    """A version, and a second one whose upload was killed."""
    store = open_store(places.store_url())
    with open_registry() as registry:
        add_version(registry, 1, accuracy=0.9)
        registry.reserve_version(PROJECT, "killed")
    store.put_bytes("models/support_topics/v0001/fairlead.json", b"{}")
    store.put_bytes("models/support_topics/v0002/model.safetensors", b"half")
    return store


def keys(store):
    return [found.key for found in store.list("")]


def test_nothing_to_remove(fairlead, home):
    assert fairlead("store", "gc").out == "nothing to remove\n"


def test_young_ones_are_left_alone(fairlead, leftover):
    assert "support_topics_v2" in fairlead("store", "gc").out
    assert len(keys(leftover)) == 2


def test_a_dry_run_says_it_and_removes_nothing(fairlead, leftover):
    answer = fairlead("store", "gc", "--older-than", "0s", "--dry-run", "--json").json
    assert answer == {"dry_run": True, "removed": {"support_topics_v2": 1}, "kept": []}
    assert len(keys(leftover)) == 2


def test_what_was_left_goes_and_versions_stay(fairlead, leftover):
    assert fairlead("store", "gc", "--older-than", "0s", "--json").json["removed"] == {"support_topics_v2": 1}
    assert keys(leftover) == ["models/support_topics/v0001/fairlead.json"]
    assert fairlead("store", "gc", "--older-than", "0s").out == "nothing to remove\n"


def test_progress_is_told(fairlead, leftover, monkeypatch):
    told = []
    monkeypatch.setattr("fairlead.cli.display.Display.on_event", lambda self, event: told.append(event))
    fairlead("store", "gc", "--older-than", "0s")
    assert [(event["stage"], event["done"], event["total"]) for event in told] == [("gc", 1, 1)]


def test_ages():
    assert [duration(text) for text in ("90", "45s", "30m", "1.5h", "2d")] == [90, 45, 1800, 5400, 172800]
    with pytest.raises(ConfigError, match="write 45s"):
        duration("soon")
