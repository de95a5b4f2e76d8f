"""A project small enough to go the whole road in a test: 90 rows, three words a class, depth 1, one epoch.

Run as a program it goes the road in a process of its own, and kills itself where it is told:

    python road.py <data.csv> <stage> <status or progress>
"""

import os
import random
import signal
import sys
from pathlib import Path
from typing import Any

from fairlead.cluster.arguments import pipeline_arguments
from fairlead.cluster.local import Event, LocalRun, run_local
from fairlead.config import apply_overrides
from fairlead.project import ProjectConfig

STAGES = ("ingest", "tokenize", "train", "evaluate", "gate", "optimize", "register")
WORDS = {
    "sea": ["wave", "boat", "salt", "tide"],
    "sky": ["cloud", "wind", "bird", "star"],
    "soil": ["root", "worm", "clay", "seed"],
}


def write_data(path: Path) -> Path:
    chosen = random.Random(0)
    rows = [f"{' '.join(chosen.choices(WORDS[label], k=4))} {i},{label}" for i in range(30) for label in WORDS]
    path.write_text("\n".join(["text,label", *rows]) + "\n")
    return path


def project(data: Path, *overrides: str) -> ProjectConfig:
    values: dict[str, Any] = {
        "project": "tiny_topics",
        "data": {"source": str(data), "validation_fraction": 0.2, "test_fraction": 0.2},
        "tokenization": {"vocab_size": 120, "max_length": 16},
        "model": {"depth": 1},
        # Test by test the same few rows would be measured; tests/optimization does that.
        "optimization": {"enabled": False},
        "training": {"epochs": 1, "batch_size": 16, "learning_rate": 0.003, "threads": 1},
    }
    return ProjectConfig.parse(apply_overrides(values, overrides))


def go(data: Path, *overrides: str, until: str | None = None) -> LocalRun:
    return run_local(project(data, *overrides), until=until)


def walk(config: ProjectConfig, folder: Path) -> dict[str, Path]:
    """Go the road in this process, for what the stages find and not for how they are run: a third of the work.

    Returns the folder of each stage.
    """
    from fairlead.data.ingest import ingest_stage
    from fairlead.data.tokenization import tokenize_stage
    from fairlead.evaluation.evaluate import evaluate_stage
    from fairlead.evaluation.gates import gate_stage
    from fairlead.optimization.stage import optimize_stage
    from fairlead.registry.registration import register_stage
    from fairlead.training.run import train_stage

    def run(stage: Any, *arguments: Any) -> None:
        stage.inner(*[str(argument) if isinstance(argument, Path) else argument for argument in arguments])

    given, at = pipeline_arguments(config), {name: folder / name for name in STAGES}
    data, tokens, model = at["ingest"], at["tokenize"], at["train"]
    run(ingest_stage, given["data"], "", data, given["incremental"])
    run(tokenize_stage, data, given["tokenization"], given["base"], tokens)
    run(train_stage, config.project, data, tokens, given["model"], given["training"], model)
    run(
        *(evaluate_stage, config.project, data, tokens, model),
        *(given["evaluation"], at["evaluate"], folder / "evaluation.html"),
    )
    run(gate_stage, at["evaluate"], given["gate"], at["gate"])
    run(optimize_stage, config.project, tokens, model, given["optimization"], at["optimize"], folder / "variants.html")
    judged = (at["evaluate"], at["gate"], at["register"], at["optimize"])
    run(register_stage, config.project, data, tokens, model, *judged)
    return at


def main(data: str, stage: str, moment: str) -> None:
    def kill(event: Event) -> None:
        if event["stage"] == stage and moment in (event["event"], event.get("status")):
            os.killpg(0, signal.SIGKILL)

    run_local(project(Path(data)), on_event=kill)


if __name__ == "__main__":
    main(*sys.argv[1:])
