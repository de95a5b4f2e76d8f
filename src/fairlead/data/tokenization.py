"""The tokenize stage: a data version becomes token ids on disk (formats.tokens).

Texts are read and encoded a batch at a time, so that memory does not grow with the data.
"""

from array import array
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from io import BufferedWriter
from pathlib import Path
from typing import Any

import numpy as np

from fairlead.data.config import TokenizationConfig
from fairlead.data.targets import LabelEncoder, label_encoder
from fairlead.data.training_texts import training_texts
from fairlead.events import Progress, result
from fairlead.formats import dataset
from fairlead.formats.digests import of_file
from fairlead.formats.tokens import (
    TOKENIZER,
    TokensManifest,
    TokenSplit,
    split_files,
    tokens_digest,
    write_manifest,
)
from fairlead.names import CLASSIFICATION, LANGUAGE_MODELING, SCRATCH, TaskName
from fairlead.registry.fetching import fetch_base
from fairlead.stage import stage
from fairlead.storage.redaction import redact

ROWS_PER_BATCH = 1024
# 1,024 texts of 1 MB would take gigabytes once encoded: a batch is also cut by characters.
CHARACTERS_PER_BATCH = 1 << 20
QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}


@stage("tokenize")
def tokenize_stage(data: str, config: dict[str, Any], base: str, output: str) -> None:
    """Tokenize the data version in folder `data` into `output`.

    `config` is TokenizationConfig's; `base` is `scratch`, for a tokenizer trained on the training
    split, or the address of the model whose tokenizer is taken.
    """
    settings = TokenizationConfig.parse(config, where="tokenization")
    manifest = tokenize(Path(data), settings, base, Path(output))
    train = manifest.splits[dataset.TRAIN]
    result(
        "tokenize",
        {
            "tokenizer": f"{manifest.config['kind']}, trained" if base == SCRATCH else redact(base),
            "vocabulary": manifest.vocab_size,
            "tokens": sum(split.num_tokens for split in manifest.splits.values()),
            **_lengths(train),
            "unknown tokens": f"{train.unknown_token_share:.3%}",
        },
    )


def tokenize(data: Path, config: TokenizationConfig, base: str, output: Path) -> TokensManifest:
    """Write tokenizer, token files and manifest into `output`, the manifest last."""
    # transformers takes a second to import, which readers of this module's settings need not pay.
    from fairlead.data import tokenizer as tokenizers

    data_manifest = dataset.verify(data)
    config = config.resolved(data_manifest.task, data_manifest.splits[dataset.TRAIN].num_characters)
    if data_manifest.task == LANGUAGE_MODELING:
        from fairlead.data.corpus_tokens import tokenize_corpus

        return tokenize_corpus(data, data_manifest, config, base, output)
    if base == SCRATCH:
        chosen = tokenizers.train_tokenizer(lambda: training_texts(data, data_manifest), config)
    else:
        chosen = tokenizers.base_tokenizer(fetch_base(base, stage="tokenize").folder, config.max_length)
    output.mkdir(parents=True, exist_ok=True)
    saved = tokenizers.save_tokenizer(chosen, output / TOKENIZER, config.max_length)
    vocab_size = tokenizers.num_ids(chosen)
    dtype = "uint16" if vocab_size <= 1 << 16 else "uint32"
    encoder = Encoder(saved, chosen.unk_token_id, np.dtype(dtype), data_manifest.labels, data_manifest.task)
    progress = Progress("tokenize", "encoding", sum(s.num_rows for s in data_manifest.splits.values()), "rows")
    splits = {name: encoder.write_split(data, output, name, progress) for name in sorted(data_manifest.splits)}
    digest = tokenizers.tokenizer_digest(output / TOKENIZER)
    manifest = TokensManifest(
        digest=tokens_digest(data_manifest.digest, digest, config.max_length, splits),
        data_digest=data_manifest.digest,
        tokenizer_digest=digest,
        vocab_size=vocab_size,
        pad_token_id=chosen.pad_token_id,
        max_length=config.max_length,
        dtype=dtype,
        task=data_manifest.task,
        labels=data_manifest.labels,
        splits=splits,
        config=config.to_dict() | {"base": redact(base)},
    )
    write_manifest(output, manifest)
    return manifest


