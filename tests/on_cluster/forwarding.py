"""Ports of this machine that lead to ports of pods, through the API server: no Service of another type, no other tool.

A connection goes to the pod's own loopback, so that no NetworkPolicy stands in its way.
"""

import re
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from kubernetes.client import ApiException

from fairlead.cluster.api_server import ApiServer, Object, items
from fairlead.cluster.forwarding import open_forward
from fairlead.cluster.pods import is_ready


@contextmanager
def forwarded(server: ApiServer, pod: str, port: int, namespace: str = "") -> Iterator[str]:
    """`127.0.0.1:<port>`, which leads to a port of a pod for as long as the pod is there."""
    namespace = namespace or server.namespace
    take = _through_websockets if _takes_websockets(server, pod, namespace, port) else _through_kubectl
    with take(server, pod, namespace, port) as address:
        yield address


def _takes_websockets(server: ApiServer, pod: str, namespace: str, port: int) -> bool:
    """Whether it is forwarded over a WebSocket; some proxies before an API server take none. True without kubectl."""
    try:
        open_forward(server.within(namespace), pod, port).close()
    except ApiException as error:
        return shutil.which("kubectl") is None or "404" in str(error.reason)
    return True


@contextmanager
def _through_websockets(server: ApiServer, pod: str, namespace: str, port: int) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ended = threading.Event()
        arguments = (listener, ended, server, pod, namespace, port)
        threading.Thread(target=_accept, args=arguments, daemon=True, name=f"to {pod}:{port}").start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            ended.set()
            with suppress(OSError):
                # Wakes who waits for a connection.
                listener.shutdown(socket.SHUT_RDWR)


@contextmanager
def _through_kubectl(server: ApiServer, pod: str, namespace: str, port: int) -> Iterator[str]:
    command = ["kubectl", "--namespace", namespace, "port-forward", "--address", "127.0.0.1", f"pod/{pod}", f":{port}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            # Forwarding from 127.0.0.1:40123 -> 8080
            line = process.stdout.readline() if process.stdout else ""
            match = re.match(r"Forwarding from (127\.0\.0\.1:[0-9]+) ", line)
            assert match, f"no port of pod {pod} can be forwarded: {line.strip()}"
            yield match[1]
        finally:
            process.terminate()


def behind(server: ApiServer, service: str, port: int, namespace: str = "") -> tuple[str, int]:
    """A ready pod behind a Service, and the port of it that a port of the Service leads to. Raises AssertionError."""
    namespace = namespace or server.namespace
    found = server.get(f"/api/v1/namespaces/{namespace}/services/{service}")
    selector = ",".join(f"{key}={value}" for key, value in (found["spec"].get("selector") or {}).items())
    pods = items(server.get(f"/api/v1/namespaces/{namespace}/pods", labelSelector=selector)) if selector else []
    ready = [pod for pod in pods if is_ready(pod)]
    assert ready, f"no pod behind the service {service} is ready"
    (target,) = (entry.get("targetPort", port) for entry in found["spec"]["ports"] if entry["port"] == port)
    return ready[0]["metadata"]["name"], _number(ready[0], target)


def _number(pod: Object, target: int | str) -> int:
    if isinstance(target, int):
        return target
    ports = [entry for container in pod["spec"]["containers"] for entry in container.get("ports") or []]
    return next(int(entry["containerPort"]) for entry in ports if entry.get("name") == target)


def _accept(
    listener: socket.socket, ended: threading.Event, server: ApiServer, pod: str, namespace: str, port: int
) -> None:
    while not ended.is_set():
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=_serve, args=(connection, server, pod, namespace, port), daemon=True).start()


def _serve(connection: socket.socket, server: ApiServer, pod: str, namespace: str, port: int) -> None:
    with connection:
        try:
            forward = open_forward(server.within(namespace), pod, port)
        except ApiException:
            # As a port that nobody listens on.
            return
        there = forward.socket(port)
        back = threading.Thread(target=_copy, args=(there, connection), daemon=True)
        back.start()
        _copy(connection, there)
        back.join()
        there.close()


def _copy(source: Any, target: Any) -> None:
    with suppress(OSError):
        while content := source.recv(1 << 16):
            target.sendall(content)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)
