"""`fairlead run --on cluster`: submit the pipeline, follow it here, end with its reason when it fails."""

import sys
from typing import TYPE_CHECKING

from fairlead.cli.output import print_json, print_pairs

if TYPE_CHECKING:
    from fairlead.cluster.config import CompileSettings
    from fairlead.project import ProjectConfig


def run_on_cluster(
    settings: "ProjectConfig", cluster: "CompileSettings", host: str | None, namespace: str | None, as_json: bool
) -> None:
    """Run a project on a Kubeflow Pipelines server and draw its stages as they go by."""
    from fairlead.cli.display import Display
    from fairlead.cli.relay import relayed
    from fairlead.cluster.arguments import refuse_local, stages

    refuse_local(settings)
    from fairlead.cluster.pipelines import submit

    with Display(stages(settings), sys.stderr if as_json else sys.stdout) as display, relayed(display.on_event):
        run = submit(settings, host, namespace, settings=cluster, on_event=display.on_event)
    answer = {"run": run.run_id, "address": run.address, "stages": run.stages}
    print_json(answer) if as_json else print_pairs({"run": run.run_id, "dashboard": run.address})
