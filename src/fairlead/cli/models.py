"""`fairlead models`: model versions and their aliases."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fairlead.cli.output import JsonOption, heading, print_json, print_pairs, print_table, shown_metrics, when

if TYPE_CHECKING:
    from fairlead.registry import ModelRecord, VersionRecord

app = typer.Typer(help="Model versions: list, show, compare, and move their aliases.", no_args_is_help=True)

RefArgument = Annotated[str, typer.Argument(help="project, project:3 or project@champion.")]
NO_VERSION = "no model version yet; make one with fairlead run"


@app.command("list")
def list_(
    project: Annotated[str | None, typer.Argument(help="Show this project's versions. Default: all projects.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List the projects, or the versions of one project."""
    from fairlead.registry import open_registry

    with open_registry() as registry:
        if project is None:
            models = registry.list_models()
            rows = [asdict(m) for m in models] if as_json else [_model_row(m) for m in models]
        else:
            versions = list(registry.list_versions(project))
            rows = [version_json(v) for v in versions] if as_json else [_version_row(v) for v in versions]
    print_json(rows) if as_json else print_table(rows, NO_VERSION)


@app.command()
def show(ref: RefArgument, as_json: JsonOption = False) -> None:
    """Show one version: what it is, what it came from and how it scored."""
    from fairlead.names import ModelRef
    from fairlead.registry import open_registry

    with open_registry() as registry:
        version = registry.resolve(ModelRef.parse(ref))
    if as_json:
        print_json(version_json(version) | {"manifest": version.manifest.to_dict()})
        return
    print_pairs(_facts(version))
    heading("evaluations")
    print_table([_evaluation_row(e) for e in version.manifest.evaluations], "none")
    if version.manifest.optimization:
        from fairlead.cli.optimize import print_optimization

        print_optimization(version.manifest.optimization)


@app.command()
def compare(
    a: Annotated[str, typer.Argument(help="One version: project:3.")],
    b: Annotated[str, typer.Argument(help="The other.")],
    as_json: JsonOption = False,
) -> None:
    """Show what differs between two versions: data, config, code, environment and metrics."""
    from fairlead.cli.compare import compare_versions, print_comparison
    from fairlead.names import ModelRef
    from fairlead.registry import open_registry

    with open_registry() as registry:
        comparison = compare_versions(
            registry, registry.resolve(ModelRef.parse(a)), registry.resolve(ModelRef.parse(b))
        )
    print_json(comparison) if as_json else print_comparison(comparison)


@app.command()
def alias(
    ref: RefArgument,
    name: Annotated[str, typer.Argument(help="champion, challenger or a name of your own.", metavar="ALIAS")],
    delete: Annotated[bool, typer.Option("--delete", help="Remove the alias from the project.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Point an alias at a version, or remove it."""
    from fairlead.names import ModelRef, check_alias
    from fairlead.registry import open_registry

    parsed = ModelRef.parse(ref)
    check_alias(name)
    with open_registry() as registry:
        if delete:
            registry.delete_alias(parsed.project, name)
            answer = {"project": parsed.project, "alias": name, "version": None}
        else:
            version = registry.resolve(parsed)
            registry.set_alias(version.project, name, version.number)
            answer = {"project": version.project, "alias": name, "version": version.name}
    if as_json:
        print_json(answer)
    else:
        print(f"{answer['project']}@{name} " + (f"is now {answer['version']}" if answer["version"] else "is removed"))


@app.command()
def fetch(
    address: Annotated[
        str, typer.Argument(help="Where the version lies: s3://bucket/models/project/v0001/, a folder.")
    ],
    folder: Annotated[str, typer.Argument(help="Where to put it.")],
    as_json: JsonOption = False,
) -> None:
    """Download a version from a store, every file verified; KServe's pods begin with this."""
    import sys
    from pathlib import Path

    from fairlead.cli.display import Display
    from fairlead.cli.relay import relayed
    from fairlead.registry.fetching import fetch_from

    with Display([], sys.stderr) as display, relayed(display.on_event):
        manifest = fetch_from(address, Path(folder))
    answer = {"version": manifest.name, "digest": manifest.digest, "files": len(manifest.files), "folder": folder}
    print_json(answer) if as_json else print_pairs(answer)


def version_json(version: "VersionRecord") -> dict[str, Any]:
    """A version for programs, without its manifest."""
    return {name: value for name, value in vars(version).items() if name != "manifest"}


def _model_row(model: "ModelRecord") -> dict[str, Any]:
    aliases = [f"{alias}=v{number}" for alias, number in sorted(model.aliases.items())]
    return {
        "project": model.project,
        "versions": model.num_versions,
        "latest": f"v{model.latest}",
        "aliases": aliases,
        "updated": when(model.updated),
    }


def _version_row(version: "VersionRecord") -> dict[str, Any]:
    from fairlead.formats.digests import short

    return {
        "version": version.name,
        "aliases": sorted(version.aliases),
        **shown_metrics(version.metrics),
        "digest": short(version.digest),
        "created": when(version.created),
    }


def _facts(version: "VersionRecord") -> dict[str, Any]:
    training = version.manifest.training
    labels = version.manifest.labels
    shown = ", ".join(labels[:8]) + (", ..." if len(labels) > 8 else "")
    return {
        "version": version.name,
        "aliases": sorted(version.aliases),
        "created": f"{when(version.created)} UTC",
        "digest": version.digest,
        "weights": version.weights_digest,
        "data": version.data_digest,
        "run": version.run_id,
        "base": training.parent_version or training.parent or "scratch",
        **_parent_facts(version),
        "task": training.task,
        **({"labels": f"{len(labels)}: {shown}"} if labels else {}),
        "code": f"{training.code.package}, commit {(training.code.commit or 'unknown')[:12]}"
        + (", with local changes" if training.code.diff_digest else ""),
        "trained on": f"{training.environment.hardware}, {training.environment.world_size} process(es), "
        f"torch {training.environment.torch}",
        "steps": f"{training.steps:,} in {training.seconds:.1f} s, best at {training.best_step:,}",
        "store": version.prefix,
    }


def _parent_facts(version: "VersionRecord") -> dict[str, Any]:
    """What a version that continues another took from it, and how far it is from it on the parent's test rows."""
    asked = version.manifest.training.config.get("incremental")
    if not asked:
        return {}
    checks = [check for check in version.manifest.checks if check.get("kind") == "parent"]
    judged = [f"{c['metric']} {c['value']:.4f}, the parent's {c['parent_value']:.4f}" for c in checks]
    return {"continues": ", ".join([asked["parent"], f"replay {asked['replay']:g}", *judged])}


def _evaluation_row(evaluation: dict[str, Any]) -> dict[str, Any]:
    metrics = evaluation.get("metrics", {})
    rows = {"data set": evaluation.get("dataset"), "rows": evaluation.get("num_rows")}
    return rows | shown_metrics(metrics, ("accuracy", "macro_f1", "weighted_f1", "mcc", "calibration_error"))
