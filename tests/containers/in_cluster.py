"""What a step finds of Kubernetes on its network: the tests' API server over TLS, and a model behind its Service.

Both are of this process; only what they listen on is on that network, where a thread of its own goes to make it.
"""

import json
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.cluster.kserve import NAMESPACE, KServe
from tests.cluster.kubernetes_objects import Cluster, Object
from tests.cluster.kubernetes_server import serving
from tests.containers.network import LOOPBACK, Network, listening

PORT, SERVICE_PORT = 6443, 80
# Where the kubelet puts what an account needs.
ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
CRD = Path("kserve") / "serving.kserve.io_inferenceservices.yaml"


@dataclass(frozen=True)
class Kubernetes:
    """A cluster, and what it gives to a pod."""

    cluster: Cluster
    env: Mapping[str, str]
    readable: Mapping[str, Path]


@contextmanager
def running(
    network: Network, crds: Path, folder: Path, model: str, broken: Mapping[str, Object], digest: Callable[[str], str]
) -> Iterator[Kubernetes]:
    """A cluster on `network` with a controller for `model`; `broken` and `digest` are KServe's of tests/cluster."""
    listener = _tls(folder).wrap_socket(listening(network, PORT), server_side=True)
    with serving(Cluster(), listener) as cluster, _model_server(cluster, listening(network, SERVICE_PORT), model):
        cluster.install(crds / CRD)
        controller = KServe(cluster, dict(broken), digest=digest)
        thread = threading.Thread(target=controller.run, daemon=True)
        thread.start()
        try:
            yield Kubernetes(cluster, _environment(), _files(folder, model))
        finally:
            controller.ending.set()
            thread.join(10)


def _environment() -> dict[str, str]:
    return {"KUBERNETES_SERVICE_HOST": LOOPBACK, "KUBERNETES_SERVICE_PORT": str(PORT)}


def _files(folder: Path, model: str) -> dict[str, Path]:
    account = folder / "account"
    (account / "token").write_text("a-token")
    (account / "namespace").write_text("kubeflow")
    hosts = folder / "hosts"
    hosts.write_text(f"127.0.0.1 localhost {model}-predictor.{NAMESPACE}.svc\n")
    return {ACCOUNT: account, "/etc/hosts": hosts}


def _tls(folder: Path) -> ssl.SSLContext:
    """With a certificate of its own, which `folder`/account has as the cluster's."""
    account, key = folder / "account", folder / "key.pem"
    account.mkdir()
    account.chmod(0o755)
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=kubernetes"]
    paths = ["-keyout", str(key), "-out", str(account / "ca.crt")]
    subprocess.run([*command, "-addext", f"subjectAltName=IP:{LOOPBACK}", *paths], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(account / "ca.crt", key)
    return context


@contextmanager
def _model_server(cluster: Cluster, listener: socket.socket, model: str) -> Iterator[None]:
    """What the Service of the model answers, as the cluster's pods do."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            said: Any = cluster.services.get(f"{model}-predictor:80", lambda path: None)(self.path)
            content = json.dumps(said).encode()
            self.send_response(503 if said is None else 200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer((LOOPBACK, 0), Handler, bind_and_activate=False) as http:
        http.socket.close()
        http.socket = listener
        threading.Thread(target=http.serve_forever, args=(0.02,), daemon=True).start()
        yield
        http.shutdown()
