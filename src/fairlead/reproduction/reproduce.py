"""Reproduce a registered version: gather its links, run it again beside the user's things, compare."""

import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from fairlead import errors, places
from fairlead.cluster.processes import child, only_one
from fairlead.errors import FairleadError
from fairlead.formats.atomic import write_json
from fairlead.formats.model import TrainingRecord
from fairlead.names import CHECKPOINTS_ENV, FRESH_ENV, HOME_ENV, REGISTRY_ENV, STORE_ENV
from fairlead.registry import VersionRecord
from fairlead.reproduction.differences import Differences, differences, distance, known_settings
from fairlead.reproduction.links import Links, gather

# Half a point of a score: what another processor's rounding does to a trained model is mostly below.
TOLERANCE = 0.005
TAIL_LINES = 5
# Where the user keeps things, and what the user asks of his own runs.
OF_THE_USER = frozenset({STORE_ENV, REGISTRY_ENV, CHECKPOINTS_ENV, FRESH_ENV})

Verdict = Literal["same", "close", "different"]


@dataclass(frozen=True)
class Reproduction:
    """How a version came out when it was run again."""

    version: str
    verdict: Verdict
    """`same`: the weights have the recorded digest; `close`: they do not, and every metric is within the
    tolerance; `different`: one is not."""
    weights: list[str]
    """Digest as recorded, and here."""
    tokens: list[str]
    """Likewise."""
    differences: dict[str, Differences]
    """By kind and name: as recorded, and here."""
    validation: dict[str, list[float | None]]
    """Validation metrics by name: as recorded, and here."""
    test: dict[str, list[float | None]]
    """Test metrics by name: as recorded, and here."""
    distance: float
    """The largest difference of a metric."""
    tolerance: float
    """The largest one that is `close`."""
    parent: str | None
    """The version that it continues."""
    seconds: float
    """Wall time of running it again."""


def reproduce(version: VersionRecord, tolerance: float = TOLERANCE, keep: Path | None = None) -> Reproduction:
    """Run a version again and compare; with `keep`, leave what was made in that folder.

    Raises BrokenLink when what it came from is gone or changed, Conflict while another process
    reproduces it, and what the stages raise.
    """
    links = gather(version)
    started = time.monotonic()
    sections, unshared = known_settings(_recorded_sections(version))
    path = places.home() / "locks" / f"reproduce-{version.name}.lock"
    with only_one(path, f"reproduce {version.name}") as lock, _place(version.name, keep) as folder:
        outcome = _run(version, links, sections, folder, lock)
    here = TrainingRecord.parse(outcome["record"], where="outcome")
    return compared(version, here, outcome["test"], unshared, tolerance, time.monotonic() - started)


def _recorded_sections(version: VersionRecord) -> dict[str, Any]:
    sections = dict(version.manifest.training.config)
    if version.manifest.evaluation_config:
        sections["evaluation"] = version.manifest.evaluation_config
    return sections


@contextmanager
def _place(name: str, keep: Path | None) -> Iterator[Path]:
    """An empty folder, removed at the end unless it is to be kept."""
    if keep is not None:
        if keep.exists() and (not keep.is_dir() or any(keep.iterdir())):
            raise errors.ConfigError(f"--keep: {keep} is not an empty folder; name a new one")
        keep.mkdir(parents=True, exist_ok=True)
        yield keep.absolute()
        return
    parent = places.home() / "reproductions"
    parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run(
    version: VersionRecord, links: Links, sections: dict[str, dict[str, Any]], folder: Path, lock: int
) -> dict[str, Any]:
    """The outcome of the child process that runs the stages. Raises the error that it ended with."""
    request = {
        "project": version.project,
        "data": str(links.data),
        "base": links.base,
        "world_size": version.manifest.training.environment.world_size,
        "num_threads": version.manifest.training.environment.num_threads,
        "sections": sections,
        "folder": str(folder),
    }
    write_json(folder / "request.json", request)
    command = [sys.executable, "-m", "fairlead.reproduction.rerun", str(folder / "request.json")]
    log = folder / "log"
    with child(command, log, _environment(version, folder), lock) as process:
        process.wait()
    try:
        outcome: dict[str, Any] = json.loads((folder / "outcome.json").read_text("utf-8"))
    except (OSError, ValueError) as error:
        tail = " | ".join(log.read_text("utf-8", errors="replace").strip().splitlines()[-TAIL_LINES:])
        raise FairleadError(f"reproduce {version.name}: it ended without an outcome ({tail}); run it again") from error
    if outcome["error"]:
        kind = getattr(errors, outcome["kind"], FairleadError)
        raise kind(outcome["error"]) if issubclass(kind, FairleadError) else FairleadError(outcome["error"])
    return outcome


def _environment(version: VersionRecord, folder: Path) -> dict[str, str]:
    """The child's environment: a home of its own, with registry, store and checkpoints in it.

    The run has the name that it had: the checkpoints of then must not be found.
    """
    kept = {k: v for k, v in os.environ.items() if k not in OF_THE_USER}
    # A version that was trained without a GPU is run again without one.
    hardware = version.manifest.training.environment.hardware
    hidden = {"CUDA_VISIBLE_DEVICES": ""} if hardware.startswith("cpu:") else {}
    return {**kept, **hidden, HOME_ENV: str(folder / "home"), "PYTHONSAFEPATH": "1", "PYTHONUNBUFFERED": "1"}


def compared(
    version: VersionRecord,
    here: TrainingRecord,
    test: dict[str, float],
    unshared: Differences,
    tolerance: float,
    seconds: float,
) -> Reproduction:
    """How `here`, the record of running `version` again, and its test metrics stand to what is recorded.

    `unshared` are settings that only one side has.
    """
    recorded = version.manifest.training
    apart = max(distance(recorded.validation, here.validation), distance(version.metrics, test))
    same = recorded.weights_digest == here.weights_digest
    return Reproduction(
        version=version.name,
        verdict="same" if same else "close" if apart <= tolerance else "different",
        weights=[recorded.weights_digest, here.weights_digest],
        tokens=[recorded.tokens_digest, here.tokens_digest],
        differences=differences(recorded, here, unshared),
        validation=_pairs(recorded.validation, here.validation),
        test=_pairs(version.metrics, test),
        distance=apart,
        tolerance=tolerance,
        parent=recorded.parent_version,
        seconds=round(seconds, 1),
    )


def _pairs(recorded: dict[str, float], here: dict[str, float]) -> dict[str, list[float | None]]:
    return {name: [recorded.get(name), here.get(name)] for name in sorted(recorded.keys() | here.keys())}
