"""The servers of the serving benchmark, each a process of its own: how it starts, what it is asked, how it answers."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from benchmarks.serving_load import Address

ROOT = Path(__file__).parent.parent
SECONDS_TO_READY, SECONDS_TO_END, SECONDS_TO_SETTLE = 240.0, 30.0, 15.0
PAUSE_SECONDS, QUIET_LOOKS = 0.1, 3
# For every side. Waiting OpenMP threads sleep: while they spin, a machine that does anything else slows a peer at its
# defaults down a hundred times.
COMMON = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "OMP_WAIT_POLICY": "passive"}

Body = dict[str, Any]


@dataclass
class Side:
    """One server."""

    name: str
    command: list[str]
    path: str
    """Where texts are sent."""
    ask: Callable[[str], Body]
    """The body that asks for one text."""
    read: Callable[[Body], tuple[str, float]]
    """Label and probability of the one text of an answer."""
    address: Address
    live: str = "/v2/health/live"
    ready: str = "/v2/health/ready"
    environment: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    def start(self, folder: Path) -> None:
        """Start the process; its output goes to a log in `folder`."""
        log = (folder / f"{self.name}.log").open("wb")
        environment = {**os.environ, **COMMON, **self.environment}
        self.process = subprocess.Popen(
            self.command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True
        )

    def wait(self, folder: Path) -> None:
        """Until it answers a text. Raises SystemExit with the end of its log when it does not."""
        deadline = time.monotonic() + SECONDS_TO_READY
        while not self._answers():
            if self.process is None or self.process.poll() is not None or time.monotonic() > deadline:
                log = (folder / f"{self.name}.log").read_text("utf-8", errors="replace")
                raise SystemExit(f"{self.name}: it does not answer\n{log[-3000:]}")
            time.sleep(0.3)

    @contextmanager
    def awake(self) -> Iterator[None]:
        """Let it run for the length of the block, and stop it again: what it does later, others would wait for."""
        self._signal(signal.SIGCONT)
        # For its clocks: what was due while it was stopped is done now.
        time.sleep(PAUSE_SECONDS)
        try:
            yield
        finally:
            self.sleep()

    def settle(self) -> float:
        """Wait until it does nothing any more; the CPU seconds that this took it.

        Most servers go on computing for clients that have closed their connections.
        """
        begin, quiet, deadline = self.cpu_seconds(), 0, time.monotonic() + SECONDS_TO_SETTLE
        used = begin
        while quiet < QUIET_LOOKS and time.monotonic() < deadline:
            time.sleep(PAUSE_SECONDS)
            before, used = used, self.cpu_seconds()
            quiet = quiet + 1 if used - before < 0.2 * PAUSE_SECONDS else 0
        return used - begin

    def sleep(self) -> None:
        """Stop it as it is (SIGSTOP)."""
        self._signal(signal.SIGSTOP)

    def _signal(self, number: signal.Signals) -> None:
        family = self._family()
        if number == signal.SIGCONT and len(family) > 1:
            # Or a parent that watches over its workers would find that they have not answered for all that time.
            _tell(family[1:], number)
            time.sleep(PAUSE_SECONDS)
        _tell(family, number)

    def stop(self) -> None:
        """End it, its children too."""
        if self.process is None:
            return
        self._signal(signal.SIGCONT)
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self.process.pid, number)
                self.process.wait(SECONDS_TO_END)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                continue

    def cpu_seconds(self) -> float:
        """Used by its processes so far."""
        return sum(cpu_seconds(process) for process in self._family())

    def resident_bytes(self) -> int:
        """Memory of its processes."""
        return sum(process.memory_info().rss for process in self._family())

    def requests(self, texts: list[str]) -> list[bytes]:
        """One request a text, as bytes."""
        return [self.address.post(self.path, json.dumps(self.ask(text)).encode()) for text in texts]

    def _answers(self) -> bool:
        client = http.client.HTTPConnection(self.address.host, self.address.port, timeout=60)
        try:
            client.request("POST", self.path, json.dumps(self.ask("my card")), {"Content-Type": "application/json"})
            return client.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            client.close()

    def _family(self) -> list[psutil.Process]:
        """Its process and all that descend from it: workers may be in groups and sessions of their own."""
        if self.process is None:
            return []
        try:
            parent = psutil.Process(self.process.pid)
            return [parent, *parent.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []


def fairlead(name: str, version: Path, project: str, workers: int = 1) -> Side:
    """Fairlead with the variant that the version chose, in one or several processes."""
    address, rpc = free_address(), free_address()
    ports = ["--http_port", str(address.port), "--grpc_port", str(rpc.port)]
    command = [sys.executable, "-m", "serving", "--model", str(version), "--prediction-log", "off", *ports]
    command += ["--workers", str(workers)] if workers > 1 else []
    environment = {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "src")])}
    path = f"/v2/models/{project}/infer"
    return Side(name, command, path, _ask_v2("text"), _read_fairlead, address, environment=environment)


def kserve_pipeline(name: str, version: Path, *arguments: str, threads: int | None = None) -> Side:
    """A `kserve.Model` around a pipeline of transformers, over V1: the protocol that costs it least."""
    address, rpc = free_address(), free_address()
    program = ROOT / "benchmarks" / "peers" / "kserve_pipeline.py"
    ports = ["--http_port", str(address.port), "--grpc_port", str(rpc.port)]
    command = [sys.executable, str(program), "--model_dir", str(version), "--model_name", "peer", *ports, *arguments]
    environment = {"OMP_NUM_THREADS": str(threads)} if threads else {}
    path = "/v1/models/peer:predict"
    return Side(name, command, path, _ask_v1, _read_pipeline_v1, address, environment=environment)


def kserve_huggingface(name: str, source: Path, version: Path, max_length: int) -> Side:
    """KServe's own `huggingfaceserver` at its defaults, from KServe's source tree."""
    address, rpc = free_address(), free_address()
    program = ROOT / "benchmarks" / "peers" / "kserve_huggingface.py"
    command = [sys.executable, str(program), str(source), "--model_id", str(version), "--model_name", "peer"]
    command += ["--max_model_len", str(max_length), "--task", "sequence_classification", "--backend", "huggingface"]
    command += ["--http_port", str(address.port), "--grpc_port", str(rpc.port)]
    return Side(name, command, "/v1/models/peer:predict", _ask_v1, _reader_of_indices(version), address)


def mlserver(name: str, python: Path, version: Path, folder: Path) -> Side:
    """MLServer's Hugging Face runtime at its defaults; `folder` gets its settings."""
    address, rpc, metrics = free_address(), free_address(), free_address()
    folder.mkdir()
    extra = {"task": "text-classification", "pretrained_model": str(version), "framework": "pt"}
    model = {
        "name": "peer",
        "implementation": "mlserver_huggingface.HuggingFaceRuntime",
        "parameters": {"extra": extra},
    }
    ports = {"http_port": address.port, "grpc_port": rpc.port, "metrics_port": metrics.port}
    (folder / "settings.json").write_text(json.dumps({"host": "127.0.0.1", **ports}), encoding="utf-8")
    (folder / "model-settings.json").write_text(json.dumps(model), encoding="utf-8")
    command = [str(python.parent / "mlserver"), "start", str(folder)]
    return Side(name, command, "/v2/models/peer/infer", _ask_v2("args"), _read_mlserver, address)


