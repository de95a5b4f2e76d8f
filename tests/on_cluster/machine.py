"""A kubelet and KServe in small, for tests of the suite itself: what pods name runs as processes of this machine.

Of an InferenceService the version is fetched with `fairlead models fetch` from the S3 that its account's Secret names,
and served by `python -m serving`; a new version's pod is ready before an old one ends. `load-*` Jobs run their program
against a port that leads to any ready pod. The other workloads are ready at once where their image is there.
"""

import base64
import itertools
import json
import os
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.cluster.kubernetes_objects import Cluster, Object, now

ROOT = Path(__file__).parent.parent.parent
SERVICE_LABEL = "serving.kserve.io/inferenceservice"
READY = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
# In place of the runtime's preStop pause: here nothing is told late which pods are left.
PAUSE_SECONDS = 0.3


@dataclass
class Server:
    """A pod of a model."""

    name: str
    uri: str
    process: subprocess.Popen[str]
    log: Path
    port: int = 0
    """Of HTTP, once it is ready."""


@dataclass
class Machine:
    """Everything that runs."""

    cluster: Cluster
    images: set[str]
    """References that are there."""
    folder: Path
    replicas_with_room: int = 2
    ending: threading.Event = field(default_factory=threading.Event)
    servers: dict[str, list[Server]] = field(default_factory=dict)
    failed: set[str] = field(default_factory=set)
    """Addresses of versions that could not be fetched."""
    jobs: dict[str, subprocess.Popen[str]] = field(default_factory=dict)
    numbers: Any = field(default_factory=itertools.count)

    def run(self) -> None:
        """Until `ending` is set."""
        while not self.ending.wait(0.05):
            self._pods()
            for kind in ("statefulsets", "jobs"):
                for found in self.cluster.select(kind, "", {}):
                    self._workload(kind, found)
            present = {found["metadata"]["name"]: found for found in self.cluster.select("inferenceservices", "", {})}
            for name, found in present.items():
                self._serve(name, found)
            for name in set(self.servers) - set(present):
                self._end(name, self.servers.pop(name))
        for name, servers in self.servers.items():
            self._end(name, servers)

    def _pods(self) -> None:
        for pod in self.cluster.select("pods", "", {}):
            if "status" not in pod:
                image = pod["spec"]["containers"][0]["image"]
                state: Object = {"terminated": {"exitCode": 0}}
                if image not in self.images:
                    state = {"waiting": {"reason": "ErrImagePull", "message": f"{image}: not found"}}
                status = {"phase": "Pending", "containerStatuses": [{"name": "image", "state": state}]}
                self._update("pods", pod, lambda o, status=status: o.update(status=status))

    def _workload(self, kind: str, found: Object) -> None:
        name, template = found["metadata"]["name"], found["spec"]["template"]["spec"]
        if "status" in found or template["containers"][0]["image"] not in self.images:
            return
        if name.startswith("load-"):
            self._load(name, found, template)
        else:
            status = {"readyReplicas": 1, "succeeded": 1}
            self._update(kind, found, lambda o: o.update(status=status))

    def _load(self, name: str, found: Object, template: Object) -> None:
        if name not in self.jobs:
            words = list(template["containers"][0]["command"])
            url = words[words.index("--url") + 1]
            service = url.split("/")[2]
            words[words.index("--url") + 1] = url.replace(service, f"127.0.0.1:{self._port_of(service)}")
            program = self.folder / "load.py"
            program.write_text(
                self.cluster.get("configmaps", "load", found["metadata"]["namespace"])["data"]["load.py"]
            )
            words = [sys.executable, str(program), *words[2:]]
            self.jobs[name] = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
            metadata = {**_inside(found), "name": f"{name}-pod", "labels": {"job-name": name}}
            self.cluster.make("pods", {"metadata": metadata, "spec": {}, "status": {"phase": "Running"}})
            threading.Thread(target=self._read, args=(name,), daemon=True).start()
        elif self.jobs[name].poll() is not None:
            self._update("jobs", found, lambda o: o.update(status={"succeeded": 1}))

    def _read(self, name: str) -> None:
        for line in self.jobs[name].stdout or ():
            self.cluster.log(f"{name}-pod", line.rstrip("\n"))

    def _port_of(self, service: str) -> int:
        """A port of this machine that leads to any ready pod of a model."""
        listener = socket.create_server(("127.0.0.1", 0))
        name = service.removesuffix("-predictor")

        def accept() -> None:
            turn = itertools.count()
            while not self.ending.is_set():
                connection, _ = listener.accept()
                ready = [server.port for server in self._ready(name)]
                if not ready:
                    connection.close()
                    continue
                there = socket.create_connection(("127.0.0.1", ready[next(turn) % len(ready)]))
                for pair in ((connection, there), (there, connection)):
                    threading.Thread(target=_copy, args=pair, daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        return int(listener.getsockname()[1])

    def _serve(self, name: str, found: Object) -> None:
        predictor = found["spec"]["predictor"]
        uri, namespace = predictor["model"]["storageUri"], found["metadata"]["namespace"]
        servers = self.servers.setdefault(name, [])
        self.cluster.services[f"{name}-predictor:80"] = lambda path: self._asked(name, path)
        for server in list(servers):
            self._look(server)
            if self.cluster.get("pods", server.name, namespace) is None:
                self._end(name, [server])
        current = [server for server in servers if server.uri == uri]
        wanted = min(predictor["minReplicas"], self.replicas_with_room)
        if len(current) < wanted and uri not in self.failed:
            self._start(name, uri, found)
        elif current and all(server.port for server in current):
            for server in [s for s in servers if s.uri != uri] + current[wanted:]:
                self.cluster.remove("pods", server.name, namespace)
        if self._ready(name):
            # As KServe does, also while another version is still starting.
            status = {"conditions": [{"type": "Ready", "status": "True"}]}
            self._update("inferenceservices", found, lambda o: o.update(status=status))
        if not current and uri not in self.failed:
            return
        if predictor["minReplicas"] > wanted:
            self._unschedulable(name, namespace)
        if uri not in self.failed:
            for pod in self.cluster.select("pods", namespace, {"labelSelector": SERVICE_LABEL}):
                if (pod.get("status") or {}).get("initContainerStatuses"):
                    self.cluster.remove("pods", pod["metadata"]["name"], namespace)

    def _start(self, name: str, uri: str, found: Object) -> None:
        pod, namespace = f"{name}-{next(self.numbers)}", found["metadata"]["namespace"]
        environment, folder = self._environment(found), self.folder / pod
        command = [sys.executable, "-m", "fairlead.cli.main", "models", "fetch", uri, str(folder)]
        fetched = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=ROOT)
        metadata = {"name": pod, "namespace": namespace, "labels": {SERVICE_LABEL: name}}
        if fetched.returncode:
            self.failed.add(uri)
            ended = {"exitCode": fetched.returncode, "reason": "Error", "message": fetched.stderr.splitlines()[-1]}
            state = {"name": "storage-initializer", "restartCount": 3, "state": {"terminated": ended}}
            status = {"phase": "Pending", "initContainerStatuses": [state]}
            self.cluster.make("pods", {"metadata": metadata, "spec": {}, "status": status})
            return
        log = self.folder / f"{pod}.log"
        with log.open("w") as output:
            command = [sys.executable, "-m", "serving", "--model", str(folder), "--model_name", name, "--free-port"]
            process = subprocess.Popen(command, env=environment, stdout=output, stderr=output, text=True, cwd=ROOT)
        self.servers[name].append(Server(pod, uri, process, log))
        self.cluster.make("pods", {"metadata": metadata, "spec": {}, "status": {"phase": "Running"}})
        self.cluster.update("pods", pod, lambda o: o["metadata"].update(creationTimestamp=now()), namespace)

    def _look(self, server: Server) -> None:
        """Whether it has said that it is ready."""
        lines = [line for line in server.log.read_text().splitlines() if line.startswith('{"') and "grpc" in line]
        if server.port or not lines:
            return
        said = json.loads(lines[0])
        server.port = int(said["http"].rpartition(":")[2])
        self.cluster.ports[server.name, 8080] = server.port
        self.cluster.ports[server.name, 8081] = int(said["grpc"].rpartition(":")[2])
        (pod,) = [pod for pod in self.cluster.select("pods", "", {}) if pod["metadata"]["name"] == server.name]
        self._update("pods", pod, lambda o: o.update(status=READY))

    def _end(self, name: str, servers: list[Server]) -> None:
        for server in servers:
            with suppress(KeyError, ValueError):
                self.servers[name].remove(server)
            threading.Thread(target=_terminate, args=(server,)).start()

    def _ready(self, name: str) -> list[Server]:
        return [server for server in self.servers.get(name, []) if server.port]

    def _asked(self, name: str, path: str) -> Object | None:
        for server in self._ready(name)[:1]:
            with suppress(httpx.HTTPError):
                said: Object = httpx.get(f"http://127.0.0.1:{server.port}{path}", trust_env=False).json()
                return said
        return None

    def _environment(self, found: Object) -> dict[str, str]:
        """What KServe gives the storage container: what the account's Secret and its annotations say."""
        namespace = found["metadata"]["namespace"]
        account = self.cluster.get("serviceaccounts", found["spec"]["predictor"]["serviceAccountName"], namespace)
        secret = self.cluster.get("secrets", (account or {})["secrets"][0]["name"], namespace)
        data = {name: base64.b64decode(value).decode() for name, value in (secret or {})["data"].items()}
        said = {name.partition("/")[2]: value for name, value in (secret or {})["metadata"]["annotations"].items()}
        scheme = "https" if said["s3-usehttps"] == "1" else "http"
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("FAIRLEAD_", "AWS_"))}
        return inherited | {
            "AWS_ENDPOINT_URL": f"{scheme}://{said['s3-endpoint']}",
            "AWS_DEFAULT_REGION": said["s3-region"],
            "AWS_ACCESS_KEY_ID": data["AWS_ACCESS_KEY_ID"],
            "AWS_SECRET_ACCESS_KEY": data["AWS_SECRET_ACCESS_KEY"],
            "FAIRLEAD_HOME": str(self.folder / "home"),
        }

    def _unschedulable(self, name: str, namespace: str) -> None:
        if self.cluster.get("pods", f"{name}-waits", namespace) is None:
            condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes"}
            metadata = {"name": f"{name}-waits", "namespace": namespace, "labels": {SERVICE_LABEL: name}}
            status = {"phase": "Pending", "conditions": [condition]}
            self.cluster.make("pods", {"metadata": metadata, "spec": {}, "status": status})

    def _update(self, kind: str, found: Object, change: Any) -> None:
        self.cluster.update(kind, found["metadata"]["name"], change, found["metadata"]["namespace"])


def _inside(found: Object) -> Object:
    return {"namespace": found["metadata"]["namespace"]}


def _terminate(server: Server) -> None:
    time.sleep(PAUSE_SECONDS)
    server.process.terminate()
    try:
        server.process.wait(45)
    except subprocess.TimeoutExpired:
        server.process.kill()
        server.process.wait()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while content := source.recv(1 << 16):
            target.sendall(content)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)
