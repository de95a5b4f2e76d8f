"""Our commands as the parts of the suite run them."""

from collections.abc import Callable
from typing import Any

from tests.on_cluster.platforms import Model
from tests.on_cluster.settings import Settings
from tests.on_cluster.space import Run

Command = Callable[..., Any]
"""Runs a command of ours with --json, and returns its exit code and what it printed, or its errors."""


def deploy(command: Command, model: Model, run: Run, number: int, settings: Settings, *options: str) -> tuple[int, Any]:
    """Deploy a version of the model without git, with what the run has of the whole cluster."""
    return command(
        *("deploy", f"{model.project}:{number}", "--direct", "--timeout", str(settings.seconds)),
        *("--storage-container", run.cluster_wide("fairlead-s3")),
        *("--priority-class", run.cluster_wide("fairlead-serving")),
        *options,
    )
