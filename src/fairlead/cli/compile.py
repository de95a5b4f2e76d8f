"""`fairlead compile`: the same pipeline, for Kubeflow Pipelines."""

from pathlib import Path
from typing import Annotated

import typer

from fairlead.cli import project as options
from fairlead.cli.continuing import under_parent


def compile_(
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write.")],
    kubernetes: Annotated[
        bool, typer.Option("--kubernetes", help="Write Pipeline and PipelineVersion manifests, not a KFP package.")
    ] = False,
    config: options.ConfigOption = None,
    data: options.DataOption = None,
    text: options.TextOption = None,
    label: options.LabelOption = None,
    task: options.TaskOption = None,
    project: options.ProjectOption = None,
    test: options.TestOption = None,
    overrides: options.SetOption = None,
) -> None:
    """Write the pipeline as a file for a cluster, the same bytes every time.

    Images, GPUs and memory are settings too: --set cluster.gpus=1 (fairlead config explain cluster).
    With a project, its settings become the defaults of the pipeline's parameters.
    """
    from fairlead.cluster.arguments import refuse_local

    values = under_parent(options.values_if_any(config, data, text, label, project, test, overrides, task))
    cluster = options.cluster_settings(values)
    settings = options.resolve(values) if values.keys() - {options.CLUSTER} else None
    if settings is not None:
        refuse_local(settings)
    # kfp costs a second to import: mistakes are answered before it.
    from fairlead.cluster.pipelines import compile_package

    compile_package(output, cluster, kubernetes_native=kubernetes, config=settings)
    print(f"wrote {output}")
