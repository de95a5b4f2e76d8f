"""The road of one tiny model, stage by stage in this process: only training starts another one."""

import random
from pathlib import Path
from typing import Any

from fairlead.data.ingest import ingest_stage
from fairlead.data.tokenization import tokenize_stage
from fairlead.evaluation.evaluate import evaluate_stage
from fairlead.evaluation.gates import gate_stage
from fairlead.registry import VersionRecord, open_registry
from fairlead.registry.registration import register_stage
from fairlead.training.run import train_stage

PROJECT = "tiny_topics"
WORDS = {
    "sea": ["wave", "boat", "salt", "tide"],
    "sky": ["cloud", "wind", "bird", "star"],
    "soil": ["root", "worm", "clay", "seed"],
    "fire": ["ash", "coal", "smoke", "spark"],
}
TRAINING = {"epochs": 4, "batch_size": 16, "learning_rate": 0.003, "threads": 1}


def write_rows(path: Path, seed: int, labels: tuple[str, ...] = ("sea", "sky", "soil"), shuffled: bool = False) -> Path:
    """40 texts a class, each unlike those of another seed; `shuffled` gives them the labels of others."""
    chosen = random.Random(seed)
    rows = [(f"{' '.join(chosen.choices(WORDS[label], k=4))} {seed}x{i}", label) for i in range(40) for label in labels]
    given = [label for _, label in rows]
    if shuffled:
        given = [labels[(labels.index(label) + 1) % len(labels)] for label in given]
    lines = [f"{text},{label}" for (text, _), label in zip(rows, given, strict=True)]
    path.write_text("\n".join(["text,label", *lines]) + "\n")
    return path


def go(folder: Path, source: Path, incremental: dict[str, Any] | None = None, **training: Any) -> VersionRecord:
    """Take `source` to a registered version. Raises what a stage raises."""
    base = f"fairlead://{incremental['parent']}" if incremental else "scratch"
    outputs = [str(folder / name) for name in ("data", "tokens", "model", "evaluation", "verdict", "version")]
    data, tokens, model, evaluation, verdict, version = outputs
    ingest_stage.inner({"source": str(source), "test_fraction": 0.2}, "", data, incremental)
    tokenize_stage.inner(data, {"vocab_size": 120, "max_length": 16}, base, tokens)
    model_settings = {"depth": 1, "base": base}
    train_stage.inner(PROJECT, data, tokens, model_settings, TRAINING | training, model)
    evaluate_stage.inner(PROJECT, data, tokens, model, {}, evaluation, str(folder / "report.html"))
    gate_stage.inner(evaluation, {"champion_max_drop": 1.0}, verdict)
    register_stage.inner(PROJECT, data, tokens, model, evaluation, verdict, version)
    with open_registry() as registry:
        return list(registry.list_versions(PROJECT))[-1]
