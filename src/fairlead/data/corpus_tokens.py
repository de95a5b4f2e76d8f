"""Tokenizes documents for language modelling: a tokenizer of their own or the base's, and a stream a split."""

from pathlib import Path

import numpy as np

from fairlead.data.config import TokenizationConfig
from fairlead.data.language_tokenizer import end_token_id, save_language_tokenizer, train_language_tokenizer
from fairlead.data.token_stream import StreamWriter
from fairlead.data.tokenizer import base_tokenizer, num_ids, tokenizer_digest
from fairlead.data.training_texts import training_texts
from fairlead.errors import DataError
from fairlead.events import Progress
from fairlead.formats import dataset
from fairlead.formats.dataset import DataManifest
from fairlead.formats.tokens import TOKENIZER, TokensManifest, TokenSplit, tokens_digest, write_manifest
from fairlead.names import SCRATCH
from fairlead.registry.fetching import fetch_base
from fairlead.storage.redaction import redact


def tokenize_corpus(
    data: Path, data_manifest: DataManifest, config: TokenizationConfig, base: str, output: Path
) -> TokensManifest:
    """Write tokenizer, token files and manifest into `output`, the manifest last.

    `config` is resolved for language modelling. Raises DataError when the training text is shorter than a block.
    """
    if base == SCRATCH:
        tokenizer = train_language_tokenizer(lambda: training_texts(data, data_manifest), config)
    else:
        tokenizer = base_tokenizer(fetch_base(base, stage="tokenize").folder, config.max_length, pad_with_end=True)
    output.mkdir(parents=True, exist_ok=True)
    saved = save_language_tokenizer(tokenizer, output / TOKENIZER, config.max_length)
    vocab_size, end_id = num_ids(tokenizer), end_token_id(tokenizer)
    dtype = "uint16" if vocab_size <= 1 << 16 else "uint32"
    writer = StreamWriter(saved, end_id, tokenizer.unk_token_id, np.dtype(dtype))
    progress = Progress("tokenize", "encoding", sum(s.num_rows for s in data_manifest.splits.values()), "parts")
    splits = {name: writer.write_split(data, output, name, progress) for name in sorted(data_manifest.splits)}
    _check_size(splits[dataset.TRAIN], config.max_length)
    digest = tokenizer_digest(output / TOKENIZER)
    manifest = TokensManifest(
        digest=tokens_digest(data_manifest.digest, digest, config.max_length, splits),
        data_digest=data_manifest.digest,
        tokenizer_digest=digest,
        vocab_size=vocab_size,
        pad_token_id=tokenizer.pad_token_id,
        end_token_id=end_id,
        max_length=config.max_length,
        dtype=dtype,
        task=data_manifest.task,
        labels=[],
        splits=splits,
        config=config.to_dict() | {"base": redact(base)},
    )
    write_manifest(output, manifest)
    return manifest


def _check_size(train: TokenSplit, max_length: int) -> None:
    if train.num_tokens < max_length:
        raise DataError(
            f"tokenization.max_length: a block of {max_length} tokens is more than the training text has "
            f"({train.num_tokens}); lower it or give more text"
        )
