"""Run a pipeline on this machine: a child process runs `kfp.local`, this one follows its events.

The child (fairlead.cluster.pipelines) is a process of its own because kfp.local takes over the root
logger, `print` and the environment. Everything that it and the stages print goes to one log file.

    {"event": "stage", "stage": "train", "status": "started"}
    {"event": "stage", "stage": "train", "status": "finished|cached", "seconds": 41.3, "outputs": {"output": path}}
    {"event": "stage", "stage": "train", "status": "failed", "seconds": 3.1}
"""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import Popen
from typing import Any

from fairlead import errors, places
from fairlead.cluster.arguments import input_digests, pinned, pipeline_arguments, stages
from fairlead.cluster.processes import child, only_one
from fairlead.cluster.pruning import CACHE, LOCKS, LOGS, PIPELINE, note_use
from fairlead.errors import FairleadError, GateFailed
from fairlead.events import parse
from fairlead.formats.atomic import write_bytes
from fairlead.formats.digests import of_json, short
from fairlead.names import EVENTS_ENV, FRESH_ENV
from fairlead.project import ProjectConfig
from fairlead.provenance import code, packages_digest

Event = dict[str, Any]
OnEvent = Callable[[Event], None]

TRAINING = "pipelines.training:training"
SECONDS_BETWEEN_LOOKS = 0.05
RESULT = "result.json"


@dataclass(frozen=True)
class StageRun:
    """What became of one stage."""

    stage: str
    cached: bool
    seconds: float
    outputs: dict[str, Path]
    rows: dict[str, Any] = field(default_factory=dict)
    """What the stage found: the rows of its `result` event, also when it was cached."""

    @property
    def folder(self) -> Path:
        """The stage's main output."""
        return self.outputs["output"]


@dataclass
class LocalRun:
    """A finished local run."""

    log: Path
    stages: dict[str, StageRun] = field(default_factory=dict)


@dataclass(frozen=True)
class LocalPipeline:
    """Which pipeline to run, up to which stage, and where."""

    pipeline: str
    """`module:name` of a KFP pipeline."""
    arguments: dict[str, Any]
    until: str | None
    pipeline_root: Path
    cache_root: Path
    fresh: bool = False
    """Whether training, too, starts from its first step, and not from what an earlier run left."""


def run_local(
    config: ProjectConfig, until: str | None = None, cache: bool = True, on_event: OnEvent = lambda event: None
) -> LocalRun:
    """Run the training pipeline up to `until`, and give each stage's output.

    With `cache`, stages whose code, settings and inputs are unchanged are not run again; without,
    everything this project has cached is forgotten first and training starts from its first step.
    Raises the error that a stage ended with, and Conflict when a run of this project is going on in
    the same home.
    """
    until, config = stages(config, until)[-1], pinned(config)
    with only_one(places.home() / LOCKS / f"{config.project}.lock", f"run of {config.project}") as lock:
        job = LocalPipeline(
            pipeline=TRAINING,
            arguments=pipeline_arguments(config, *input_digests(config)),
            until=until,
            pipeline_root=places.home() / PIPELINE,
            cache_root=cache_root(config.project),
            fresh=not cache,
        )
        if not cache:
            forget(job.cache_root)
        try:
            return run_pipeline(job, lock, on_event)
        except GateFailed:
            # The report holds the champion of its day; the next run must meet the champion of that day.
            forget(job.cache_root, stage="evaluate")
            raise


def cache_root(project: str) -> Path:
    """Where a project's cached results are listed: another place for other code, packages, store or registry.

    kfp.local's own key covers the component, its arguments and the paths of its inputs.
    """
    surroundings = of_json([code().source_digest, packages_digest(), places.store_url(), places.registry_url()])
    return places.home() / CACHE / f"{project}-{short(surroundings)}"


def forget(cache_root: Path, stage: str = "") -> None:
    """Forget the cached results listed in `cache_root`, or those of one stage; the results stay on disk."""
    for entry in cache_root.glob("*.json"):
        if not stage or f"/{stage}/output" in entry.read_text("utf-8"):
            entry.unlink(missing_ok=True)


def run_pipeline(job: LocalPipeline, lock: int, on_event: OnEvent = lambda event: None) -> LocalRun:
    """Run `job` in a child process and follow it to its end; `lock` is a descriptor that the child keeps."""
    log = _new_log()
    events = log.with_suffix(".events.jsonl")
    request = log.with_suffix(".request.json")
    run = _Following(LocalRun(log), on_event)
    command = [sys.executable, "-m", "fairlead.cluster.pipelines", str(request)]
    with _requested(job, request), child(command, log, _environment(events, job.fresh), lock) as p:
        run.follow(events, p)
        if p.returncode != 0:
            raise run.reason(p.returncode)
    return run.result