@dataclass
class Encoder:
    """Encodes whole splits with one tokenizer."""

    tokenizer: Any
    unknown_id: int | None
    dtype: "np.dtype[Any]"
    labels: list[str]
    task: TaskName = CLASSIFICATION
    _encode_labels: LabelEncoder = field(init=False)

    def __post_init__(self) -> None:
        self._encode_labels = label_encoder(self.task, self.labels)

    def write_split(self, data: Path, output: Path, split: str, progress: Progress) -> TokenSplit:
        """Write the three files of a split and return its summary."""
        files = split_files(output, split)
        counts = _Counts()
        with ExitStack() as stack:
            writers = {kind: stack.enter_context(path.open("wb")) for kind, path in files.items()}
            writers["offsets"].write(np.zeros(1, "<i8").tobytes())
            for batch in _batches(dataset.read_rows(data, split)):
                self._write_batch(batch, writers, counts)
                progress.advance(len(batch), note=split)
        return TokenSplit(
            num_rows=len(counts.lengths),
            num_tokens=counts.tokens,
            digests={kind: of_file(path) for kind, path in files.items()},
            length_quantiles=_quantiles(counts.lengths),
            truncated_share=counts.truncated / max(1, len(counts.lengths)),
            unknown_token_share=counts.unknown / max(1, counts.tokens),
        )

    def _write_batch(
        self, batch: list[tuple[str, str]], writers: "dict[str, BufferedWriter]", counts: "_Counts"
    ) -> None:
        encodings = self.tokenizer.encode_batch_fast([text for text, _ in batch])
        rows = [encoding.ids for encoding in encodings]
        ends = counts.tokens + np.cumsum([len(row) for row in rows])
        ids = np.concatenate([np.asarray(row, self.dtype) for row in rows])
        writers["tokens"].write(ids.astype(self.dtype.newbyteorder("<")).tobytes())
        writers["offsets"].write(ends.astype("<i8").tobytes())
        writers["labels"].write(self._encode_labels([label for _, label in batch]).tobytes())
        counts.add(encodings, int(ends[-1]), int((ids == self.unknown_id).sum()) if self.unknown_id is not None else 0)


@dataclass
class _Counts:
    """What is known of a split so far; `lengths` are tokens a row before cutting, 4 bytes each."""

    lengths: "array[int]" = field(default_factory=lambda: array("i"))
    tokens: int = 0
    truncated: int = 0
    unknown: int = 0

    def add(self, encodings: list[Any], tokens: int, unknown: int) -> None:
        """Add a batch; `tokens` is the new total."""
        for encoding in encodings:
            # What was cut off comes as further pieces, each with its own special tokens.
            cut = sum(len(piece.ids) - sum(piece.special_tokens_mask) for piece in encoding.overflowing)
            self.lengths.append(len(encoding.ids) + cut)
            self.truncated += cut > 0
        self.tokens = tokens
        self.unknown += unknown


def _batches(rows: Iterable[tuple[str, str]]) -> Iterator[list[tuple[str, str]]]:
    batch: list[tuple[str, str]] = []
    characters = 0
    for row in rows:
        batch.append(row)
        characters += len(row[0])
        if len(batch) == ROWS_PER_BATCH or characters >= CHARACTERS_PER_BATCH:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


def _lengths(train: TokenSplit) -> dict[str, str]:
    """How long texts are; of a language model, how much text a token stands for."""
    if train.num_characters is not None:
        return {"characters a token": f"{train.num_characters / train.num_tokens:.2f}"}
    quantiles = "/".join(f"{train.length_quantiles[q]:.0f}" for q in QUANTILES)
    return {"tokens a text (p50/p90/p99/max)": quantiles, "truncated": f"{train.truncated_share:.2%}"}


def _quantiles(lengths: "array[int]") -> dict[str, float]:
    if not lengths:
        return dict.fromkeys(QUANTILES, 0.0)
    values = np.frombuffer(lengths, dtype=np.intc)
    # A length that a row really has, not a mean of two.
    return {name: float(np.quantile(values, q, method="inverted_cdf")) for name, q in QUANTILES.items()}
