"""`fairlead store gc` on a real registry and a real folder."""

import os

import pytest

from fairlead import places
from fairlead.cli.store import duration
from fairlead.cluster.processes import only_one
from fairlead.errors import ConfigError
from fairlead.registry import open_registry
from fairlead.storage import open_store
from tests.cli.records import PROJECT, add_version
from tests.registry import samples


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


def test_what_nothing_used_goes_and_what_a_version_names_stays(fairlead, home):
    named, left = home / "pipeline" / "run-1" / "train", home / "pipeline" / "run-2" / "train"
    for folder in (named, left):
        (folder / "output").mkdir(parents=True)
        (folder / "output" / "weights").write_text("w")
        os.utime(folder, (0, 0))
    with open_registry() as registry:
        samples.add_version(registry, "one", config={"model": {"base": str(named / "output")}})
    with only_one(home / "locks" / "tiny.lock", "run of tiny"):
        held = fairlead("store", "gc", "--json").json
    assert held == {"dry_run": False, "removed": {}, "kept": ["pipeline", "logs"]}
    assert fairlead("store", "gc", "--json", "--unused-for", "1d").json["removed"] == {"pipeline/run-2/train": 1}
    assert (named / "output" / "weights").exists() and not left.parent.exists()


def test_ages():
    assert [duration(text, "--older-than") for text in ("90", "45s", "30m", "1.5h", "2d")] == [
        90,
        45,
        1800,
        5400,
        172800,
    ]
    with pytest.raises(ConfigError, match="--unused-for: 'soon' is not an age; write 45s"):
        duration("soon", "--unused-for")
