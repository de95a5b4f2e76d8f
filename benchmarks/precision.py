"""The precision table: size, speed and accuracy of a model's variants, and which of them serves.

    python -m benchmarks.precision [--only NAME ...] [--home FOLDER] [--json] [--set training.epochs=1 ...]

Each workload runs `fairlead run` as a user would, in a home of its own, with a tenth of the training rows for
validation: the rule shows nothing on the 2 % that the benchmark of quality leaves. Kept runs are cache hits.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

from benchmarks import tables
from benchmarks.quality import DATASETS, PROJECTS, encoder

WORKLOADS = {"banking77": "banking77_pretrained.yaml", "sms-spam": "sms_spam_pretrained.yaml"}
# A table is about variants, not about the last point of accuracy.
SETTINGS = ("data.validation_fraction=0.1", "training.epochs=2", "training.precision=auto")
HEADER = ("workload", "Precision", "Size", "Speed", "Accuracy", "macro F1", "drop at most", "answers changed")


def main() -> None:
    """Run the workloads and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=list(WORKLOADS), choices=list(WORKLOADS), help="workloads to run")
    parser.add_argument("--home", type=Path, help="keep the runs here, so that they resume and are cached")
    parser.add_argument("--json", action="store_true", help="print the records as JSON and leave the page alone")
    parser.add_argument("--set", action="append", default=[], help="a setting of the projects", dest="settings")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        home = arguments.home or Path(temporary)
        found = {name: optimization(name, home / name, arguments.settings) for name in arguments.only}
    if arguments.json:
        print(json.dumps(found, indent=2))
        return
    table = tables.markdown(HEADER, [row for name, record in found.items() for row in rows(name, record)])
    chosen = [f"{name}: `{record['chosen']}`, {record['reason']}." for name, record in found.items()]
    text = "\n\n".join([table, *chosen])
    print(text)
    if set(arguments.only) == set(WORKLOADS):
        tables.write("precision", "python -m benchmarks.precision", text)


def optimization(name: str, home: Path, settings: list[str]) -> dict[str, Any]:
    """What the optimize stage of the workload's run found."""
    text = (PROJECTS / WORKLOADS[name]).read_text("utf-8")
    text = text.replace("${DATASETS}", str(DATASETS)).replace("${ENCODER}", str(encoder()))
    home.mkdir(parents=True, exist_ok=True)
    project_file = home / "fairlead.yaml"
    project_file.write_text(yaml.safe_dump(yaml.safe_load(text)), encoding="utf-8")
    given = [word for setting in (*SETTINGS, *settings) for word in ("--set", setting)]
    command = [sys.executable, "-m", "fairlead.cli.main", "run", "--config", str(project_file), *given, "--json"]
    environment = {**os.environ, "FAIRLEAD_HOME": str(home)}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
    folder = Path(json.loads(done.stdout)["stages"]["optimize"]["output"])
    return dict(json.loads((folder / "optimization.json").read_text("utf-8")))


def rows(name: str, record: dict[str, Any]) -> list[list[str]]:
    """The table's rows of a workload; the variant that serves is set in bold."""
    found = []
    for variant in record["variants"]:
        bound = variant["worst_drop"]
        precision = f"**{variant['name']}**" if variant["name"] == record["chosen"] else variant["name"]
        found.append(
            [
                name,
                precision,
                f"{variant['size_bytes'] / 1e6:.1f} MB",
                f"{variant['texts_per_second']:.0f} texts/s",
                f"{variant['metrics']['accuracy']:.4f}",
                f"{variant['metrics']['macro_f1']:.4f}",
                "–" if bound is None else f"{bound:.4f}",
                f"{variant['changed_share']:.2%}",
            ]
        )
    return found


if __name__ == "__main__":
    main()
