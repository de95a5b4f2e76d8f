"""Tells the stages of a local run apart, from the log records of `kfp.local`."""

import json
import logging
import re
import time
from pathlib import Path

from fairlead.events import emit

STARTED = re.compile(r"Executing task \W*\w*'([^']+)'")
CACHED = re.compile(r"Task (\S+) cache hit \(key=(\w+)\)")
ENDED = re.compile(r"Task .*?'([^']+)'\S* (?:finished with status \S*FAILURE|(outputs:|has no outputs))")
OUTPUT = re.compile(r"^ +(\w+): \w+\( name=.*\n +uri='(.*)',$", re.MULTILINE)


class StageLog:
    """Emits a stage event for each record of kfp.local that says what became of a task."""

    def __init__(self, cache_root: Path) -> None:
        """`cache_root` is where kfp.local lists the outputs of cached tasks."""
        self._cache_root = cache_root
        self._started = time.monotonic()

    def read(self, record: logging.LogRecord) -> bool:
        """Look at one record, and let it pass."""
        message = record.getMessage()
        if started := STARTED.match(message):
            self._started = time.monotonic()
            emit("stage", started[1], status="started")
        elif cached := CACHED.match(message):
            emit("stage", cached[1], status="cached", seconds=0.0, outputs=self._cached_outputs(cached[2]))
        elif ended := ENDED.match(message):
            self._end(ended[1], ended[2] is not None, message)
        return True

    def _end(self, stage: str, success: bool, message: str) -> None:
        seconds = round(time.monotonic() - self._started, 3)
        if not success:
            emit("stage", stage, status="failed", seconds=seconds)
            return
        outputs = dict(OUTPUT.findall(message))
        for path in map(Path, outputs.values()):
            # Metrics live in metadata and have no file, which the cache would take for a lost artifact.
            if not path.exists():
                path.touch()
        emit("stage", stage, status="finished", seconds=seconds, outputs=outputs)

    def _cached_outputs(self, key: str) -> dict[str, str]:
        entry = json.loads(next(self._cache_root.glob(f"{key}*.json")).read_text("utf-8"))
        return {name: value["uri"] for name, value in entry.items() if isinstance(value, dict) and "uri" in value}
