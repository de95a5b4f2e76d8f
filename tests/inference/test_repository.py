"""Versions that come and go while requests run, and an alias that is followed."""

import asyncio
import gc
import shutil
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fairlead import machine, places
from fairlead.errors import InferenceError, IntegrityError, NotFound
from fairlead.formats.model import WEIGHTS, read_manifest
from fairlead.inference.config import ServingConfig
from fairlead.inference.engine import Engine
from fairlead.inference.following import Follower
from fairlead.inference.repository import Repository
from fairlead.inference.states import State
from fairlead.names import CHAMPION
from fairlead.registry import open_registry
from tests.inference.conftest import register
from tests.inference.serving import until
from tests.tiny import WORDS, make_version

QUICK = ServingConfig(calibration_seconds=0, threads=1, batch_tokens=64, queue_milliseconds=60_000)
TEXT = " ".join(WORDS[:7])

__all__ = ["register"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Versions 1 and 2, which answer differently."""
    return [make_version(tmp_path_factory.mktemp(f"v{n}"), number=n, seed=n) for n in (1, 2)]


def run(test: Callable[[], Any]) -> None:
    asyncio.run(asyncio.wait_for(test(), 120))


def states(repository: Repository) -> dict[str, str]:
    return {status.version: str(status.state) for status in repository.statuses()}


def test_versions_are_swapped_under_load_and_no_request_fails(folders: list[Path]) -> None:
    async def ask() -> None:
        repository = Repository(config=QUICK)
        expected = {f"support_topics_v{n}": Engine.load(folders[n - 1]).predict([TEXT])[0] for n in (1, 2)}
        await repository.load("topics", folders[0])
        stop, answered = asyncio.Event(), dict.fromkeys(expected, 0)

        async def client() -> None:
            while not stop.is_set():
                served = repository.get("topics")
                # As a body that arrives slowly: by now another version may answer.
                await asyncio.sleep(0.001)
                (answer,) = await served.predict([TEXT])
                assert answer.probabilities == pytest.approx(expected[served.manifest.name].probabilities, abs=1e-5)
                answered[served.manifest.name] += 1
                del served

        clients = [asyncio.create_task(client()) for _ in range(8)]
        for swap in range(1, 11):
            before = sum(answered.values())
            assert (await repository.load("topics", folders[swap % 2])).manifest.version == swap % 2 + 1
            await until(lambda before=before: sum(answered.values()) > before + 8)
        stop.set()
        await asyncio.gather(*clients)
        assert all(count > 0 for count in answered.values())
        await until(lambda: states(repository) == {"support_topics_v1": "ready"})
        repository.close()

    run(ask)


def test_a_version_that_is_unloaded_answers_what_it_accepted_and_gives_its_memory_back(folders: list[Path]) -> None:
    async def ask() -> None:
        repository = Repository(config=QUICK)
        model = weakref.ref((await repository.load("topics", folders[0])).engine.runner._model)  # type: ignore[attr-defined]
        asked = [asyncio.create_task(repository.get("topics").predict([TEXT] * 20)) for _ in range(10)]
        await asyncio.sleep(0)
        await repository.unload("topics")
        assert [len(await answers) for answers in asked] == [20] * 10
        with pytest.raises(NotFound, match="'topics' is not served here"):
            repository.get("topics")
        del asked
        await until(lambda: gc.collect() >= 0 and model() is None)
        assert states(repository) == {str(folders[0]): "unloaded"}
        await repository.load("topics")
        assert repository.get("topics", "1").manifest.version == 1
        repository.close()

    run(ask)


def test_versions_that_are_kept_are_asked_for_by_number(folders: list[Path]) -> None:
    async def ask() -> None:
        repository = Repository(config=QUICK)
        await repository.load("topics", folders[0])
        await repository.load("topics", folders[1], keep=True)
        assert [repository.get("topics", v).manifest.version for v in ("", "1", "v1", "support_topics_v2")] == [
            2,
            1,
            1,
            2,
        ]
        with pytest.raises(NotFound, match="'support_topics_v2' and 'support_topics_v1'"):
            repository.get("topics", "7")
        assert [status.is_default for status in repository.statuses()] == [True, False]
        await repository.unload("topics", "2")
        assert repository.get("topics").manifest.version == 1
        repository.close()

    run(ask)


def test_what_was_measured_of_one_version_holds_for_the_next_of_its_kind(folders: list[Path]) -> None:
    async def ask() -> None:
        repository = Repository(config=QUICK)
        one, other = [await repository.load("topics", folder) for folder in folders]
        assert one.capacity is other.capacity
        assert repository.statuses()[0].to_dict()["capacity"]["texts_per_second"] > 0
        repository.close()

    run(ask)


def test_a_corrupt_version_leaves_the_old_one_and_says_why(folders: list[Path], tmp_path: Path) -> None:
    async def ask() -> None:
        copy = Path(shutil.copytree(folders[1], tmp_path / "copy"))
        (copy / WEIGHTS).write_bytes((copy / WEIGHTS).read_bytes()[:-1])
        repository = Repository(config=QUICK)
        await repository.load("topics", folders[0])
        loading_it = asyncio.create_task(repository.load("topics", copy))
        await asyncio.sleep(0)
        assert states(repository)[str(copy)] == "loading"
        with pytest.raises(IntegrityError, match=WEIGHTS):
            await loading_it
        failed = next(status for status in repository.statuses() if status.state == State.FAILED)
        assert WEIGHTS in failed.reason and failed.version == str(copy)
        assert len(await repository.get("topics").predict([TEXT])) == 1
        assert repository.get("topics").manifest.version == 1
        repository.close()

    run(ask)


def test_a_version_that_does_not_fit_into_memory_is_not_loaded(
    folders: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("999000\n")
    monkeypatch.setattr(machine, "CGROUP", tmp_path)

    async def ask() -> None:
        repository = Repository(config=QUICK)
        with pytest.raises(InferenceError, match=r"support_topics_v1: loading it takes about 0.0 GB"):
            await repository.load("topics", folders[0])
        repository.close()

    run(ask)


def test_a_promotion_reaches_a_server_that_follows_the_alias(register: Callable[[int], Path]) -> None:
    async def ask() -> None:
        register(1)
        config = QUICK.model_copy(update={"follow_seconds": 0.02})
        repository = Repository(config=config)
        await repository.load("topics", f"support_topics@{CHAMPION}")
        register(2)
        await until(lambda: repository.get("topics").manifest.version == 2)
        with open_registry() as registry:
            registry.set_alias("support_topics", CHAMPION, 1)
        await until(lambda: repository.get("topics").manifest.version == 1)
        await until(lambda: repository.following()[0].reason == "")
        await repository.drain()
        assert repository.following() == []
        repository.close()

    run(ask)


def test_what_is_loaded_serves_while_the_registry_is_away_or_the_promoted_version_is_corrupt(
    register: Callable[[int], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def ask() -> None:
        register(1)
        repository = Repository(config=QUICK)
        await repository.load("topics", f"support_topics@{CHAMPION}")
        digest = read_manifest(repository_folder(1)).digest
        follower = Follower("topics", f"support_topics@{CHAMPION}", 5.0, lambda: digest, repository.load)

        with monkeypatch.context() as away:
            away.setenv("FAIRLEAD_REGISTRY", "postgresql://nobody@127.0.0.1:1/none")
            await follower.look()
            await follower.look()
        assert follower.status.failures == 2 and "registry" in follower.status.reason
        assert 5 * 4 * 0.8 <= follower._pause() <= 5 * 4 * 1.2, "it asks less and less often"

        register(2)
        stored = next(places.home().glob(f"store/models/support_topics/v0002/{WEIGHTS}"))
        whole = stored.read_bytes()
        stored.write_bytes(whole[:-1])
        await follower.look()
        assert follower.status.failures == 3 and WEIGHTS in follower.status.reason
        assert repository.get("topics").manifest.version == 1
        assert len(await repository.get("topics").predict([TEXT])) == 1

        stored.write_bytes(whole)
        await follower.look()
        assert (follower.status.failures, follower.status.reason) == (0, "")
        assert repository.get("topics").manifest.version == 2
        repository.close()

    run(ask)


def repository_folder(number: int) -> Path:
    return places.home() / "models" / "support_topics" / f"v{number:04d}"
