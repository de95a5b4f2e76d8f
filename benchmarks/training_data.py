"""Workloads of the training benchmark: real words, real classes, and the lengths that texts have.

Queries of banking77 alone are short (a dozen tokens). Here queries of one class are joined until they reach a
length drawn from a log-normal distribution with mean 50, cut at 256 tokens: many short texts and a long tail,
as tickets, reviews and mails have. The language model reads tiny-shakespeare by character, in blocks of one length.
"""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from benchmarks.quality import DATASETS, encoder
from benchmarks.training_growth import grown
from fairlead.formats import tokens as token_format
from fairlead.formats.digests import of_file, of_json
from fairlead.formats.tokens import TokensManifest, TokenSplit
from fairlead.names import LANGUAGE_MODELING
from fairlead.training.config import ModelConfig
from fairlead.training.models.building import build_model

NUM_CLASSES, MAX_LENGTH = 8, 256
MEAN_LENGTH, SIGMA = 50.0, 0.7
SEED = 0
# The training split, in multiples of the examples that are trained on. The Trainer's grouping sorts a quarter of a
# small split by length, longest first: so all that it trains on is one such quarter, the whole mix of lengths.
POOL_FACTOR = 4


# Of the language model: characters of a block, layers (width 64 a layer) and what it learns at.
BLOCK, DEPTH = 129, 4
LANGUAGE_RATE = 1e-3


@dataclass(frozen=True)
class Workload:
    """A model, and how much of it one run of the benchmark trains."""

    name: str
    base: str
    """`minilm` for the pre-trained MiniLM, `bert-base` for the same grown to BERT-base's shape, `gpt` for a small
    language model from scratch."""
    train: int
    """Examples that every side trains on, in its own order, out of POOL_FACTOR times as many."""
    validation: int
    turn: int
    """Examples between which the sides take turns."""
    target: float
    """Validation loss whose time is reported."""
    learning_rate: float = 1e-4
    """Of both good sides; the Trainer's defaults keep their own."""
    batch_size: int = 32
    """Likewise."""

    @property
    def is_language(self) -> bool:
        """Whether text is continued; else it is classified."""
        return self.base == "gpt"

    def seconds_to_target(self, turns: list[dict[str, Any]]) -> float | None:
        """Seconds of training to the target, on a straight line between the turns around it; None if never reached."""
        elapsed, before = 0.0, None
        for turn in turns:
            if turn["loss"] <= self.target:
                gained = 1.0 if before is None else (before - self.target) / (before - turn["loss"])
                return float(elapsed + gained * turn["seconds"])
            elapsed, before = elapsed + turn["seconds"], turn["loss"]
        return None


def quick_workloads() -> list[Workload]:
    """Ends in under 8 minutes on two logical CPUs that do nothing else."""
    return [
        Workload("MiniLM (6 x 384), pre-trained", "minilm", 512, 96, 128, 1.85),
        Workload("BERT-base (12 x 768), grown from MiniLM", "bert-base", 96, 32, 32, 1.95, 1e-4, 16),
        Workload("GPT (4 x 256), tiny-shakespeare", "gpt", 512, 32, 128, 3.5, LANGUAGE_RATE),
    ]


def full_workloads() -> list[Workload]:
    """Four times the examples."""
    return [
        Workload("MiniLM (6 x 384), pre-trained", "minilm", 2048, 192, 256, 1.2),
        Workload("BERT-base (12 x 768), grown from MiniLM", "bert-base", 256, 32, 64, 1.8, 1e-4, 16),
        Workload("GPT (4 x 256), tiny-shakespeare", "gpt", 4096, 128, 512, 2.6, LANGUAGE_RATE),
    ]


def prepare(workload: Workload, folder: Path) -> None:
    """Write `folder/model` (weights with their head, for every side the same) and `folder/tokens`."""
    if workload.is_language:
        _prepare_language(folder)
        return
    tokenizer = AutoTokenizer.from_pretrained(encoder(), local_files_only=True)
    generator = np.random.default_rng(SEED)
    texts, labels = _queries()
    queries = tokenizer(texts, add_special_tokens=False)["input_ids"]
    splits = {}
    for name, rows in (("train", POOL_FACTOR * workload.train), ("validation", workload.validation)):
        splits[name] = _write_texts(folder / "tokens", name, rows, tokenizer, queries, labels, generator)
    tokenizer.save_pretrained(folder / "tokens" / token_format.TOKENIZER)
    names = [str(i) for i in range(NUM_CLASSES)]
    manifest = _manifest(splits, len(tokenizer), labels=names, max_length=MAX_LENGTH)
    token_format.write_manifest(folder / "tokens", manifest)
    _model(workload.base).save_pretrained(folder / "model")


