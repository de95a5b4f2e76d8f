"""The language models that train: a decoder from scratch, or any causal model of the Hugging Face layout."""

from pathlib import Path
from typing import Any

from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from fairlead.errors import ConfigError, IntegrityError
from fairlead.formats.model import usable_positions
from fairlead.formats.tokens import TokensManifest
from fairlead.training.config import ModelConfig
from fairlead.training.models.dropout_fields import dropout_fields
from fairlead.training.models.layout import check_layout
from fairlead.training.models.loading import as_module, check_fit, loading_arguments, read_model
from fairlead.training.models.size import LANGUAGE_FEED_FORWARD, WIDTH_PER_DEPTH

KIND = "a causal language model"
# Matrices are cut into tiles of this many rows and columns by the kernels for bfloat16.
MULTIPLE = 64


def build_language_model(model: ModelConfig, tokens: TokensManifest, base: Path | None = None) -> nn.Module:
    """The language model to train, in float32 on the CPU; draws from torch's random state, so seed it first.

    `base` is the local folder of `model.base`, None from scratch. Raises ConfigError when the base
    does not fit the tokens or cannot be loaded safely as a causal language model.
    """
    if model.classifier_norm != "none":
        raise ConfigError("model.classifier_norm: a language model has no classifier; leave it away")
    return _from_base(base, model, tokens) if base else _from_scratch(model, tokens)


def load_language_model(folder: Path) -> nn.Module:
    """A trained language model in eval mode, from a local folder.

    Raises NotFound when `folder` holds no model, ConfigError when only pickle weights are there,
    IntegrityError when the files cannot be read as a model.
    """
    check_layout(folder)
    arguments = loading_arguments() | {"output_loading_info": True}
    model, info = read_model(folder, lambda: AutoModelForCausalLM.from_pretrained(folder, **arguments), KIND)
    if info["missing_keys"]:
        missing = sorted(info["missing_keys"])
        raise IntegrityError(f"{folder}: {missing[0]} is not among its weights; it is no language model: train it")
    return as_module(model).eval()


def num_positions(model: nn.Module) -> int | None:
    """Tokens that a model reads at once; None when its configuration sets no limit."""
    config: Any = model.config
    positions = getattr(config, "max_position_embeddings", None)
    if not isinstance(positions, int) or positions <= 0:
        return None
    return usable_positions(config.model_type, positions, getattr(config, "pad_token_id", None) or 0)


def _from_scratch(model: ModelConfig, tokens: TokensManifest) -> nn.Module:
    """Llama: rotary positions, RMS norms, a gated feed-forward layer; the output shares the embeddings.

    One CPU core trains it, GPT-2, GPT-NeoX, Phi and StableLM of one size at the same speed within 15 %.
    """
    width = WIDTH_PER_DEPTH * model.depth
    config = LlamaConfig(
        vocab_size=_multiple(tokens.vocab_size),
        hidden_size=width,
        intermediate_size=_multiple(LANGUAGE_FEED_FORWARD * width),
        num_hidden_layers=model.depth,
        num_attention_heads=model.depth,
        num_key_value_heads=model.depth,
        max_position_embeddings=tokens.max_length,
        tie_word_embeddings=True,
        **dropout_fields(model, LlamaConfig.__dataclass_fields__.__contains__, "a language model"),
        use_cache=False,
        pad_token_id=tokens.pad_token_id,
        bos_token_id=None,
        eos_token_id=tokens.end_token_id,
    )
    config._attn_implementation = "sdpa"
    return as_module(LlamaForCausalLM(config))


def _from_base(base: Path, model: ModelConfig, tokens: TokensManifest) -> nn.Module:
    check_layout(base)
    config = read_model(
        base, lambda: AutoConfig.from_pretrained(base, local_files_only=True, trust_remote_code=False), KIND
    )
    check_fit(base, config, tokens)
    config.update(dropout_fields(model, lambda field: hasattr(config, field), base.name) | {"use_cache": False})
    arguments = loading_arguments() | {"config": config, "output_loading_info": True}
    loaded, info = read_model(base, lambda: AutoModelForCausalLM.from_pretrained(base, **arguments), KIND)
    if info["missing_keys"]:
        raise IntegrityError(
            f"model.base: {base.name} lacks {sorted(info['missing_keys'])[0]}; it is no language model: use another"
        )
    return as_module(loaded)


def _multiple(size: float) -> int:
    return -(-int(size) // MULTIPLE) * MULTIPLE
