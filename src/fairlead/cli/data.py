"""`fairlead data`: data versions."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fairlead.cli.output import JsonOption, heading, print_json, print_pairs, print_table, show, when

if TYPE_CHECKING:
    from fairlead.formats.dataset import DataManifest

app = typer.Typer(help="Data versions: list them, show one.", no_args_is_help=True)

# More classes than fit a screen are cut, unless --all is given.
MAX_CLASSES_SHOWN = 30


@app.command("list")
def list_(as_json: JsonOption = False) -> None:
    """List data versions, the latest first."""
    from fairlead.registry import open_registry

    with open_registry() as registry:
        versions = list(registry.list_data_versions())
    if as_json:
        print_json([{name: value for name, value in vars(v).items() if name != "manifest"} for v in versions])
        return
    rows = [
        {
            "data": v.digest.removeprefix("sha256:")[:12],
            "rows": v.num_rows,
            "classes": len(v.labels),
            "source": v.manifest["config"].get("source"),
            "created": when(v.created),
        }
        for v in versions
    ]
    print_table(rows, "no data version yet; make one with fairlead run --until ingest")


@app.command("show")
def show_(
    data: Annotated[str, typer.Argument(help="Digest, the beginning of it, or a data version's folder.")],
    everything: Annotated[bool, typer.Option("--all", help="Print every class, however many there are.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show one data version: what was found, its splits and its classes."""
    manifest = _manifest(data)
    if as_json:
        print_json(manifest.to_dict())
        return
    print_pairs({"data": manifest.digest, **{f"source of {n}": s for n, s in manifest.sources.items()}})
    heading("found")
    print_pairs(_findings(manifest))
    heading("splits")
    print_table(_split_rows(manifest), "none")
    heading("classes")
    rows = _class_rows(manifest)
    shown = rows if everything else rows[:MAX_CLASSES_SHOWN]
    print_table(shown, "none")
    if len(shown) < len(rows):
        show(f"... and {len(rows) - len(shown):,} more; see them with --all")


def _manifest(data: str) -> "DataManifest":
    from fairlead.formats.dataset import DataManifest, read_manifest
    from fairlead.registry import open_registry

    if Path(data).is_dir():
        return read_manifest(Path(data))
    with open_registry() as registry:
        record = registry.get_data_version(data)
    return DataManifest.parse(record.manifest, where=data)


def _findings(manifest: "DataManifest") -> dict[str, Any]:
    from fairlead.cli.compare import flatten

    return {name.replace("_", " "): value for name, value in flatten(manifest.findings).items()}


def _split_rows(manifest: "DataManifest") -> list[dict[str, Any]]:
    from fairlead.formats.digests import short

    return [
        {"split": name, "rows": s.num_rows, "classes": len(s.label_counts), "digest": short(s.digest)}
        for name, s in manifest.splits.items()
    ]


def _class_rows(manifest: "DataManifest") -> list[dict[str, Any]]:
    """Rows of each class in each split, the largest class first."""
    totals: Counter[str] = Counter()
    for split in manifest.splits.values():
        totals.update(split.label_counts)
    return [
        {"class": label, **{name: s.label_counts.get(label, 0) for name, s in manifest.splits.items()}}
        for label, _ in totals.most_common()
    ]
