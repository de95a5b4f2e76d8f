"""The precision table: size, speed and accuracy of a model's variants, and which of them serves.

    python -m benchmarks.precision [--only NAME ...] [--home FOLDER] [--again] [--install-peers] [--json] [--set ...]

Each workload runs `fairlead run` as a user would, in a home of its own: a pretrained MiniLM (6 x 384), two epochs, a
tenth or a fifth of the rows for validation, since the rule shows nothing on the 2 % that the benchmark of quality
leaves. Texts that belong to none of its classes are those of the other workload. With `--home` the runs are kept, and
`--again` measures their versions again (`fairlead optimize --again`) without training. The peer is Optimum's dynamic
int8 of the same weights, in an environment of its own, which `--install-peers` makes once and keeps.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from benchmarks import precision_tables, tables
from benchmarks.precision_peer import python_of_optimum
from benchmarks.quality import DATASETS, PROJECTS, encoder
from benchmarks.serving_texts import cache_folder
from fairlead.formats.variants import OptimizationRecord, VariantRecord
from fairlead.names import CHAMPION


@dataclass(frozen=True)
class Workload:
    """A project file, its share of validation rows, and the workload whose texts are out of its scope."""

    project_file: str
    validation_fraction: float
    out_of_scope: str


WORKLOADS = {
    "banking77": Workload("banking77_pretrained.yaml", 0.1, "sms-spam"),
    "sms-spam": Workload("sms_spam_pretrained.yaml", 0.2, "banking77"),
}
# A table is about variants, not about the last point of accuracy. Ten rounds give a p99 something to stand on.
SETTINGS = {"training.epochs": 2, "training.precision": "auto", "optimization.rounds": 10, "optimization.keep": "all"}
OUT_OF_SCOPE = "out_of_scope"
OUT_OF_SCOPE_ROWS = 2000


def main() -> None:
    """Run the workloads and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=list(WORKLOADS), choices=list(WORKLOADS), help="workloads to run")
    parser.add_argument("--home", type=Path, help="keep the runs here, so that they resume and are cached")
    parser.add_argument("--again", action="store_true", help="measure the versions in --home again, without training")
    parser.add_argument("--install-peers", action="store_true", help="make the environment of Optimum, which is kept")
    parser.add_argument("--json", action="store_true", help="print the records as JSON and leave the page alone")
    parser.add_argument("--set", action="append", default=[], help="a setting of the projects", dest="settings")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        home = arguments.home or Path(temporary)
        found = {name: measure(name, home / name, arguments.settings, arguments.again) for name in arguments.only}
        python = python_of_optimum(cache_folder(), arguments.install_peers)
        beside = {name: peer(python, home / name, ref) for name, (ref, _) in found.items()} if python else {}
    records = {name: record for name, (_, record) in found.items()}
    if arguments.json:
        print(json.dumps({name: record.to_dict() for name, record in records.items()}, indent=2))
        return
    text = precision_tables.text(records, beside)
    print(text)
    if set(arguments.only) == set(WORKLOADS):
        tables.write("precision", "python -m benchmarks.precision", text)


def measure(name: str, home: Path, settings: list[str], again: bool = False) -> tuple[str, OptimizationRecord]:
    """The workload's version and its record, as `fairlead.json` has it; measured anew when it is to be `again`."""
    project_file = _project_file(name, home)
    if again:
        # The champion stays the version that was trained: what is measured again is only the challenger.
        champion = f"{yaml.safe_load(project_file.read_text('utf-8'))['project']}@{CHAMPION}"
        version = _fairlead(home, "optimize", champion, "--again", *_given(settings, "optimization."))["version"]
    else:
        version = _fairlead(home, "run", "--config", str(project_file), *_given(settings))["version"]["name"]
    record = _fairlead(home, "models", "show", version)["manifest"]["optimization"]
    return version, OptimizationRecord.parse(record, where=name)


def peer(python: Path, home: Path, ref: str) -> list[VariantRecord]:
    """torch-fp32, the variant that serves and Optimum's, in turns."""
    command = [sys.executable, "-m", "benchmarks.precision_peer", ref, str(python), str(home / f"optimum-{ref}")]
    environment = {**os.environ, "FAIRLEAD_HOME": str(home), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
    return [VariantRecord.parse(values, where="peer") for values in json.loads(done.stdout)]


def _fairlead(home: Path, *words: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "fairlead.cli.main", *words, "--json"]
    done = subprocess.run(command, env={**os.environ, "FAIRLEAD_HOME": str(home)}, stdout=subprocess.PIPE, check=True)
    return dict(json.loads(done.stdout))


def _project_file(name: str, home: Path) -> Path:
    workload = WORKLOADS[name]
    text = (PROJECTS / workload.project_file).read_text("utf-8")
    project = yaml.safe_load(text.replace("${DATASETS}", str(DATASETS)).replace("${ENCODER}", str(encoder())))
    home.mkdir(parents=True, exist_ok=True)
    other = _out_of_scope(home, project["data"], READERS[workload.out_of_scope]())
    project["data"] |= {"extra": {OUT_OF_SCOPE: str(other)}, "validation_fraction": workload.validation_fraction}
    project["optimization"] = {"out_of_scope": OUT_OF_SCOPE}
    path = home / "fairlead.yaml"
    path.write_text(yaml.safe_dump(project), encoding="utf-8")
    return path


def _given(settings: list[str], section: str = "") -> list[str]:
    """The settings as words of a command; only those of a section, and without its name."""
    values = [f"{key}={value}" for key, value in SETTINGS.items()] + settings
    return [word for v in values if v.startswith(section) for word in ("--set", v.removeprefix(section))]


def _out_of_scope(home: Path, data: dict[str, Any], texts: Iterator[str]) -> Path:
    """The texts in the form of the workload's own source; their label is none of its."""
    rows = sorted(set(texts))
    rows = rows[:: max(1, len(rows) // OUT_OF_SCOPE_ROWS)]
    path = home / (OUT_OF_SCOPE + (".tsv" if data.get("format") == "tsv" else ".csv"))
    with path.open("w", encoding="utf-8", newline="") as file:
        if path.suffix == ".tsv":
            file.writelines(f"{OUT_OF_SCOPE}\t{' '.join(text.split())}\n" for text in rows)
        else:
            csv.writer(file).writerows([[data["text"], data["label"]], *([text, OUT_OF_SCOPE] for text in rows)])
    return path


def _banking77() -> Iterator[str]:
    with (DATASETS / "banking77" / "test.csv").open(encoding="utf-8", newline="") as file:
        yield from (row["text"] for row in csv.DictReader(file))


def _sms_spam() -> Iterator[str]:
    for line in (DATASETS / "sms-spam" / "SMSSpamCollection").read_text("utf-8").splitlines():
        yield line.partition("\t")[2]


READERS = {"banking77": _banking77, "sms-spam": _sms_spam}


if __name__ == "__main__":
    main()
