"""A real TCP proxy that cuts connections, as a flaky network does."""

import contextlib
import re
import socket
import threading
import time
from types import TracebackType


class CuttingProxy:
    """Passes bytes to `target` (`http://host:port`); cuts the first `cuts` connections that answer more than `after`.

    With `cut_requests`, bytes on the way to the target count instead. `ranges` holds the Range
    header of every GET that passed, "" for a whole one.
    """

    def __init__(self, target: str, after: int, cuts: int, cut_requests: bool = False) -> None:
        host, _, port = target.removeprefix("http://").partition(":")
        self._target = (host, int(port))
        self._after, self._cuts_left, self._cut_requests = after, cuts, cut_requests
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.num_cut = self.num_puts = 0
        self.ranges: list[str] = []
        # After a cut, take no connection any more.
        self.refuse_after_cut = False
        # Takes nothing for this long, once, after `after` bytes of a request.
        self.stall_seconds = 0.0

    def __enter__(self) -> "CuttingProxy":
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                if self.refuse_after_cut and self.num_cut:
                    client.close()
                    continue
                server = socket.create_connection(self._target)
                for source, sink, is_request in ((client, server, True), (server, client, False)):
                    threading.Thread(target=self._pass, args=(source, sink, is_request), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket, is_request: bool) -> None:
        passed = 0
        with contextlib.suppress(OSError):
            while content := source.recv(1 << 16):
                if is_request:
                    self._note(content)
                if is_request == self._cut_requests and self._cuts(passed + len(content)):
                    sink.sendall(content[: max(0, self._after - passed)])
                    break
                sink.sendall(content)
                passed += len(content)
                if is_request and passed > self._after and self.stall_seconds:
                    seconds, self.stall_seconds = self.stall_seconds, 0.0
                    time.sleep(seconds)
        for end in (source, sink):
            # Shutting down wakes the other thread from recv; only closing refuses what still comes.
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _note(self, content: bytes) -> None:
        self.num_puts += content.startswith(b"PUT ")
        if content.startswith(b"GET "):
            found = re.search(rb"(?i)\r\nrange: ([^\r]*)\r\n", content)
            self.ranges.append(found[1].decode() if found else "")

    def _cuts(self, passed: int) -> bool:
        with self._lock:
            if passed <= self._after or not self._cuts_left:
                return False
            self._cuts_left -= 1
            self.num_cut += 1
            return True
