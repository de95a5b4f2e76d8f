"""Hear the events of work that this process does itself, as those of a stage are heard: from a file."""

import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fairlead.events import parse
from fairlead.names import EVENTS_ENV

SECONDS_BETWEEN_LOOKS = 0.1


@contextmanager
def relayed(on_event: Callable[[dict[str, Any]], None]) -> Iterator[None]:
    """Within the block, events emitted by this process reach `on_event`, from another thread."""
    before = os.environ.get(EVENTS_ENV)
    with tempfile.TemporaryDirectory(prefix="fairlead-") as folder:
        path, over = Path(folder) / "events.jsonl", threading.Event()
        path.touch()
        os.environ[EVENTS_ENV] = str(path)
        reader = threading.Thread(target=_read, args=(path, over, on_event), daemon=True)
        reader.start()
        try:
            yield
        finally:
            if before is None:
                os.environ.pop(EVENTS_ENV, None)
            else:
                os.environ[EVENTS_ENV] = before
            over.set()
            reader.join()


def _read(path: Path, over: threading.Event, on_event: Callable[[dict[str, Any]], None]) -> None:
    with path.open("rb") as file:
        rest, last = b"", False
        while not last:
            last = over.wait(SECONDS_BETWEEN_LOOKS)
            *lines, rest = (rest + file.read()).split(b"\n")
            for event in filter(None, map(parse, lines)):
                on_event(event)
