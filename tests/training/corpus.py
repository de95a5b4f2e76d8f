"""A small tokenized data version that can be learned, and what a loop leaves behind."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fairlead.formats import dataset, tokens
from fairlead.formats.atomic import write_json
from fairlead.formats.digests import of_bytes, of_file, of_json
from fairlead.formats.tokens import TokensManifest, TokenSplit
from fairlead.registry import MetricPoint

LABELS = ["cat", "dog", "eel"]
VOCAB_SIZE, MAX_LENGTH = 40, 12
NUM_SPECIAL = 5  # [PAD] [UNK] [CLS] [SEP] [MASK]


class Corpus:
    """The folders of a data version and of its tokens; each class has favourite words."""

    def __init__(self, folder: Path, num_rows: int = 72, seed: int = 0, base: str | None = None) -> None:
        self.data, self.tokens = folder / "data", folder / "tokens"
        sizes = {"train": num_rows, "validation": 24}
        generator = np.random.default_rng(seed)
        splits = {name: write_split(self.tokens, name, rows, generator) for name, rows in sizes.items()}
        self._write_data(sizes)
        self._write_tokens(splits, {"max_length": MAX_LENGTH} | ({"base": base} if base else {}))

    def _write_data(self, sizes: dict[str, int]) -> None:
        summaries = {
            name: dataset.SplitSummary(num_rows=rows, digest=of_bytes(name.encode()), label_counts={})
            for name, rows in sizes.items()
        }
        dataset.write_manifest(
            self.data,
            dataset.DataManifest(
                digest=of_bytes(b"data"),
                labels=LABELS,
                splits=summaries,
                sources={},
                source_digests={},
                config={"source": "made.csv"},
                findings={},
            ),
        )

    def _write_tokens(self, splits: dict[str, TokenSplit], config: dict[str, Any]) -> None:
        (self.tokens / tokens.TOKENIZER).mkdir(exist_ok=True)
        (self.tokens / tokens.TOKENIZER / "tokenizer.json").write_text("{}")
        self.manifest = TokensManifest(
            digest=of_json({name: split.to_dict() for name, split in splits.items()}),
            data_digest=of_bytes(b"data"),
            tokenizer_digest=of_bytes(b"tokenizer"),
            vocab_size=VOCAB_SIZE,
            pad_token_id=0,
            max_length=MAX_LENGTH,
            dtype="uint16",
            labels=LABELS,
            splits=splits,
            config=config,
        )
        tokens.write_manifest(self.tokens, self.manifest)

    def relabel(self, split: str, row: int, label: int) -> None:
        """Give one row another label, with digests that say so."""
        path = tokens.split_files(self.tokens, split)["labels"]
        labels = np.fromfile(path, "<i4")
        labels[row] = label
        labels.tofile(path)
        digests = self.manifest.splits[split].digests | {"labels": of_file(path)}
        changed = self.manifest.splits[split].model_copy(update={"digests": digests})
        splits = self.manifest.splits | {split: changed}
        tokens.write_manifest(self.tokens, self.manifest.model_copy(update={"splits": splits}))


def write_split(folder: Path, name: str, num_rows: int, generator: np.random.Generator) -> TokenSplit:
    folder.mkdir(parents=True, exist_ok=True)
    labels = np.arange(num_rows, dtype=np.int32) % len(LABELS)
    texts = [make_text(int(label), generator) for label in labels]
    offsets = np.cumsum([0, *map(len, texts)], dtype=np.int64)
    files = tokens.split_files(folder, name)
    np.concatenate(texts).astype("<u2").tofile(files["tokens"])
    offsets.astype("<i8").tofile(files["offsets"])
    labels.astype("<i4").tofile(files["labels"])
    return TokenSplit(
        num_rows=num_rows,
        num_tokens=int(offsets[-1]),
        digests={kind: of_file(path) for kind, path in files.items()},
        length_quantiles={},
        truncated_share=0.0,
        unknown_token_share=0.0,
    )


def make_text(label: int, generator: np.random.Generator) -> list[int]:
    length = int(generator.integers(2, MAX_LENGTH - 1))
    words = generator.integers(NUM_SPECIAL + 15, VOCAB_SIZE, length)
    words[generator.random(length) < 0.5] = NUM_SPECIAL + 5 * label + generator.integers(0, 5)
    return [2, *map(int, words), 3]


class Recorder:
    """Takes the metrics of a loop and keeps the curves in a file, as a registry would."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "curves.json"

    def log_metrics(self, run_id: str, points: Sequence[MetricPoint]) -> None:
        curves = self.read()
        for point in points:
            curves.setdefault(point.name, {})[str(point.step)] = point.value
        write_json(self.path, curves)

    def read(self) -> dict[str, dict[str, float]]:
        return json.loads(self.path.read_text()) if self.path.exists() else {}


class PromptLog:
    """Takes what a MetricLog takes, and writes it at once."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def begin(self, *_: Any) -> None:
        pass

    def add(self, step: int, values: Mapping[str, float]) -> None:
        self._recorder.log_metrics("run_1", [MetricPoint(name, step, value, 0.0) for name, value in values.items()])

    def pending(self) -> list[MetricPoint]:
        return []


def curve(folder: Path, name: str = "loss") -> list[float]:
    values = Recorder(folder).read()[name]
    return [values[step] for step in sorted(values, key=int)]


def weights(model: torch.nn.Module) -> str:
    return of_bytes(b"".join(t.numpy().tobytes() for t in model.state_dict().values()))
