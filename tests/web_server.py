"""A real web server for tests: ranges, ETags, redirects, cut connections, and the few routes of a Hub."""

import hashlib
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from urllib.parse import parse_qs, unquote, urlsplit

COMMIT = "a" * 40


@dataclass
class Site:
    """What the server serves and what it was asked."""

    files: dict[str, bytes] = field(default_factory=dict)
    redirects: dict[str, str] = field(default_factory=dict)
    statuses: dict[str, list[int]] = field(default_factory=dict)
    """Answers to give first, by path."""
    cut_after: int | None = None
    """Bytes of a body after which the connection is cut, `cuts` times."""
    cuts: int = 0
    etags: bool = True
    ranges: bool = True
    password: str | None = None
    """`Authorization` that every request must carry."""
    asked: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    """Method, path with query, headers in lower case."""
    repos: dict[str, dict[str, bytes]] = field(default_factory=dict)
    """Files of a Hub's repositories: `models/org/name`, `datasets/org/name`."""
    large: int = 1000
    """Bytes from which the Hub keeps a file's SHA-256."""

    def etag(self, path: str) -> str:
        """The strong ETag of a file."""
        return '"' + hashlib.md5(self.files[path]).hexdigest() + '"'

    def body_requests(self) -> list[str]:
        """The Range headers of all GETs but the first look ("bytes=0-0")."""
        found = [headers.get("range", "") for method, _, headers in self.asked if method == "GET"]
        return [asked for asked in found if asked != "bytes=0-0"]


class WebServer:
    """Serves a Site over loopback while the block runs."""

    def __init__(self, site: Site) -> None:
        handler = type("Handler", (_Handler,), {"site": site})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> "WebServer":
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    site: Site
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        site, path = self.site, unquote(urlsplit(self.path).path)
        site.asked.append(("GET", self.path, {k.lower(): v for k, v in self.headers.items()}))
        if site.password and self.headers.get("Authorization") != site.password:
            self._answer(401, b"")
        elif site.statuses.get(path):
            self._answer(site.statuses[path].pop(0), b"")
        elif path in site.redirects:
            self._answer(302, b"", {"Location": site.redirects[path]})
        elif path.startswith("/api/"):
            self._api(path.removeprefix("/api/"))
        elif "/resolve/" in path:
            self._file(path, self._repo_file(path))
        else:
            self._file(path, site.files.get(path))

    def do_POST(self) -> None:
        path = unquote(urlsplit(self.path).path)
        asked = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        repo = self._repo(path.removeprefix("/api/"))
        wanted = asked["paths"]
        entries = [self._entry(name, content) for name, content in repo.items() if name in wanted]
        folders = [
            {"type": "directory", "path": p, "oid": "d"} for p in wanted if any(n.startswith(p + "/") for n in repo)
        ]
        self._answer(200, json.dumps(entries + folders).encode(), {"Content-Type": "application/json"})

    def _repo(self, path: str) -> dict[str, bytes]:
        return self.site.repos.get("/".join(path.split("/")[:3]), {})

    def _repo_file(self, path: str) -> bytes | None:
        before, _, after = path.strip("/").partition("/resolve/")
        name = before if before.startswith("datasets/") else f"models/{before}"
        return self.site.repos.get(name, {}).get(after.partition("/")[2])

    def _api(self, path: str) -> None:
        name, rest = "/".join(path.split("/")[:3]), path.split("/")[3:]
        repo = self.site.repos.get(name)
        if repo is None:
            return self._answer(401, b"{}", {"X-Error-Code": "RepoNotFound"})
        if rest and rest[0] == "revision" and rest[1] not in ("main", COMMIT):
            return self._answer(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
        if rest and rest[0] == "tree":
            below = "/".join(rest[2:])
            value: object = [self._entry(n, c) for n, c in repo.items() if not below or n.startswith(below + "/")]
        else:
            value = {"id": name.partition("/")[2], "sha": COMMIT, "siblings": [], "tags": []}
        return self._answer(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _entry(self, path: str, content: bytes) -> dict[str, object]:
        oid = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        entry: dict[str, object] = {"type": "file", "path": path, "size": len(content), "oid": oid}
        if len(content) >= self.site.large:
            entry["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}
        return entry

    def _file(self, path: str, content: bytes | None) -> None:
        if content is None:
            return self._answer(404, b"")
        etag = '"' + hashlib.md5(content).hexdigest() + '"'
        headers = {"ETag": etag} if self.site.etags else {}
        asked = self.headers.get("Range")
        condition = self.headers.get("If-Range")
        if not asked or not self.site.ranges or (condition and condition != etag):
            return self._answer(200, content, headers)
        first, _, last = asked.removeprefix("bytes=").partition("-")
        if int(first) >= len(content):
            return self._answer(416, b"", {"Content-Range": f"bytes */{len(content)}"})
        part = content[int(first) : int(last) + 1 if last else None]
        span = f"bytes {first}-{int(first) + len(part) - 1}/{len(content)}"
        return self._answer(206, part, {**headers, "Content-Range": span})

    def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        cut = self.site.cut_after
        if cut is not None and self.site.cuts and len(body) > cut:
            self.site.cuts -= 1
            self.wfile.write(body[:cut])
            self.close_connection = True
            return
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass
