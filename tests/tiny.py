"""A tiny real model version on disk: one layer, a vocabulary of words, every digest true."""

from pathlib import Path

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.normalizers import Lowercase
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from fairlead import provenance
from fairlead.formats.atomic import write_json
from fairlead.formats.digests import of_bytes, of_file
from fairlead.formats.model import (
    WEIGHTS,
    TrainingRecord,
    list_files,
    make_manifest,
    write_training,
)
from fairlead.formats.tokens import TokensManifest
from fairlead.names import MODEL_MANIFEST
from fairlead.training.config import ModelConfig
from fairlead.training.models.building import build_model

LABELS = ["billing", "delivery", "tëchnical"]
WORDS = ["my", "card", "was", "charged", "twice", "where", "is", "the", "parcel", "app", "crashes", "refund", "please"]
MAX_LENGTH = 16


def make_version(folder: Path, project: str = "support_topics", number: int = 1, seed: int = 0, depth: int = 1) -> Path:
    """Write a version to `folder`, whose answers depend on the text, and return it."""
    make_trained(folder, project, seed, depth)
    record = TrainingRecord.model_validate_json((folder / "training.json").read_text("utf-8"))
    manifest = make_manifest(number, "2026-01-01T00:00:00+00:00", record, list_files(folder))
    write_json(folder / MODEL_MANIFEST, manifest.to_dict())
    return folder


def make_trained(folder: Path, project: str = "support_topics", seed: int = 0, depth: int = 1) -> Path:
    """Write what training leaves: model, tokenizer and training.json."""
    tokenizer = _tokenizer()
    tokens = _tokens(len(tokenizer), tokenizer.pad_token_id)
    torch.manual_seed(seed)
    model = build_model(ModelConfig(depth=depth), tokens)
    # Fresh weights answer every text alike, which no test could tell from a constant.
    torch.nn.init.normal_(model.classifier.weight, std=1.0)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    write_training(folder, _training(project, of_file(folder / WEIGHTS), tokens, seed))
    return folder


def _tokenizer() -> PreTrainedTokenizerFast:
    vocabulary = {word: index for index, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS])}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = Lowercase()
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_max_length=MAX_LENGTH,
    )


def _tokens(vocab_size: int, pad_token_id: int) -> TokensManifest:
    return TokensManifest(
        digest=of_bytes(b"tokens"),
        data_digest=of_bytes(b"data"),
        tokenizer_digest=of_bytes(b"tokenizer"),
        vocab_size=vocab_size,
        pad_token_id=pad_token_id,
        max_length=MAX_LENGTH,
        dtype="uint16",
        labels=LABELS,
        splits={},
        config={},
    )


def _training(project: str, weights_digest: str, tokens: TokensManifest, seed: int) -> TrainingRecord:
    return TrainingRecord(
        run_id="run-0001",
        project=project,
        data_digest=tokens.data_digest,
        tokens_digest=tokens.digest,
        weights_digest=weights_digest,
        labels=LABELS,
        max_length=MAX_LENGTH,
        config={"data": {}, "tokenization": {}, "model": {"depth": 1}, "training": {}},
        seed=seed,
        steps=1,
        best_step=1,
        validation={"macro_f1": 0.5},
        seconds=0.1,
        environment=provenance.environment("cpu: test", world_size=1, num_threads=1),
        code=provenance.code(),
    )
