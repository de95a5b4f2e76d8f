"""A small Kubeflow Pipelines API server: the v2beta1 routes that a submission uses, over real HTTP."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

API = "/apis/v2beta1"
RUN_ID = "11111111-2222-3333-4444-555555555555"


@dataclass
class Server:
    """What the server answers, and what it was asked."""

    looks: list[dict[str, Any]]
    """Answers to successive looks at the run; the last is repeated. {"status": 503} is a failing answer."""
    token: str | None = None
    url: str = ""
    submitted: list[dict[str, Any]] = field(default_factory=list)
    authorizations: set[str] = field(default_factory=set)

    def answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        if path == f"{API}/healthz":
            return 200, {"multi_user": False}
        if path == f"{API}/experiments":
            experiment = {"experiment_id": "e1", "display_name": (body or {}).get("display_name", "")}
            return 200, experiment if method == "POST" else {}
        if path == f"{API}/runs" and method == "POST":
            self.submitted.append(body)
            return 200, {"run_id": RUN_ID, "experiment_id": "e1", "state": "PENDING"}
        if path == f"{API}/runs/{RUN_ID}":
            look = self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]
            return look.get("status", 200), {"run_id": RUN_ID, **look}
        return 404, {"message": f"no route {method} {path}"}


def task(name: str, state: str, error: str | None = None, seconds: int = 0) -> dict[str, Any]:
    times = {"start_time": "2030-01-01T00:00:00Z", "end_time": f"2030-01-01T00:00:{seconds:02d}Z"}
    return {
        "display_name": name,
        "state": state,
        **times,
        **({"error": {"code": 9, "message": error}} if error else {}),
    }


def look(state: str, *tasks: dict[str, Any], error: str | None = None) -> dict[str, Any]:
    run: dict[str, Any] = {"state": state, "run_details": {"task_details": list(tasks)}}
    return {**run, "error": {"code": 9, "message": error}} if error else run


@contextmanager
def serving(server: Server, listener: socket.socket | None = None) -> Iterator[Server]:
    """Serve at `server.url`, or on a socket that listens."""

    class Handler(BaseHTTPRequestHandler):
        def _handle(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            server.authorizations.add(self.headers.get("Authorization", ""))
            path = urlsplit(self.path).path
            allowed = server.token is None or path.endswith("healthz")
            if allowed or self.headers.get("Authorization") == f"Bearer {server.token}":
                status, answer = server.answer(self.command, path, json.loads(body) if body else None)
            else:
                status, answer = 401, {"error_message": "Unauthenticated: no token"}
            content = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = _handle

        def log_message(self, *arguments: Any) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler, bind_and_activate=listener is None)
    if listener is not None:
        http.socket.close()
        http.socket = listener
    server.url = f"http://127.0.0.1:{http.socket.getsockname()[1]}"
    threading.Thread(target=http.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