@contextmanager
def _requested(job: LocalPipeline, path: Path) -> Iterator[None]:
    """Within the block, `job` stands in a file for the child, which removes it; its addresses may hold credentials."""
    path.touch(mode=0o600)
    path.write_text(json.dumps(job.__dict__, default=str), "utf-8")
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def _new_log() -> Path:
    folder = places.home() / LOGS
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}-{time.monotonic_ns() % 10**6:06d}.log"


def _environment(events: Path, fresh: bool) -> dict[str, str]:
    """The child's environment.

    kfp.local writes the interpreter's path into a shell command, unquoted, and over every `python3`
    in the arguments; the child therefore names it `python3`, found first on PATH. The safe path
    keeps folders of the user called `components` or `pipelines` from being imported.
    """
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    told = {EVENTS_ENV: str(events), FRESH_ENV: "1"} if fresh else {EVENTS_ENV: str(events)}
    return {**os.environ, **told, "PATH": path, "PYTHONSAFEPATH": "1", "PYTHONUNBUFFERED": "1"}


class _Following:
    """Reads the events of a running child and keeps what the run's result and its failure need."""

    def __init__(self, result: LocalRun, on_event: OnEvent) -> None:
        self.result, self._on_event = result, on_event
        self._failed: Event | None = None
        self._failed_stage = "run"
        self._rows: dict[str, dict[str, Any]] = {}

    def follow(self, events: Path, process: Popen[bytes]) -> None:
        """Hand on each event as it comes, until the child ends."""
        events.touch()
        with events.open("rb") as file:
            rest = b""
            while True:
                ended = process.poll() is not None
                rest += file.read()
                *lines, rest = rest.split(b"\n")
                for event in filter(None, map(parse, lines)):
                    self._take(event)
                if ended:
                    return
                time.sleep(SECONDS_BETWEEN_LOOKS)

    def _take(self, event: Event) -> None:
        if event["event"] == "failed":
            self._failed = event
        elif event["event"] == "result":
            self._rows[event["stage"]] = event["rows"]
        elif event["event"] == "stage" and event["status"] in ("finished", "cached"):
            self._keep(event)
        elif event["event"] == "stage" and event["status"] == "failed":
            self._failed_stage = event["stage"]
        self._on_event(event)

    def _keep(self, event: Event) -> None:
        stage, cached = event["stage"], event["status"] == "cached"
        outputs = {name: Path(path) for name, path in event["outputs"].items()}
        if cached:
            if outputs:
                note_use(_task_folder(outputs))
            rows = _read_rows(outputs)
            self._on_event({"event": "result", "stage": stage, "rows": rows})
        else:
            rows = self._rows.get(stage, {})
            _write_rows(outputs, rows)
        self.result.stages[stage] = StageRun(stage, cached, event["seconds"], outputs, rows)

    def reason(self, returncode: int) -> FairleadError:
        """The error that the run ended with, as the stage said it or else as the log ends."""
        if self._failed is None:
            last = _last_line(self.result.log)
            return FairleadError(
                f"{self._failed_stage}: it ended without a reason (exit code {returncode}, last line {last!r}); "
                f"see {self.result.log}"
            )
        kind = getattr(errors, self._failed.get("kind", ""), None)
        if not (isinstance(kind, type) and issubclass(kind, FairleadError)):
            kind = errors.UserError if self._failed["exit_code"] == errors.UserError.exit_code else FairleadError
        message = self._failed["message"]
        if issubclass(kind, errors.IntegrityError | errors.NotFound) and any(
            stage.cached for stage in self.result.stages.values()
        ):
            message += "; if a cached result was changed, run again with --no-cache"
        return kind(message)


def _read_rows(outputs: dict[str, Path]) -> dict[str, Any]:
    try:
        rows = json.loads((_task_folder(outputs) / RESULT).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return rows if isinstance(rows, dict) else {}


def _write_rows(outputs: dict[str, Path], rows: dict[str, Any]) -> None:
    if outputs and rows:
        # Not sorted: people read the rows in the order in which the stage tells them.
        write_bytes(_task_folder(outputs) / RESULT, json.dumps(rows, default=str).encode())


def _task_folder(outputs: dict[str, Path]) -> Path:
    return next(iter(outputs.values()), Path(os.devnull)).parent


def _last_line(log: Path) -> str:
    lines = [line.strip() for line in log.read_text("utf-8", errors="replace").splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""
