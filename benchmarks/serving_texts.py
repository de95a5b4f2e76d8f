"""What the serving benchmark asks, of which model, and what is right.

Texts are queries of banking77, of one class each, joined until they reach a length drawn from a log-normal
distribution with a mean of 45 tokens, cut at 256. The model is the pre-trained MiniLM (6 x 384) with a head for the
77 classes that is fitted here to the training queries in half a minute, so that answers are sure of themselves as a
trained model's are: how fast a server is does not depend on the weights, but whether it answers right does.
"""

import csv
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.quality import DATASETS, encoder
from fairlead import provenance
from fairlead.formats.atomic import write_json
from fairlead.formats.digests import of_bytes, of_file
from fairlead.formats.model import (
    WEIGHTS,
    TrainingRecord,
    list_files,
    make_manifest,
    read_manifest,
    write_training,
)
from fairlead.names import MODEL_MANIFEST

PROJECT, SEED = "banking_load", 0
# To be raised when the model or the texts change: both are kept from one run to the next.
RECIPE = 2
NUM_TEXTS, MEAN_LENGTH, SIGMA, MAX_LENGTH = 1024, 45.0, 0.7, 256
# Queries that the head is fitted to: about 20 a class.
NUM_FITTED = 1540


@dataclass(frozen=True)
class Workload:
    """The version that is served, what it is asked, and the right answers."""

    folder: Path
    """A model version."""
    place: Path
    """Where what is made of it is kept from one run to the next."""
    project: str
    max_length: int
    """Tokens of a text at most."""
    texts: list[str]
    labels: list[str]
    """What the fp32 weights say of each text, in a plain forward pass of one text."""
    probabilities: list[float]
    """How sure they are."""
    mean_tokens: float


def cache_folder() -> Path:
    """Where model and peers are kept unless another folder is named."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fairlead-benchmarks"


def prepare(cache: Path, version: Path | None = None) -> Workload:
    """The workload of a version, or of the benchmark's own; what is made is kept in `cache`."""
    place = cache / f"model-{RECIPE}"
    if version is not None:
        place = cache / f"version-{RECIPE}-{read_manifest(version).digest.rpartition(':')[2][:12]}"
    folder = version.resolve() if version is not None else place / "version"
    if not (place / "answers.json").exists():
        place.mkdir(parents=True, exist_ok=True)
        if version is None:
            _make_version(folder)
        write_json(place / "answers.json", _ask_torch(folder))
    manifest = read_manifest(folder)
    answers = json.loads((place / "answers.json").read_text("utf-8"))
    return Workload(folder, place, manifest.project, manifest.training.max_length, **answers)


def _queries(name: str) -> tuple[list[str], list[str]]:
    with (DATASETS / "banking77" / name).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return [row["text"] for row in rows], [row["category"] for row in rows]


def _texts(tokenizer: Any, longest: int) -> tuple[list[str], float]:
    """The texts and their mean length in tokens."""
    generator = np.random.default_rng(SEED)
    queries, categories = _queries("test.csv")
    lengths = [len(ids) for ids in tokenizer(queries, add_special_tokens=False)["input_ids"]]
    classes = {name: np.flatnonzero([c == name for c in categories]) for name in sorted(set(categories))}
    texts = [
        _text(queries, lengths, classes[str(generator.choice(list(classes)))], longest, generator)
        for _ in range(NUM_TEXTS)
    ]
    sizes = [len(ids) for ids in tokenizer(texts, truncation=True, max_length=longest)["input_ids"]]
    return texts, float(np.mean(sizes))


def _text(
    queries: list[str],
    lengths: list[int],
    of_class: npt.NDArray[np.int64],
    longest: int,
    generator: np.random.Generator,
) -> str:
    """Queries of one class, joined up to the length that is drawn; the last is cut, a word for each token."""
    left = int(np.clip(generator.lognormal(np.log(MEAN_LENGTH) - SIGMA**2 / 2, SIGMA), 6, longest)) - 2
    parts: list[str] = []
    while left > 0:
        index = int(generator.choice(of_class))
        words = queries[index].split()
        parts += words if lengths[index] <= left else words[:left]
        left -= lengths[index]
    return " ".join(parts)


def _make_version(folder: Path) -> None:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    torch.manual_seed(SEED)
    tokenizer = AutoTokenizer.from_pretrained(encoder(), local_files_only=True)
    texts, categories = _queries("train.csv")
    names = sorted(set(categories))
    model = AutoModelForSequenceClassification.from_pretrained(
        encoder(), num_labels=len(names), id2label=dict(enumerate(names)), label2id={n: i for i, n in enumerate(names)}
    )
    _fit_head(model.eval(), tokenizer, texts, [names.index(category) for category in categories])
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    _write_manifest(folder, names)


def _fit_head(model: Any, tokenizer: Any, texts: Sequence[str], classes: Sequence[int]) -> None:
    """Logistic regression on what the encoder makes of some of the queries."""
    import torch
    from sklearn.linear_model import LogisticRegression

    drawn = np.random.default_rng(SEED).permutation(len(texts))[:NUM_FITTED].tolist()
    chosen: list[int] = sorted(drawn, key=lambda i: len(texts[i]))
    features = []
    with torch.inference_mode():
        for start in range(0, NUM_FITTED, 32):
            batch = tokenizer([texts[i] for i in chosen[start : start + 32]], padding=True, return_tensors="pt")
            features.append(model.bert(**batch).pooler_output)
    pooled = torch.cat(features).numpy()
    head = LogisticRegression(C=30.0, max_iter=300).fit(pooled, [classes[i] for i in chosen])
    with torch.no_grad():
        model.classifier.weight.copy_(torch.from_numpy(head.coef_))
        model.classifier.bias.copy_(torch.from_numpy(head.intercept_))


def _write_manifest(folder: Path, names: list[str]) -> None:
    record = _training(of_file(folder / WEIGHTS), names)
    write_training(folder, record)
    manifest = make_manifest(1, "2026-01-01T00:00:00+00:00", record, list_files(folder))
    write_json(folder / MODEL_MANIFEST, manifest.to_dict())


def _training(weights_digest: str, names: list[str]) -> TrainingRecord:
    """The record of a training that never was: only what serving reads of it is meant."""
    return TrainingRecord(
        run_id="benchmark",
        project=PROJECT,
        data_digest=of_bytes(b"banking77"),
        tokens_digest=of_bytes(b"banking77"),
        weights_digest=weights_digest,
        labels=names,
        max_length=MAX_LENGTH,
        config={"data": {}, "tokenization": {}, "model": {}, "training": {}},
        seed=SEED,
        steps=0,
        best_step=0,
        validation={},
        seconds=0.0,
        environment=provenance.environment("cpu", world_size=1, num_threads=1),
        code=provenance.code(),
    )


def _ask_torch(folder: Path) -> dict[str, Any]:
    """The right answers, by transformers alone."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    longest = min(MAX_LENGTH, read_manifest(folder).training.max_length)
    texts, mean_tokens = _texts(tokenizer, longest)
    labels, probabilities = [], []
    with torch.inference_mode():
        for text in texts:
            inputs = tokenizer(text, truncation=True, max_length=longest, return_tensors="pt")
            best = model(**inputs).logits.softmax(-1)[0].max(0)
            labels.append(str(model.config.id2label[int(best.indices)]))
            probabilities.append(float(best.values))
    return {"texts": texts, "labels": labels, "probabilities": probabilities, "mean_tokens": mean_tokens}
