"""The door to Kubeflow Pipelines: compile a pipeline, run it with `kfp.local`, submit it to a server."""

import importlib
import json
import logging
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml
from kfp import compiler, components, local
from kfp.dsl.base_component import BaseComponent

from fairlead.cluster.local import LocalRun, StageRun, run_local
from fairlead.cluster.processes import die_with_parent
from fairlead.events import emit

__all__ = ["LocalRun", "StageRun", "run_local"]


def local_package(pipeline: str, until: str | None = None) -> dict[str, Any]:
    """The compiled package of `module:name`, with only the tasks that `until` needs."""
    spec = _compiled(_load(pipeline))
    tasks = spec["root"]["dag"]["tasks"]
    wanted = {until or ""} if until else set(tasks)
    while more := {name for task in wanted for name in tasks[task].get("dependentTasks", [])} - wanted:
        wanted |= more
    spec["root"]["dag"]["tasks"] = {name: tasks[name] for name in tasks if name in wanted}
    return spec


def _load(pipeline: str) -> BaseComponent:
    module, _, name = pipeline.partition(":")
    return getattr(importlib.import_module(module), name)


def _compiled(pipeline: BaseComponent) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "package.yaml"
        compiler.Compiler().compile(pipeline, str(path))
        package: dict[str, Any] = next(yaml.safe_load_all(path.read_text("utf-8")))
    return package


def execute(request: dict[str, Any]) -> None:
    """In the child process: run the requested pipeline with kfp.local, and emit an event as each stage goes by.

    kfp raises RuntimeError when a task fails.
    """
    cache_root = Path(request["cache_root"])
    logging.basicConfig(level=logging.INFO, stream=sys.stdout)
    # kfp.local exchanges the root logger's handlers while a task runs, but leaves its filters.
    logging.getLogger().addFilter(StageLog(cache_root).read)
    run = components.load_component_from_text(yaml.safe_dump(local_package(request["pipeline"], request["until"])))
    local.init(
        local.SubprocessRunner(use_venv=False),
        pipeline_root=request["pipeline_root"],
        cache_root=str(cache_root),
        enable_caching=True,
    )
    run(**request["arguments"])


class StageLog:
    """Turns kfp.local's log records into stage events."""

    STARTED = re.compile(r"Executing task \W*\w*'([^']+)'")
    CACHED = re.compile(r"Task (\S+) cache hit \(key=(\w+)\)")
    ENDED = re.compile(r"Task .*?'([^']+)'\S* (?:finished with status \S*FAILURE|(outputs:|has no outputs))")
    OUTPUT = re.compile(r"^ +(\w+): \w+\( name=.*\n +uri='(.*)',$", re.MULTILINE)

    def __init__(self, cache_root: Path) -> None:
        self._cache_root = cache_root
        self._started = time.monotonic()

    def read(self, record: logging.LogRecord) -> bool:
        """Look at one record, and let it pass."""
        message = record.getMessage()
        if started := self.STARTED.match(message):
            self._started = time.monotonic()
            emit("stage", started[1], status="started")
        elif cached := self.CACHED.match(message):
            emit("stage", cached[1], status="cached", seconds=0.0, outputs=self._cached_outputs(cached[2]))
        elif ended := self.ENDED.match(message):
            self._end(ended[1], ended[2] is not None, message)
        return True

    def _end(self, stage: str, success: bool, message: str) -> None:
        seconds = round(time.monotonic() - self._started, 3)
        if not success:
            emit("stage", stage, status="failed", seconds=seconds)
            return
        outputs = dict(self.OUTPUT.findall(message))
        for path in map(Path, outputs.values()):
            # Metrics live in metadata and have no file, which the cache would take for a lost artifact.
            if not path.exists():
                path.touch()
        emit("stage", stage, status="finished", seconds=seconds, outputs=outputs)

    def _cached_outputs(self, key: str) -> dict[str, str]:
        entry = json.loads(next(self._cache_root.glob(f"{key}*.json")).read_text("utf-8"))
        return {name: value["uri"] for name, value in entry.items() if isinstance(value, dict) and "uri" in value}


def main(request: str) -> int:
    """Run the request in a file; 0 when every task succeeded."""
    die_with_parent()
    if (Path(sys.executable).parent / "python3").exists():
        sys.executable = "python3"
    try:
        execute(json.loads(Path(request).read_text("utf-8")))
    except RuntimeError as error:
        print(f"error: {error}", flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
