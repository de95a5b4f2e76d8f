"""`fairlead run`: the whole road, on this machine or on a cluster."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from fairlead.cli import project as options
from fairlead.cli.answers import said
from fairlead.cli.continuing import under_parent
from fairlead.cli.output import JsonOption, cell, heading, print_json, print_pairs, shown_metrics
from fairlead.errors import ConfigError, NotFound
from fairlead.names import ModelRef

if TYPE_CHECKING:
    from fairlead.cluster.local import LocalRun
    from fairlead.project import ProjectConfig


def run(
    config: options.ConfigOption = None,
    data: options.DataOption = None,
    text: options.TextOption = None,
    label: options.LabelOption = None,
    task: options.TaskOption = None,
    project: options.ProjectOption = None,
    test: options.TestOption = None,
    continue_from: options.ContinueOption = None,
    overrides: options.SetOption = None,
    sample: Annotated[bool, typer.Option("--sample", help="Use sample data: which library is a docstring of?")] = False,
    until: Annotated[str | None, typer.Option("--until", help="Stop after this stage and print what it found.")] = None,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Run every stage again.")] = False,
    on: Annotated[Literal["local", "cluster"], typer.Option("--on", help="Where to run.")] = "local",
    host: Annotated[str | None, typer.Option("--host", help="Address of Kubeflow Pipelines, for --on cluster.")] = None,
    namespace: Annotated[str | None, typer.Option("--namespace", help="Namespace of the run on a cluster.")] = None,
    predict: Annotated[
        str | None, typer.Option("--predict", help="Then serve the version and ask it about this text.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Take labelled text to a registered model version; unchanged stages come from the cache."""
    _check_options(on, until, no_cache, sample, predict)
    if sample:
        values = _sample_values(config, data, project, overrides)
    else:
        values = options.project_values(config, data, text, label, project, test, overrides, task)
    values = under_parent(values, continue_from)
    settings = options.resolve(values)
    if on == "cluster":
        from fairlead.cli.remote import run_on_cluster

        run_on_cluster(settings, options.cluster_settings(values), host, namespace, as_json)
        return
    finished = _run_here(settings, until, not no_cache, as_json)
    summary = _summary(settings, finished)
    if predict is not None:
        summary["prediction"] = _ask(summary["version"], predict)
    print_json(summary) if as_json else _print_summary(summary, until)


def _check_options(on: str, until: str | None, no_cache: bool, sample: bool, predict: str | None) -> None:
    """Raise ConfigError for options that contradict each other, before anything is read."""
    from fairlead.cluster.arguments import check_stage

    if until is not None:
        check_stage(until)
    here = {"--until": until is not None, "--no-cache": no_cache, "--sample": sample, "--predict": predict is not None}
    for option, given in here.items():
        if given and on == "cluster":
            raise ConfigError(f"{option}: it works on this machine only; leave it or --on cluster away")
    if predict is not None and until not in (None, "register", "deploy"):
        raise ConfigError("--predict: it needs a registered version; leave --until away")


def _sample_values(
    config: Path | None, data: str | None, project: str | None, overrides: list[str] | None
) -> dict[str, Any]:
    if config is not None or data is not None:
        raise ConfigError("--sample: it brings its own data and settings; leave --config and --data away")
    from fairlead import places
    from fairlead.cli.display import Display
    from fairlead.cli.relay import relayed
    from fairlead.cli.sample import sample_values
    from fairlead.config import apply_overrides
    from fairlead.data.sample import write_sample

    # On stderr: this bar is gone when the run's own lines begin.
    with Display([], sys.stderr) as display, relayed(display.on_event):
        source = write_sample(places.home() / "sample")
    values = sample_values(str(source))
    if project is not None:
        values["project"] = project
    return apply_overrides(values, overrides or [])


def _run_here(settings: "ProjectConfig", until: str | None, cache: bool, as_json: bool) -> "LocalRun":
    from fairlead.cli.display import Display
    from fairlead.cli.relay import relayed
    from fairlead.cluster.arguments import stages
    from fairlead.cluster.local import run_local

    stream = sys.stderr if as_json else sys.stdout
    with Display(stages(settings, until), stream) as display, relayed(display.on_event):
        return run_local(settings, until=until, cache=cache, on_event=display.on_event)


def _summary(settings: "ProjectConfig", finished: "LocalRun") -> dict[str, Any]:
    """What came of a run, for programs; for people `_print_summary` says it."""
    from fairlead.formats.evaluation import HTML, read_report

    stages = {
        name: {"cached": s.cached, "seconds": s.seconds, "found": s.rows, "output": str(s.folder)}
        for name, s in finished.stages.items()
    }
    summary: dict[str, Any] = {"project": settings.project, "stages": stages, "log": str(finished.log)}
    if "evaluate" in finished.stages:
        folder = finished.stages["evaluate"].folder
        summary["report"] = str(folder / HTML)
        summary["metrics"] = read_report(folder).evaluations[0].metrics
    if "register" in finished.stages:
        summary["version"] = _version(finished.stages["register"].folder)
    if "deploy" in finished.stages:
        summary["deployed"] = finished.stages["deploy"].rows
    return summary


def _version(folder: Path) -> dict[str, Any]:
    """The version as the registry knows it now: aliases move after a cached stage wrote them down."""
    import json

    from fairlead.cli.models import version_json
    from fairlead.registry import open_registry

    written = json.loads((folder / "version.json").read_text("utf-8"))
    ref = ModelRef.parse(written["name"])
    with open_registry() as registry:
        try:
            return version_json(registry.resolve(ref))
        except NotFound as error:
            raise NotFound(
                f"{ref}: it was registered, but the registry has lost it; run again with --no-cache"
            ) from error


def _ask(version: dict[str, Any], text: str) -> dict[str, Any]:
    from rich.console import Console

    from fairlead.cli.served import ask, served

    ref, console = ModelRef.parse(version["name"]), Console(stderr=True)
    if not console.is_terminal:
        # The spinner is drawn in terminals only, and a server takes seconds to start.
        print(f"serving {version['name']}", file=sys.stderr, flush=True)
    with console.status(f"serving {version['name']}"), served(str(ref)) as url:
        return ask(url, ref.project, [text])[0]


def _print_summary(summary: dict[str, Any], until: str | None) -> None:
    if until not in (None, "deploy"):
        stage = summary["stages"][until]
        heading(f"{until} found")
        found = {name.replace("_", " "): cell(value) for name, value in stage["found"].items()}
        print_pairs(found | {"output": stage["output"]})
        return
    version = summary["version"]
    metrics = shown_metrics(summary["metrics"])
    heading(version["name"])
    print_pairs(
        {"aliases": version.get("aliases"), **metrics, "digest": version["digest"], "report": summary["report"]}
    )
    if "deployed" in summary:
        heading("deployed")
        print_pairs({name: cell(value) for name, value in summary["deployed"].items()})
    if "prediction" in summary:
        answer = summary["prediction"]
        heading("prediction")
        print_pairs({"text": answer["text"], **said(answer), "version": answer["version"], "digest": answer["digest"]})
    else:
        heading("next")
        print_pairs(_hints(summary))


def _hints(summary: dict[str, Any]) -> dict[str, str]:
    project = summary["project"]
    if "nats_per_character" in summary["metrics"]:
        return {"let it write": f'fairlead predict {project} --prompt "a beginning of yours"'}
    return {"serve it": f"fairlead serve {project}", "ask it": f'fairlead predict {project} "a text of yours"'}
