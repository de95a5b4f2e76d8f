"""Clients that never stop asking: what each was answered, and what it was not."""

import http.client
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

TEXTS = ["my card was charged twice", "where is the parcel", "the app crashes", "refund please"]
# Between two requests of a client: the machine is loaded, and servers still start.
PAUSE_SECONDS = 0.005


@dataclass
class Outcome:
    """What clients saw."""

    answered: dict[str, tuple[str, str, str]] = field(default_factory=dict)
    """Version, text and label by prediction id."""
    refused: int = 0
    """Answers that say to come again: 429 or 503."""
    unaccepted: int = 0
    """Connections refused, or closed before a byte of an answer came: the request was sent again elsewhere."""
    failed: list[str] = field(default_factory=list)
    """Anything else."""

    @property
    def versions(self) -> set[str]:
        """Those that answered."""
        return {version for version, _, _ in self.answered.values()}

    def contradictions(self) -> list[str]:
        """Texts that one version gave two labels: an answer that was another's, or another version's."""
        labels: dict[tuple[str, str], set[str]] = {}
        for version, text, label in self.answered.values():
            labels.setdefault((version, text), set()).add(label)
        return [f"{version} says {found} of {text!r}" for (version, text), found in labels.items() if len(found) > 1]


class Clients:
    """Threads that ask whichever server is the current one, over connections that they keep."""

    def __init__(self, address: Callable[[], str], path: str, number: int = 4) -> None:
        """`address` gives host and port of the current server."""
        self.outcome = Outcome()
        self._address, self._path = address, path
        self._ends, self._lock = threading.Event(), threading.Lock()
        self._threads = [threading.Thread(target=self._ask_on, args=(index,)) for index in range(number)]

    def __enter__(self) -> "Clients":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        for thread in self._threads:
            thread.join(120)

    def _ask_on(self, index: int) -> None:
        connection, at, turn = None, "", index
        while not self._ends.is_set():
            if connection is None or at != self._address():
                at = self._address()
                connection = http.client.HTTPConnection(at, timeout=60)
            if not self._ask(connection, TEXTS[turn % len(TEXTS)]):
                connection.close()
                connection = None
            turn += 1
            time.sleep(PAUSE_SECONDS)

    def _ask(self, connection: http.client.HTTPConnection, text: str) -> bool:
        """Ask once; whether the connection can be used again."""
        body = json.dumps({"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": [text]}]})
        try:
            connection.request("POST", self._path, body, {"Content-Type": "application/json"})
            response = connection.getresponse()
        except (ConnectionError, http.client.RemoteDisconnected):
            with self._lock:
                self.outcome.unaccepted += 1
            return False
        except (OSError, http.client.HTTPException) as error:
            self._fail(f"{type(error).__name__}: {error}")
            return False
        try:
            self._count(text, response.status, response.read())
        except (OSError, http.client.HTTPException, ValueError) as error:
            self._fail(f"cut in the answer: {type(error).__name__}: {error}")
            return False
        return not response.will_close

    def _count(self, text: str, status: int, content: bytes) -> None:
        if status in (429, 503):
            with self._lock:
                self.outcome.refused += 1
        elif status != 200:
            self._fail(f"{status}: {content[:200]!r}")
        else:
            body = json.loads(content)
            label = next(output["data"][0] for output in body["outputs"] if output["name"] == "label")
            with self._lock:
                self.outcome.answered[body["parameters"]["prediction_id"]] = (body["model_version"], text, label)

    def _fail(self, what: str) -> None:
        with self._lock:
            self.outcome.failed.append(what)
