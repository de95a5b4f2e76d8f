"""Follow a run on a Kubeflow Pipelines server to its end. Knows no SDK: the door gives it a `look`.

{"event": "stage", "stage": "train", "status": "started|finished|cached|failed", "seconds": 41.3}
"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from fairlead.cluster.arguments import STAGES
from fairlead.errors import ClusterError

TOKEN_PATH_ENV = "KF_PIPELINES_SA_TOKEN_PATH"  # noqa: S105
TOKEN_ENV = "KFP_EXISTING_TOKEN"  # noqa: S105
# 5 failed looks in a row, 2 s apart: a server that restarts is back by then.
MAX_FAILED_LOOKS = 5
STATUSES = {"RUNNING": "started", "SUCCEEDED": "finished", "SKIPPED": "cached", "FAILED": "failed"}
FINAL = frozenset({"SUCCEEDED", "FAILED", "CANCELED", "SKIPPED"})


@dataclass(frozen=True)
class TaskLook:
    """A task as the server sees it now."""

    name: str
    state: str
    seconds: float | None = None
    error: str | None = None


@dataclass(frozen=True)
class RunLook:
    """A run as the server sees it now."""

    state: str
    error: str | None = None
    tasks: list[TaskLook] = field(default_factory=list)


@dataclass(frozen=True)
class RemoteRun:
    """A finished run on a server."""

    run_id: str
    address: str
    """Where the dashboard shows it."""
    stages: dict[str, str]
    """Status by stage: finished, cached."""


def follow(
    run_id: str,
    address: str,
    look: Callable[[], RunLook],
    on_event: Callable[[dict[str, Any]], None],
    poll_seconds: float,
) -> RemoteRun:
    """Look at a run until it has ended. Raises ClusterError with the reason when it did not succeed."""
    told: dict[str, str] = {}
    failed_looks = 0
    while True:
        try:
            run = look()
            failed_looks = 0
        except ClusterError:
            failed_looks += 1
            if failed_looks >= MAX_FAILED_LOOKS:
                raise
        else:
            _tell(run, told, on_event)
            if run.state in FINAL:
                break
        time.sleep(poll_seconds)
    if run.state != "SUCCEEDED":
        raise ClusterError(_reason(run, address))
    return RemoteRun(run_id, address, told)


def _tell(run: RunLook, told: dict[str, str], on_event: Callable[[dict[str, Any]], None]) -> None:
    for task in run.tasks:
        status = STATUSES.get(task.state)
        # The server also lists drivers and the pods of each step.
        if task.name in STAGES and status and told.get(task.name) != status:
            told[task.name] = status
            on_event({"event": "stage", "stage": task.name, "status": status, "seconds": task.seconds})


def _reason(run: RunLook, address: str) -> str:
    failed = [task for task in run.tasks if task.state == "FAILED"]
    # The stage itself before the drivers and groups that failed because of it.
    failed.sort(key=lambda task: (task.name not in STAGES, task.error is None))
    where = failed[0].name if failed else "run"
    message = next((task.error for task in failed if task.error), run.error) or f"the run ended as {run.state}"
    return f"{where}: {' '.join(message.split())}; see the step's log at {address}"


def refusal(where: str, status: int | None, body: str | bytes | None, reason: str | None) -> str:
    """The sentence for an answer of the server that is an error."""
    try:
        answer = json.loads(body or "")
        said = answer.get("error_message") or answer.get("message") or answer.get("error")
    except (ValueError, AttributeError):
        said = None
    message = " ".join(str(said or reason).split())[:300]
    if status in (401, 403):
        advice = f"check the token ({TOKEN_PATH_ENV} or {TOKEN_ENV}) and its rights in the namespace"
    else:
        advice = "check the address and the server's log"
    return f"{where}: it answered {status} ({message}); {advice}"
