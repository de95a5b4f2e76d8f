"""How good a language model does the road make in a few CPU minutes, against n-grams on the same bytes?

    python -m benchmarks.language [--home FOLDER] [--json]

Runs `fairlead run` on benchmarks/projects/tiny_shakespeare.yaml as a user would, in a home of its own, and fits a
character n-gram model with Kneser-Ney smoothing on the very text of the resulting training split. The figure is nats
a character over the last tenth of the text: validation and test together, each read once in blocks.
"""

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import tables
from benchmarks.ngrams import CharacterNgrams
from benchmarks.quality import Workload, run_fairlead
from fairlead.formats import dataset, tokens

WORKLOAD = Workload("tiny-shakespeare", "tiny_shakespeare.yaml", "nats_per_character")


def main() -> None:
    """Run the workload and its peer, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, help="keep the run here, so that it resumes and is cached")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON and leave the page alone")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        found = measure(arguments.home or Path(temporary))
    if arguments.json:
        print(json.dumps(found, indent=2))
        return
    header = ["model", "nats a character, last tenth", "validation", "test", "training", "CPU time of the whole road"]
    ours = [found[name] for name in ("last_tenth", "validation", "test")]
    rows = [
        ["Fairlead", *(f"{value:.4f}" for value in ours), f"{found['seconds']:.0f} s", f"{found['cpu_seconds']:.0f} s"],
        ["6-grams, Kneser-Ney", f"{found['ngrams']:.4f}", "", "", "", f"{found['ngrams_cpu_seconds']:.0f} s"],
    ]
    table = tables.markdown(header, rows)
    print(table)
    tables.write("language", "python -m benchmarks.language", table)


def measure(home: Path) -> dict[str, Any]:
    """Both figures, in nats a character, and their times in seconds; a cached run has next to no CPU time."""
    before = _cpu_seconds(resource.RUSAGE_CHILDREN)
    run = run_fairlead(WORKLOAD, home / "tiny_shakespeare")
    cpu_seconds = _cpu_seconds(resource.RUSAGE_CHILDREN) - before
    folders = {name: Path(stage["output"]) for name, stage in run["stages"].items()}
    training = json.loads((folders["train"] / "training.json").read_text("utf-8"))
    splits = tokens.read_manifest(folders["tokenize"]).splits
    nats = {
        dataset.VALIDATION: training["validation"]["nats_per_character"],
        dataset.TEST: run["metrics"]["nats_per_character"],
    }
    sizes = {name: splits[name].num_characters or 0 for name in nats}
    began = time.process_time()
    text = {name: "".join(text for text, _ in dataset.read_rows(folders["ingest"], name)) for name in (*nats, "train")}
    peer = CharacterNgrams(text["train"]).nats_per_character(text[dataset.VALIDATION] + text[dataset.TEST])
    return {
        "last_tenth": sum(nats[name] * sizes[name] for name in nats) / sum(sizes.values()),
        **nats,
        "characters": sizes,
        "seconds": training["seconds"],
        "steps": training["steps"],
        "cpu_seconds": cpu_seconds,
        "ngrams": peer,
        "ngrams_cpu_seconds": time.process_time() - began,
    }


def _cpu_seconds(who: int) -> float:
    usage = resource.getrusage(who)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main()
