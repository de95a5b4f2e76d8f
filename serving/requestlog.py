"""The server's log: one line a request, and every other line in the same form; JSON, or plain text.

Lines of requests are written by a thread of their own: a reader of the log that stops reading holds up no request.
"""

import json
import logging
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, TextIO

import orjson

from serving.observer import Observer

if TYPE_CHECKING:
    from serving.exchange import Exchange

FormatName = Literal["json", "plain"]
# 300 bytes to 1 KB a line: some MB while nobody reads.
MAX_WAITING_LINES = 10_000
# Long enough that one write takes many lines, short enough for whoever watches.
SECONDS_TO_GATHER = 0.05


class RequestLog(Observer):
    """Writes one line a request: which version answered what, how and how fast, and the texts only when asked to."""

    def __init__(
        self, form: FormatName = "json", texts: bool = False, dropped: Callable[[], None] | None = None
    ) -> None:
        """`dropped` is called for each line for which there is no room."""
        self._form, self._texts = form, texts
        self._writer = LineWriter(sys.stderr, dropped)

    def ended(self, exchange: "Exchange") -> None:
        """Say how the request ended."""
        fields: dict[str, Any] = {
            "level": "info" if exchange.status < 500 else "error",
            "event": "request",
            "protocol": exchange.door,
            "status": exchange.status,
            "seconds": round(exchange.ended - exchange.started, 6),
        }
        if (served := exchange.served) is not None:
            manifest = served.manifest
            fields |= {
                "model": served.name,
                "version": manifest.name,
                "digest": manifest.digest,
                "variant": served.variant,
            }
        if (answered := exchange.answered) is not None:
            fields |= {"prediction_id": answered.stamp.prediction_id, "texts": len(answered.answers)}
            if self._texts:
                fields["text"] = answered.question.items
        if exchange.error:
            fields["error"] = exchange.error
        # It may be told of some requests together.
        ago = time.perf_counter() - exchange.ended
        self._writer.write(line_of(fields, self._form, time.time() - ago))

    def close(self) -> None:
        """Write what waits."""
        self._writer.close()


class LineWriter:
    """Writes lines to a stream, behind the caller's back."""

    def __init__(self, stream: TextIO, dropped: Callable[[], None] | None = None) -> None:
        self._stream, self._dropped = stream, dropped
        self._lines: deque[str] = deque()
        self._waiting, self._closing = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="request-log", daemon=True)
        self._thread.start()

    def write(self, line: str) -> None:
        """Write a line, or drop it."""
        if len(self._lines) >= MAX_WAITING_LINES:
            self._drop(1)
            return
        self._lines.append(line)
        if not self._waiting.is_set():
            self._waiting.set()

    def close(self, seconds: float = 2.0) -> None:
        """Write what waits, for so long at most."""
        self._closing.set()
        self._waiting.set()
        self._thread.join(seconds)

    def _run(self) -> None:
        while not self._closing.is_set():
            self._waiting.wait()
            self._closing.wait(SECONDS_TO_GATHER)
            # Before the lines are taken: one that comes now is taken now, or wakes this again.
            self._waiting.clear()
            self._write_all()
        self._write_all()

    def _write_all(self) -> None:
        lines = [self._lines.popleft() for _ in range(len(self._lines))]
        try:
            if lines:
                self._stream.write("\n".join(lines) + "\n")
                self._stream.flush()
        except (OSError, ValueError):
            # Whoever read the log is gone; that is no reason to stop answering.
            self._drop(len(lines))

    def _drop(self, number: int) -> None:
        for _ in range(number if self._dropped else 0):
            assert self._dropped is not None
            self._dropped()


def line_of(fields: Mapping[str, Any], form: FormatName, at: float) -> str:
    """One line of JSON, or of names and values, of Unix time `at`; a line feed in a value never ends it."""
    moment = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if form == "plain":
        return f"{moment} " + " ".join(f"{name}={_plain(value)}" for name, value in fields.items())
    try:
        return orjson.dumps({"time": moment, **fields}).decode()
    except TypeError:
        # Half a character, as JSON bodies may hold.
        return json.dumps({"time": moment, **fields}, default=str)


def _plain(value: object) -> str:
    text = str(value)
    return text if text.isascii() and text.isprintable() and " " not in text else json.dumps(value, default=str)


class JsonFormatter(logging.Formatter):
    """A log record as one JSON object on one line."""

    def format(self, record: logging.LogRecord) -> str:
        """Time, level, logger and message, and the traceback where there is one."""
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        fields = {
            "time": moment.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        return json.dumps(fields)


class PlainFormatter(logging.Formatter):
    """A log record for people. A message stays on its line, whatever a caller put into it; a traceback has several."""

    converter = time.gmtime

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:
        """The line."""
        record.message = record.message.replace("\r", "\\r").replace("\n", "\\n")
        return super().formatMessage(record)


def set_format(form: FormatName) -> None:
    """Give every handler of the root logger this form."""
    for handler in logging.getLogger().handlers:
        handler.setFormatter(JsonFormatter() if form == "json" else PlainFormatter())
