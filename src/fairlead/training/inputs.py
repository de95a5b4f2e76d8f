"""Whether the data version, its tokens and the base fit each other, and can be learned from."""

from pathlib import Path

import numpy as np

from fairlead.errors import Conflict, DataError
from fairlead.formats import dataset
from fairlead.formats import tokens as token_format
from fairlead.formats.tokens import UNKNOWN_LABEL, TokensManifest
from fairlead.names import CLASSIFICATION, LANGUAGE_MODELING
from fairlead.storage.redaction import redact
from fairlead.training.config import ModelConfig


def check_data(data: Path, tokens: Path) -> TokensManifest:
    """Check that the tokens are those of the data, and can be learned from."""
    manifest = token_format.read_manifest(tokens)
    if manifest.data_digest != dataset.read_manifest(data).digest:
        raise Conflict(f"{tokens}: these are the tokens of another data version than {data}; run tokenize again")
    if manifest.task == LANGUAGE_MODELING:
        return manifest  # tokenize refuses a text that is too short, and there are no labels
    if manifest.task == CLASSIFICATION and len(manifest.labels) < 2:
        raise DataError(f"{tokens}: it has {len(manifest.labels)} class; a classifier needs at least 2")
    for split in (dataset.TRAIN, dataset.VALIDATION):
        labels = token_format.open_split(tokens, manifest, split).labels
        if len(labels) == 0:
            raise DataError(f"{tokens}: the split {split!r} has no rows; give it some")
        known = token_format.known_rows(labels, manifest.task)
        if manifest.task == CLASSIFICATION:
            known &= (labels > UNKNOWN_LABEL) & (labels < len(manifest.labels))
        if not known.all():
            row = int(np.flatnonzero(~known)[0])
            raise DataError(f"{tokens}: row {row} of {split!r} has a label that training does not; remove the row")
    return manifest


def check_tokenizer(manifest: TokensManifest, model: ModelConfig) -> None:
    """Check that the ids mean to the base model what they meant to the tokenizer that gave them."""
    base = manifest.config.get("base", redact(model.base))
    if base != redact(model.base):
        raise Conflict(
            f"model.base: {redact(model.base)} cannot read tokens made for {base}; run tokenize again with this base"
        )
