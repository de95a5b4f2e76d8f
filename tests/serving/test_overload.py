"""Too much at once, too late, and callers who leave: refused in their protocol's own words, nobody else the worse."""

import asyncio
from pathlib import Path

import grpc
import pytest

from fairlead.inference.config import ServingConfig
from serving.asgi import MAX_BODY_BYTES
from serving.listening import bind, rest_server, until_answering
from tests.inference.serving import until
from tests.serving.doors import V1, V2, infer_request, opened, rpc_opened, run

# 64 tokens each, a batch of the held model; twenty are more than may wait.
TEXTS = ["my card was charged twice where is the parcel app crashes refund please my card was charged twice"] * 4
AT_ONCE = ServingConfig(queue_milliseconds=0)
PATIENT = ServingConfig(queue_milliseconds=60_000)


def test_a_full_queue_refuses_at_once_and_says_when_to_come_again(version: Path) -> None:
    async def ask() -> None:
        async with opened(version, AT_ONCE) as doors, rpc_opened(doors) as infer:
            doors.runner.free.clear()
            asked = [asyncio.create_task(doors.ask(*TEXTS)) for _ in range(20)]
            done, accepted = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
            refused = done.pop().result()
            assert refused.status_code == 429 and "again" in refused.json()["error"]
            assert int(refused.headers["retry-after"]) >= 1
            with pytest.raises(grpc.RpcError) as raised:
                await infer(infer_request(*TEXTS))
            assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert int(dict(raised.value.trailing_metadata())["retry-after"]) >= 1
            assert [(await doors.client.get(f"/v2/health/{what}")).status_code for what in ("live", "ready")] == [
                200
            ] * 2
            doors.runner.free.set()
            statuses = {(await task).status_code for task in accepted}
            assert 200 in statuses and statuses <= {200, 429}
            assert {end.status for end in doors.ends.exchanges} == {200, 429}

    run(ask)


def test_a_full_queue_refuses_a_large_body_unread(version: Path) -> None:
    async def ask() -> None:
        async with opened(version, ServingConfig(long_queue_seconds=0)) as doors:
            doors.runner.free.clear()
            accepted = asyncio.create_task(doors.ask(*TEXTS * 8))
            await doors.computing()
            # Not even JSON: nobody looked.
            refused = await doors.client.post(V1, content=b"x" * 1_000_000)
            assert refused.status_code == 429 and refused.headers["connection"] == "close", refused.text
            doors.runner.free.set()
            assert (await accepted).status_code == 200
            assert (await doors.client.post(V1, content=b"x" * 1_000_000)).status_code == 400

    run(ask)


def test_a_deadline_that_passes_is_told(version: Path) -> None:
    async def ask() -> None:
        async with opened(version) as doors, rpc_opened(doors) as infer:
            doors.runner.free.clear()
            late = await doors.ask("my card", x_request_timeout_ms="50")
            assert late.status_code == 504 and "deadline" in late.json()["error"]
            with pytest.raises(grpc.RpcError) as raised:
                await infer(infer_request("my card"), timeout=0.05)
            assert raised.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            doors.runner.free.set()
            assert (await doors.ask("my card", x_request_timeout_ms="60000")).status_code == 200
            assert (await infer(infer_request("my card"), timeout=60)).model_name == "topics"

    run(ask)


@pytest.mark.parametrize("value", ["0", "-5", "1.5", "soon", "99999999999", ""])
def test_a_deadline_that_is_none_is_the_callers_mistake(version: Path, value: str) -> None:
    async def ask() -> None:
        async with opened(version) as doors:
            response = await doors.ask("my card", x_request_timeout_ms=value)
            assert response.status_code == 400 and "x-request-timeout-ms" in response.json()["error"]
            assert not doors.runner.batches

    run(ask)


def test_a_caller_who_leaves_gives_the_place_back(version: Path) -> None:
    async def ask() -> None:
        async with opened(version, PATIENT) as doors:
            server, listening = rest_server(doors.door, 10), bind("127.0.0.1", 0)
            serving = asyncio.create_task(server.serve(sockets=[listening]))
            await until_answering(server, serving)
            doors.runner.free.clear()
            busy = asyncio.create_task(doors.ask("my card"))
            await doors.computing()
            _, leaving = await asyncio.open_connection(*listening.getsockname())
            body = b'{"instances": ["where is the parcel"]}'
            leaving.write(
                b"POST %s HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n%s" % (V1.encode(), len(body), body)
            )
            await until(lambda: len(doors.served._jobs) == 2)
            leaving.close()
            await until(lambda: len(doors.served._jobs) == 1)
            doors.runner.free.set()
            assert (await busy).status_code == 200
            server.should_exit = True
            await serving
            assert [end.status for end in doors.ends.exchanges] == [499, 200]
            assert sum(len(batch) for batch in doors.runner.batches) == 1, "what nobody waits for is not computed"

    run(ask)


def test_a_body_is_refused_by_the_length_that_it_claims(version: Path) -> None:
    async def ask() -> None:
        async with opened(version) as doors:
            for path in (V1, V2):
                response = await doors.client.post(
                    path, content=b"{}", headers={"content-length": str(MAX_BODY_BYTES + 1)}
                )
                assert response.status_code == 413 and response.headers["connection"] == "close"
            assert (await doors.client.post(V1, content=b"{}", headers={"content-encoding": "gzip"})).status_code == 415

    run(ask)


def test_a_failing_model_is_a_500_without_its_reason_and_only_for_its_own_text(version: Path) -> None:
    async def ask() -> None:
        async with opened(version) as doors:
            doors.runner.poison = doors.served.engine.tokenize(["refund"])[0][1]
            both = await asyncio.gather(doors.ask("refund"), doors.ask("my card"))
            assert [response.status_code for response in both] == [500, 200]
            assert "Traceback" not in both[0].text and "poison" not in both[0].text

    run(ask)


def test_a_server_that_ends_says_so_and_answers_on(version: Path) -> None:
    async def ask() -> None:
        async with opened(version) as doors:
            assert "connection" not in (await doors.ask("my card")).headers
            doors.desk.drain()
            ready = await doors.client.get("/v2/health/ready")
            assert ready.status_code == 503 and "ending" in ready.json()["error"]
            assert (await doors.client.get("/v2/health/live")).status_code == 200
            answer = await doors.ask("my card")
            assert answer.status_code == 200 and answer.headers["connection"] == "close"

    run(ask)
