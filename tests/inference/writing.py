"""Tiny language models with random weights, and a tokenizer of bytes: they write nonsense, each its own."""

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, OPTConfig, OPTForCausalLM

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
from fairlead.inference.generation import Writer
from fairlead.names import LANGUAGE_MODELING, MODEL_MANIFEST

CONTEXT = 24
END = 256


def byte_tokenizer(*words: str) -> Tokenizer:
    """One token a byte, then the end of a document, then `words`, each one token."""
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    vocabulary = {character: index for index, character in enumerate(sorted(alphabet))}
    vocabulary["<|endoftext|>"] = END
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|endoftext|>"])
    tokenizer.add_tokens(list(words))
    return tokenizer


def random_model(kind: str = "llama", vocabulary: int = END + 1, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    size = {"vocab_size": vocabulary, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    ids = {"bos_token_id": None, "eos_token_id": END, "pad_token_id": END}
    if kind == "gpt2":
        model: Any = GPT2LMHeadModel(
            GPT2Config(vocab_size=vocabulary, n_embd=16, n_layer=2, n_head=2, n_positions=CONTEXT, **ids)
        )
    elif kind == "opt":
        config = OPTConfig(**size, ffn_dim=32, word_embed_proj_dim=16, max_position_embeddings=CONTEXT, **ids)
        model = OPTForCausalLM(config)
    else:
        model = LlamaForCausalLM(LlamaConfig(**size, intermediate_size=32, max_position_embeddings=CONTEXT, **ids))
    for parameter in model.parameters():
        if parameter.ndim == 2:
            torch.nn.init.normal_(parameter, std=0.5)
    return model.eval()


def make_language_version(folder: Path, project: str = "nonsense", number: int = 1, seed: int = 0) -> Path:
    """Write a whole version of a random language model to `folder`, every digest true."""
    random_model(seed=seed).save_pretrained(folder)
    byte_tokenizer().save(str(folder / "tokenizer.json"))
    record = TrainingRecord(
        run_id="run-0002",
        project=project,
        data_digest=of_bytes(b"documents"),
        tokens_digest=of_bytes(b"stream"),
        weights_digest=of_file(folder / WEIGHTS),
        labels=[],
        max_length=CONTEXT,
        task=LANGUAGE_MODELING,
        config={"data": {"task": LANGUAGE_MODELING}, "tokenization": {}, "model": {}, "training": {}},
        seed=seed,
        steps=1,
        best_step=1,
        validation={"loss": 5.0},
        seconds=0.1,
        environment=provenance.environment("cpu: test", world_size=1, num_threads=1),
        code=provenance.code(),
    )
    write_training(folder, record)
    manifest = make_manifest(number, "2026-01-01T00:00:00+00:00", record, list_files(folder))
    write_json(folder / MODEL_MANIFEST, manifest.to_dict())
    return folder


def make_writer(folder: Path, model: Any = None, tokenizer: Tokenizer | None = None) -> Writer:
    """A writer over a model and a tokenizer of a test's choice."""
    writer = Writer.load(make_language_version(folder))
    return Writer(writer.manifest, model or writer.model, tokenizer or writer.tokenizer)
