"""Several models and versions on one server, loaded and unloaded by callers where they may."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from fairlead.errors import StorageError
from fairlead.inference.config import ServingConfig
from fairlead.inference.repository import Repository
from serving import starting
from serving.control import Control
from serving.desk import Desk
from serving.options import Wanted
from serving.rest import RestDoor
from serving.starting import load_models
from tests.inference.conftest import register
from tests.serving.doors import run
from tests.tiny import make_version

__all__ = ["register"]

QUICK = ServingConfig(calibration_seconds=0, threads=1, batch_tokens=64, queue_milliseconds=60_000)
BODY = {"instances": ["my card was charged twice"]}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Versions 1 and 2."""
    return [make_version(tmp_path_factory.mktemp(f"v{n}"), number=n, seed=n) for n in (1, 2)]


@asynccontextmanager
async def serving(*wanted: Wanted, allowed: bool = True, alone: bool = True) -> AsyncIterator[httpx.AsyncClient]:
    desk, repository = Desk(), Repository(config=QUICK)
    transport = httpx.ASGITransport(RestDoor(desk, Control(desk, repository, allowed, alone)))  # type: ignore[arg-type]
    try:
        async with httpx.AsyncClient(transport=transport, base_url="http://doors") as client:
            if wanted:
                await load_models(wanted, repository, desk)
            yield client
    finally:
        repository.close()


async def version_of(client: httpx.AsyncClient, path: str) -> str:
    response = await client.post(path, json=BODY)
    assert response.status_code == 200, response.text
    return str(response.json().get("model_version"))


def test_several_versions_and_models_answer_by_name(folders: list[Path]) -> None:
    async def ask() -> None:
        wanted = [Wanted(folders[0], None, None), Wanted(folders[1], None, None), Wanted(folders[1], "other", None)]
        async with serving(*wanted) as client:
            assert await version_of(client, "/v1/models/support_topics:predict") == "support_topics_v1"
            assert await version_of(client, "/v1/models/other:predict") == "support_topics_v2"
            tensor = {"name": "text", "datatype": "BYTES", "shape": [1], "data": ["my card"]}
            for version in ("1", "2"):
                path = f"/v2/models/support_topics/versions/{version}"
                answer = (await client.post(f"{path}/infer", json={"inputs": [tensor]})).json()
                assert answer["model_version"] == f"support_topics_v{version}"
                assert (await client.get(path)).json()["versions"] == [f"support_topics_v{version}"]
                assert (await client.get(f"{path}/ready")).status_code == 200
            index = (await client.post("/v2/repository/index")).json()
            assert {(one["name"], one["version"], one["state"]) for one in index} == {
                ("support_topics", "support_topics_v1", "READY"),
                ("support_topics", "support_topics_v2", "READY"),
                ("other", "support_topics_v2", "READY"),
            }
            assert (await client.post("/v2/repository/models/other/unload")).json() == {"name": "other", "unload": True}
            assert (await client.post("/v1/models/other:predict", json=BODY)).status_code == 404
            assert (await client.post("/v2/repository/models/support_topics/versions/1/unload")).status_code == 200
            assert await version_of(client, "/v1/models/support_topics:predict") == "support_topics_v2"
            assert (await client.post("/v2/repository/models/other/load")).json() == {"name": "other", "load": True}
            assert await version_of(client, "/v1/models/other:predict") == "support_topics_v2"

    run(ask)


def test_a_registered_version_is_loaded_by_its_reference(register, home) -> None:
    register(0)
    register(1)

    async def ask() -> None:
        load = "/v2/repository/models/topics/load"
        async with serving(Wanted("support_topics:1", "topics", None)) as client:
            assert await version_of(client, "/v1/models/topics:predict") == "support_topics_v1"
            done = await client.post(load, json={"parameters": {"ref": "support_topics@champion"}})
            assert done.status_code == 200, done.text
            assert await version_of(client, "/v1/models/topics:predict") == "support_topics_v2"
            for parameters, status, word in (
                ({"ref": "support_topics:9"}, 404, "support_topics_v9"),
                ({"ref": "../secret"}, 400, "secret"),
                ({"ref": 3}, 400, "parameters.ref"),
                ({"folder": "/etc"}, 400, "parameters.folder"),
                ({"ref": "support_topics:1", "variant": "int3"}, 400, "int3"),
                ([1], 400, "parameters"),
            ):
                refused = await client.post(load, json={"parameters": parameters})
                assert refused.status_code == status and word in refused.json()["error"], refused.text
            assert await version_of(client, "/v1/models/topics:predict") == "support_topics_v2"

    run(ask)


def test_callers_load_nothing_where_they_may_not(folders: list[Path]) -> None:
    async def ask(allowed: bool, alone: bool, status: int, word: str) -> None:
        async with serving(Wanted(folders[0], "topics", None), allowed=allowed, alone=alone) as client:
            load, unload = (f"/v2/repository/models/topics/{verb}" for verb in ("load", "unload"))
            for refused in (
                await client.post(load, json={"parameters": {"ref": "support_topics:1"}}),
                await client.post(unload),
            ):
                assert refused.status_code == status and word in refused.json()["error"]
            assert (await client.post("/v1/models/topics:predict", json=BODY)).status_code == 200

    run(lambda: ask(False, True, 400, "--model-control explicit"))
    run(lambda: ask(True, False, 409, "several workers"))


def test_until_a_model_is_loaded_the_doors_say_what_they_wait_for(
    folders: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(starting, "FIRST_PAUSE_SECONDS", 0.01)

    class Away(Repository):
        """A repository whose store is away at first."""

        tries = 0

        async def load(self, *arguments, **named):
            self.tries += 1
            if self.tries < 4:
                raise StorageError("s3://models: no answer; check the store")
            return await super().load(*arguments, **named)

    async def ask() -> None:
        desk, repository = Desk(), Away(config=QUICK)
        transport = httpx.ASGITransport(RestDoor(desk, Control(desk, repository, False, True)))  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url="http://doors") as client:
            loading = asyncio.create_task(load_models([Wanted(folders[0], "topics", None)], repository, desk))
            while "no answer" not in desk.reason:
                await asyncio.sleep(0)
            ready = await client.get("/v2/health/ready")
            assert ready.status_code == 503 and "s3://models: no answer" in ready.json()["error"]
            assert (await client.get("/v2/health/live")).status_code == 200
            early = await client.post("/v1/models/topics:predict", json=BODY)
            assert early.status_code == 503 and early.headers["retry-after"] == "1"
            await loading
            assert (await client.get("/v2/health/ready")).json() == {"ready": True}
            assert (await client.post("/v1/models/topics:predict", json=BODY)).status_code == 200
            assert repository.tries == 4
        repository.close()

    run(ask)
