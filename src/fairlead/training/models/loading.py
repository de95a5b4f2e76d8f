"""How a model folder is read safely: from safetensors, without code of its own, without the network."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn
from transformers.utils import logging as transformers_logging

from fairlead.errors import ConfigError, IntegrityError
from fairlead.formats.model import usable_positions
from fairlead.formats.tokens import TokensManifest


def check_fit(base: Path, config: Any, tokens: TokensManifest) -> None:
    """Raise ConfigError when a base does not embed the tokens or reads fewer of them."""
    rows = getattr(config, "vocab_size", None)
    if rows is not None and tokens.vocab_size > rows:
        raise ConfigError(
            f"model.base: {base.name} embeds {rows} token ids and the tokenizer gives {tokens.vocab_size}; "
            "tokenize with the base model's own tokenizer"
        )
    limit = getattr(config, "max_position_embeddings", None)
    if limit is not None:
        limit = usable_positions(config.model_type, limit, config.pad_token_id or 0)
    if limit is not None and limit > 0 and tokens.max_length > limit:
        raise ConfigError(
            f"tokenization.max_length: {tokens.max_length} is longer than {base.name} reads ({limit}); "
            f"set it to {limit} or less"
        )


def loading_arguments() -> dict[str, Any]:
    """What every loader of transformers is given: safetensors, nothing from the network, no code, float32."""
    return {
        "use_safetensors": True,
        "local_files_only": True,
        "trust_remote_code": False,
        "dtype": torch.float32,
    }


def read_model(folder: Path, load: Callable[[], Any], kind: str = "a sequence classifier") -> Any:
    """Run a loader of transformers for a model of some kind; its exceptions stop at this door."""
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        return load()
    except (SafetensorError, json.JSONDecodeError, EOFError, KeyError) as error:
        raise IntegrityError(f"{folder}: its files are damaged ({_line(error)}); download the model again") from error
    except (ValueError, OSError, RuntimeError, ImportError, AttributeError) as error:
        raise ConfigError(f"{folder}: it cannot be loaded as {kind} ({_line(error)}); use another model") from error


def _line(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else text[:197] + "..."


def as_module(model: Any) -> nn.Module:
    """A model of transformers, which has no types, as the module that it is."""
    assert isinstance(model, nn.Module)
    return model
