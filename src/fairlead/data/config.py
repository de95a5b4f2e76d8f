"""Settings of ingest and tokenize."""

import math
import re
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from fairlead.config import Config
from fairlead.errors import ConfigError
from fairlead.names import CLASSIFICATION, LANGUAGE_MODELING, ModelRef, TaskName

NUM_BYTES = 256
DEFAULT_VOCABULARY = 8000


class DataConfig(Config):
    """Where labelled text comes from and how it becomes a data version."""

    source: str
    """Path, folder, `s3://`, `https://` or `hf://` address of the labelled text. No default."""
    text: str = "text"
    """Column with the text; a 0-based index for files without a header. Default `text`."""
    label: str = "label"
    """Column with the label; a 0-based index for files without a header. Default `label`."""
    task: TaskName = CLASSIFICATION
    """What is learned: `classification`, one label a text; `multi_label`, any number of labels; `regression`, a
    number; `language_modeling`, the text itself. Default `classification`."""
    label_separator: str = Field("|", min_length=1, max_length=8)
    """What stands between the labels of a multi-label text, where they are no JSON, Parquet or Python list.
    Default `|`."""
    format: Literal["auto", "csv", "tsv", "jsonl", "parquet", "folder", "text"] = "auto"
    """Format of the sources; `text` is one document, for `language_modeling`. Default `auto`: by extension, then by
    content."""
    header: bool | None = None
    """Whether the first line of CSV and TSV names the columns. Default: found out from `text` and `label`."""
    quoting: bool | None = None
    """Whether CSV and TSV fields may be quoted. Default: yes for CSV; for TSV only when the quotes balance."""
    encoding: str = "auto"
    """Encoding of the sources. Default `auto`: byte-order mark, then UTF-8, then detected and reported."""
    validation: str | None = None
    """Source of an own validation split. Default: split off the training rows."""
    test: str | None = None
    """Source of an own test split. Default: split off the training rows."""
    extra: dict[str, str] = Field(default_factory=dict)
    """Further named data sets by name (not train, validation or test): evaluated, never trained on. Default: none."""
    validation_fraction: float = Field(0.1, gt=0, lt=1)
    """Share of rows for validation when there is no own source, 0 to 1. Default 0.1."""
    test_fraction: float = Field(0.1, gt=0, lt=1)
    """Share of rows for the test split when there is no own source, 0 to 1. Default 0.1."""
    seed: int = Field(0, ge=0, lt=2**32)
    """Seed of the split, 0 to 2^32 - 1. Default 0."""
    split: Literal["auto", "documents", "position"] = "auto"
    """How a language model's text is split: whole `documents` are drawn by seed, or the end of each is split off, by
    `position`: first training, then validation, then test. Default `auto`: by position below 20 documents."""
    duplicates: Literal["drop", "keep"] = "drop"
    """Rows whose normalised text and label repeat an earlier row of their source. Default `drop`: the first is
    kept. An own test or extra source is counted and kept as it is, by this and the next setting."""
    conflicts: Literal["drop", "majority", "keep"] = "drop"
    """Rows with one normalised text but several labels. Default `drop`: none of them is kept."""
    leakage: Literal["drop", "keep"] = "drop"
    """Training and validation rows whose normalised text stands in an own test or extra source, and training
    rows whose text stands in an own validation source. Default `drop`."""
    max_rejected_share: float = Field(0.01, ge=0, le=1)
    """Share of malformed rows above which ingest stops, 0 to 1. Default 0.01."""
    max_text_bytes: int = Field(1_000_000, ge=1)
    """UTF-8 bytes of a text above which its row is set aside. Default 1,000,000."""
    max_classes: int = Field(1000, ge=2)
    """Number of labels above which ingest stops: more usually means the wrong column. Default 1,000."""

    @field_validator("extra")
    @classmethod
    def _legal_names(cls, value: dict[str, str]) -> dict[str, str]:
        for name in value:
            if not re.fullmatch(r"[a-z][a-z0-9_]{0,62}", name) or name in ("train", "validation", "test"):
                raise ValueError(f"{name!r} cannot name a data set; use a-z, 0-9 and _, but no split's name")
        return value

    @model_validator(mode="after")
    def _rows_left(self) -> Self:
        fractions = (0 if self.validation else self.validation_fraction, 0 if self.test else self.test_fraction)
        if sum(fractions) >= 1:
            raise ValueError("validation_fraction and test_fraction leave no rows to train on; lower one of them")
        return self