def _ask_v1(text: str) -> Body:
    return {"instances": [text]}


def _ask_v2(tensor: str) -> Callable[[str], Body]:
    return lambda text: {"inputs": [{"name": tensor, "datatype": "BYTES", "shape": [1], "data": [text]}]}


def _read_pipeline_v1(body: Body) -> tuple[str, float]:
    (prediction,) = body["predictions"]
    return prediction["label"], prediction["score"]


def _reader_of_indices(version: Path) -> Callable[[Body], tuple[str, float]]:
    """Of a server that says the index of a class, and not how sure it is."""
    names = json.loads((version / "config.json").read_text("utf-8"))["id2label"]
    return lambda body: (names[str(body["predictions"][0])], float("nan"))


def _read_fairlead(body: Body) -> tuple[str, float]:
    columns = {output["name"]: output["data"] for output in body["outputs"]}
    (label,), (probability,) = columns["label"], columns["probability"]
    return label, probability


def _read_mlserver(body: Body) -> tuple[str, float]:
    prediction = json.loads(body["outputs"][0]["data"][0])
    return prediction["label"], prediction["score"]


def free_address() -> Address:
    """Where nothing listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return Address("127.0.0.1", int(taken.getsockname()[1]))


def _tell(processes: list[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(number)


def cpu_seconds(process: psutil.Process) -> float:
    """User and system time that a process used so far."""
    times = process.cpu_times()
    return float(times.user + times.system)