def _prepare_language(folder: Path) -> None:
    """Characters of the first nine tenths, and of the rest for validation; id 0 is padding."""
    import torch

    text = (DATASETS / "tiny-shakespeare" / "input.txt").read_text("utf-8")
    ids = {character: i + 1 for i, character in enumerate(sorted(set(text)))}
    tokens, border = np.array([ids[c] for c in text]), len(text) * 9 // 10
    parts = {"train": tokens[:border], "validation": tokens[border:]}
    empty = np.zeros((1, 0), np.uint8)
    splits = {name: _write(folder / "tokens", name, [part], empty, len(part)) for name, part in parts.items()}
    manifest = _manifest(splits, len(ids) + 1, labels=[], max_length=BLOCK, task=LANGUAGE_MODELING)
    token_format.write_manifest(folder / "tokens", manifest)
    torch.manual_seed(SEED)
    cast(Any, build_model(ModelConfig(depth=DEPTH, dropout=0), manifest)).save_pretrained(folder / "model")


def _model(base: str) -> Any:
    import torch

    torch.manual_seed(SEED)
    small = AutoModelForSequenceClassification.from_pretrained(encoder(), num_labels=NUM_CLASSES)
    return small if base == "minilm" else grown(small)


def _queries() -> tuple[list[str], npt.NDArray[np.int64]]:
    """The queries of the first classes of banking77."""
    with (DATASETS / "banking77" / "train.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    chosen = sorted({row["category"] for row in rows})[:NUM_CLASSES]
    rows = [row for row in rows if row["category"] in chosen]
    return [row["text"] for row in rows], np.array([chosen.index(row["category"]) for row in rows])


def _write_texts(
    folder: Path,
    name: str,
    num_rows: int,
    tokenizer: Any,
    queries: list[list[int]],
    labels: npt.NDArray[np.int64],
    generator: np.random.Generator,
) -> TokenSplit:
    classes = generator.integers(0, NUM_CLASSES, num_rows)
    rows = [_row(tokenizer, queries, np.flatnonzero(labels == label), generator) for label in classes]
    return _write(folder, name, rows, classes.astype("<i4"))


def _write(
    folder: Path,
    name: str,
    rows: list[npt.NDArray[np.int64]],
    labels: npt.NDArray[Any],
    num_characters: int | None = None,
) -> TokenSplit:
    folder.mkdir(parents=True, exist_ok=True)
    offsets = np.cumsum([0, *map(len, rows)])
    files = token_format.split_files(folder, name)
    np.concatenate(rows).astype("<u2").tofile(files["tokens"])
    offsets.astype("<i8").tofile(files["offsets"])
    labels.tofile(files["labels"])
    return TokenSplit(
        num_rows=len(rows),
        num_tokens=int(offsets[-1]),
        digests={kind: of_file(path) for kind, path in files.items()},
        length_quantiles={},
        truncated_share=0.0,
        unknown_token_share=0.0,
        num_characters=num_characters,
        num_bytes=num_characters,
    )


def _row(
    tokenizer: Any, queries: list[list[int]], of_class: npt.NDArray[np.int64], generator: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Queries of one class, joined and cut to a length that is drawn."""
    length = int(np.clip(generator.lognormal(np.log(MEAN_LENGTH) - SIGMA**2 / 2, SIGMA), 6, MAX_LENGTH))
    ids: list[int] = []
    while len(ids) < length - 2:
        ids += queries[int(generator.choice(of_class))]
    return np.array([tokenizer.cls_token_id, *ids[: length - 2], tokenizer.sep_token_id])


def _manifest(splits: dict[str, TokenSplit], vocab_size: int, **fields: Any) -> TokensManifest:
    digest = of_json({name: split.to_dict() for name, split in splits.items()})
    return TokensManifest(
        digest=digest,
        data_digest=digest,
        tokenizer_digest=digest,
        vocab_size=vocab_size,
        pad_token_id=0,
        dtype="uint16",
        splits=splits,
        config={},
        **fields,
    )
