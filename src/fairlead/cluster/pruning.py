"""What pipeline runs left in the home of this machine, and which of it may go.

    pipeline/<run>/<stage>/   a stage's outputs, unused since the age asked for: not made, and not taken from the cache
    cache/<project>-<id>/     its lines about outputs that are gone
    logs/<time>.*             logs and events of runs that ended before that age

Nothing goes while a run of any project is going on in this home, and never what a version names in its settings.
"""

import json
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from fairlead import places
from fairlead.cluster.processes import only_one

PIPELINE, CACHE, LOGS, LOCKS = "pipeline", "cache", "logs", "locks"


def prune(named: str, unused_for_seconds: float, dry_run: bool = False) -> dict[str, int]:
    """Remove what nothing used for so long; the number of files removed, by path in the home.

    `named` is text in which what versions refer to occurs. Raises Conflict while a run goes on in this home.
    """
    before = time.time() - unused_for_seconds
    with ExitStack() as held:
        for lock in sorted((places.home() / LOCKS).glob("*.lock")):
            held.enter_context(only_one(lock, f"run of {lock.stem}"))
        outputs = [folder for folder in _outputs() if _used(folder) < before and _name(folder) not in named]
        removed = {str(path.relative_to(places.home())): _remove(path, dry_run) for path in outputs}
        removed |= _prune_logs(before, dry_run)
        if not dry_run:
            _forget_what_is_gone()
    return removed


def note_use(folder: Path) -> None:
    """Note that the outputs in a stage's folder were used now."""
    folder.touch()


def _outputs() -> list[Path]:
    return sorted(path for path in (places.home() / PIPELINE).glob("*/*") if path.is_dir())


def _used(path: Path) -> float:
    return path.stat().st_mtime


def _name(folder: Path) -> str:
    # A run's folder is named by its microsecond: this much of an address tells it from all others.
    return f"{folder.parent.name}/{folder.name}"


def _remove(path: Path, dry_run: bool) -> int:
    files = [path] if path.is_file() else [below for below in path.rglob("*") if below.is_file()]
    if not dry_run:
        path.unlink() if path.is_file() else shutil.rmtree(path)
        if path.parent.parent.name == PIPELINE and not any(path.parent.iterdir()):
            path.parent.rmdir()
    return len(files)


def _prune_logs(before: float, dry_run: bool) -> dict[str, int]:
    removed: dict[str, int] = {}
    for path in sorted((places.home() / LOGS).glob("*")):
        if path.is_file() and _used(path) < before:
            name = f"{LOGS}/{path.name.partition('.')[0]}"
            removed[name] = removed.get(name, 0) + _remove(path, dry_run)
    return removed


def _forget_what_is_gone() -> None:
    """Remove the lines of the cache whose outputs are not there; kfp.local would run their stages again anyway."""
    for entry in (places.home() / CACHE).glob("*/*.json"):
        if not all(path.exists() for path in _paths(entry)):
            entry.unlink()
    for folder in (places.home() / CACHE).glob("*"):
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def _paths(entry: Path) -> Iterator[Path]:
    for output in json.loads(entry.read_text("utf-8")).values():
        if isinstance(output, dict) and "uri" in output:
            yield Path(output["uri"])