class IncrementalConfig(Config):
    """Going on from a registered model version with new data. How far it may fall behind is `evaluation.parent_*`."""

    parent: str | None = None
    """Version that training continues: `support_topics@champion` or `support_topics:3`, of the same project. Its
    weights, tokenizer, order of classes and test split are taken. Default: none."""
    replay: float = Field(0.2, ge=0, le=1)
    """Share of the parent's training and validation rows that are mixed into the same split, 0 to 1. Default 0.2."""
    new_labels: Literal["refuse", "grow"] = "refuse"
    """What to do with a label that the parent lacks. Default `refuse`: a misspelt label would become a class.
    `grow` adds a row to the classifier for each, and keeps the others."""

    @field_validator("parent")
    @classmethod
    def _legal_reference(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                ModelRef.parse(value)
            except ConfigError as error:
                raise ValueError(str(error)) from error
        return value


class TokenizationConfig(Config):
    """How text becomes token ids. Ignored where the base model brings its own tokenizer, but for max_length."""

    kind: Literal["auto", "wordpiece", "bpe", "character"] = "auto"
    """Algorithm of a tokenizer trained from the training split; `character` is for language models. Default `auto`:
    `wordpiece`, for language models `bpe`."""
    vocab_size: int | None = Field(None, ge=100, le=1_000_000)
    """Entries of a trained vocabulary, special tokens included, 100 to 1,000,000. Default 8,000; for language models
    by the training text: 704 for a megabyte, and more with its square root up to 32,768."""
    min_frequency: int = Field(2, ge=1)
    """Times a pair has to occur to be merged. Default 2."""
    lowercase: bool | None = None
    """Whether a trained tokenizer ignores case. Default true; a language model's text is kept as it is."""
    max_length: int = Field(128, ge=4, le=8192)
    """Tokens of a text at most, special tokens included; the rest is cut. For language models the tokens that are read
    at once: text is cut into blocks of as many, and nothing is lost. 4 to 8,192. Default 128."""

    @property
    def num_entries(self) -> int:
        """Entries of a trained vocabulary."""
        return self.vocab_size or DEFAULT_VOCABULARY

    @property
    def ignores_case(self) -> bool:
        """Whether a trained tokenizer ignores case."""
        return self.lowercase is not False

    def resolved(self, task: TaskName, num_characters: int | None = None) -> "TokenizationConfig":
        """The same with the defaults that depend on the task and on the characters of the training text.

        Raises ConfigError for settings that are about another task.
        """
        language = task == LANGUAGE_MODELING
        kind = self.kind if self.kind != "auto" else "bpe" if language else "wordpiece"
        if language and (kind == "wordpiece" or self.lowercase):
            setting = "kind: wordpiece loses spaces" if kind == "wordpiece" else "lowercase: it loses case"
            raise ConfigError(f"tokenization.{setting}, which a language model has to write; leave it away")
        if not language and kind == "character":
            raise ConfigError(f"tokenization.kind: character is for language models, not for {task}; use wordpiece")
        vocab_size = self.vocab_size or (vocabulary_for(num_characters or 0) if language else self.num_entries)
        lowercase = not language if self.lowercase is None else self.lowercase
        return self.model_copy(update={"kind": kind, "vocab_size": vocab_size, "lowercase": lowercase})


def vocabulary_for(num_characters: int) -> int:
    """Entries of a language model's vocabulary: 256 bytes, and 448 more for a million characters of text.

    On tiny-shakespeare (1.1 million) so many learn faster than single characters; a larger text has more words that
    are frequent enough to learn, about as its square root (Heaps' law).
    """
    return min(32_768, NUM_BYTES + max(64, round(448 * math.sqrt(num_characters / 1e6))))
