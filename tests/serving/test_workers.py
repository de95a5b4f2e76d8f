"""Several processes on the same ports: one that is killed comes back, and the end loses nothing."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import httpx
import psutil

from serving.protobuf import pb
from tests.serving.conftest import ROOT, Server, environment, running
from tests.serving.doors import infer_request

# Computing these takes long enough for a signal to come in between.
MANY = ["my card was charged twice " * 100] * 256


def workers_of(server: Server) -> set[int]:
    return {child.pid for child in psutil.Process(server.process.pid).children()}


def ready(server: Server) -> int:
    """Workers that are ready, as the metrics of any of them have it."""
    lines = [line for line in server.get("/metrics").text.splitlines() if line.startswith("fairlead_model_state")]
    return sum(int(float(line.rsplit(" ", 1)[1])) for line in lines if 'state="ready"' in line)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def over_rpc(server: Server, *texts: str) -> int:
    request = infer_request(*texts)
    request.model_name = server.model
    with grpc.insecure_channel(server.grpc) as channel:
        infer = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            request_serializer=pb.ModelInferRequest.SerializeToString,
            response_deserializer=pb.ModelInferResponse.FromString,
        )
        return len(infer(request, timeout=120).outputs[0].contents.bytes_contents)


def over_http(server: Server, *texts: str) -> int:
    response = server.post(f"/v1/models/{server.model}:predict", json={"instances": texts})
    assert response.status_code == 200, response.text
    return len(response.json()["predictions"])


def test_a_killed_worker_comes_back_and_a_signal_lets_all_of_them_finish(version: Path) -> None:
    with running(version, "--workers", "2") as server:
        before = workers_of(server)
        assert len(before) == 2
        until(lambda: ready(server) == 2)
        assert [over_http(server, "my card") for _ in range(8)] == [1] * 8
        assert [over_rpc(server, "my card") for _ in range(4)] == [1] * 4
        (kept, killed) = sorted(before)
        psutil.Process(killed).kill()
        assert [over_http(server, "my card") for _ in range(8)] == [1] * 8, "the other goes on"
        until(lambda: len(workers_of(server) - {killed}) == 2 and ready(server) == 2)
        now = workers_of(server)
        assert kept in now and killed not in now

        with ThreadPoolExecutor(4) as pool:
            asked = [pool.submit(ask, server, *MANY) for ask in (over_http, over_http, over_rpc, over_rpc)]
            while not any(future.done() for future in asked):
                time.sleep(0.01)
            server.process.send_signal(signal.SIGTERM)
            time.sleep(0.3)
            refused = httpx.get(f"{server.http}/v2/health/ready", timeout=60, trust_env=False)
            assert refused.status_code == 503 and refused.headers["connection"] == "close"
            assert [future.result() for future in asked] == [len(MANY)] * 4
        assert server.process.wait(120) == 0
        assert not any(psutil.pid_exists(pid) for pid in now)


def test_a_worker_that_cannot_start_ends_the_server_with_its_reason(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "serving", "--model", f"{tmp_path}/", "--free-port", "--workers", "2"]
    done = subprocess.run(command, cwd=ROOT, env=environment(tmp_path), capture_output=True, text=True, timeout=240)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.count("error: ") == 1 and "fairlead.json" in done.stderr
