import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fairlead import places
from fairlead.errors import IntegrityError, NotFound
from fairlead.formats.model import WEIGHTS, list_files, verify
from fairlead.registry.fetching import fetch_from, fetch_version
from tests.inference.conftest import register

__all__ = ["register"]

Register = Callable[[int], Path]


def test_a_version_is_fetched_by_project_number_and_alias(register: Register) -> None:
    first, second = register(0), register(1)
    assert list_files(fetch_version("support_topics:1")) == list_files(first)
    assert list_files(fetch_version("support_topics_v2")) == list_files(second)
    for champion in ("support_topics", "support_topics@champion"):
        folder = fetch_version(champion)
        assert folder == places.home() / "models" / "support_topics" / "v0002"
        assert verify(folder).name == "support_topics_v2"


def test_a_fetched_version_needs_the_store_no_more(register: Register, monkeypatch: pytest.MonkeyPatch) -> None:
    register(0)
    folder = fetch_version("support_topics")
    monkeypatch.setenv("FAIRLEAD_STORE", str(places.home() / "nowhere"))
    assert fetch_version("support_topics") == folder


def test_a_version_that_was_tampered_with_after_its_download_is_refused(register: Register) -> None:
    register(0)
    weights = fetch_version("support_topics") / WEIGHTS
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(IntegrityError, match=WEIGHTS):
        fetch_version("support_topics")
    assert weights.read_bytes() == content, "the evidence stays"


def test_a_version_tampered_with_in_the_store_never_becomes_a_folder(register: Register) -> None:
    register(0)
    stored = Path(places.store_url()) / "models/support_topics/v0001" / WEIGHTS
    good = stored.read_bytes()
    stored.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    with pytest.raises(IntegrityError, match=WEIGHTS):
        fetch_version("support_topics")
    assert not (places.home() / "models/support_topics/v0001").exists()
    stored.write_bytes(good)
    verify(fetch_version("support_topics"))


def test_another_version_in_the_store_under_this_name_is_refused(register: Register) -> None:
    register(0)
    register(1)
    store = Path(places.store_url()) / "models/support_topics"
    for path in (store / "v0001").iterdir():
        path.write_bytes((store / "v0002" / path.name).read_bytes())
    with pytest.raises(IntegrityError):
        fetch_version("support_topics:1")


def test_a_manifest_forged_in_the_store_is_refused(register: Register) -> None:
    register(0)
    stored = Path(places.store_url()) / "models/support_topics/v0001/fairlead.json"
    stored.write_text(stored.read_text("utf-8").replace('"seed": 0', '"seed": 7'), "utf-8")
    with pytest.raises(IntegrityError, match=r"fairlead\.json"):
        fetch_version("support_topics")


def test_a_download_that_was_cut_is_taken_up_again(register: Register) -> None:
    made = register(0)
    partial = places.home() / "models" / "support_topics" / ".v0001.partial"
    partial.mkdir(parents=True)
    (partial / WEIGHTS).write_bytes((made / WEIGHTS).read_bytes())
    (partial / "config.json").write_bytes(b"{")
    assert list_files(fetch_version("support_topics")) == list_files(made)
    assert not partial.exists()


def test_two_fetches_at_once_give_one_folder(register: Register) -> None:
    register(0)
    with ThreadPoolExecutor(4) as pool:
        folders = set(pool.map(fetch_version, ["support_topics"] * 8))
    assert len(folders) == 1
    verify(folders.pop())


def test_an_unknown_version_is_not_found(register: Register) -> None:
    register(0)
    for ref in ("support_topics:9", "support_topics@staging", "no_such_project"):
        with pytest.raises(NotFound):
            fetch_version(ref)


def test_importing_the_room_brings_no_torch() -> None:
    program = "import sys, fairlead.registry.fetching; print(sorted({'torch', 'transformers'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_a_version_is_fetched_from_its_address_alone(
    register: Register, s3_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAIRLEAD_STORE", s3_url)
    registered = register(0)
    target = tmp_path / "models"
    assert fetch_from(f"{s3_url}/models/support_topics/v0001/", target).name == "support_topics_v1"
    assert list_files(target) == list_files(registered)
    # Once more, as a restarted pod does it.
    assert fetch_from(f"{s3_url}/models/support_topics/v0001", target).name == "support_topics_v1"
    # The beginning of a name is not the name.
    with pytest.raises(NotFound):
        fetch_from(f"{s3_url}/models/support_topics/v000", tmp_path / "none")
    (target / "stray.bin").write_bytes(b"x")
    with pytest.raises(IntegrityError, match=r"stray\.bin"):
        fetch_from(f"{s3_url}/models/support_topics/v0001/", target)


def test_a_version_that_differs_in_the_store_is_refused(
    register: Register, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(0)
    address = places.home() / "store" / "models" / "support_topics" / "v0001"
    weights = address / WEIGHTS
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(IntegrityError, match=WEIGHTS):
        fetch_from(str(address), tmp_path / "models")
    (address / "fairlead.json").write_bytes(b"{")
    with pytest.raises(IntegrityError, match="not JSON"):
        fetch_from(str(address), tmp_path / "models")
