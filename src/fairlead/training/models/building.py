"""The models that train: a transformer from scratch, or any sequence classifier of the Hugging Face layout.

Weights are read from safetensors only; code that a model folder brings is never run; nothing is
fetched from the network here (a base is localized first).
"""

from pathlib import Path

from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    ModernBertConfig,
    ModernBertForSequenceClassification,
)

from fairlead.errors import IntegrityError
from fairlead.formats.tokens import TokensManifest
from fairlead.names import LANGUAGE_MODELING, MODEL_MANIFEST
from fairlead.training.config import ModelConfig
from fairlead.training.models.dropout_fields import dropout_fields
from fairlead.training.models.growing import keep_rows
from fairlead.training.models.headnorm import add_head_norm
from fairlead.training.models.language_models import build_language_model
from fairlead.training.models.layout import check_layout
from fairlead.training.models.loading import as_module, check_fit, loading_arguments, read_model
from fairlead.training.models.outputs import head_fields
from fairlead.training.models.pooling import add_mean_pooling, wants_mean_pooling
from fairlead.training.models.size import CLASSIFIER_FEED_FORWARD, WIDTH_PER_DEPTH

# The vocabulary's embedding is padded to a multiple of this, for aligned matrices; the spare rows never get a token.
VOCABULARY_MULTIPLE = 64


def build_model(model: ModelConfig, tokens: TokensManifest, base: Path | None = None) -> nn.Module:
    """The model to train, in float32 on the CPU; draws from torch's random state, so seed it first.

    `base` is the local folder of `model.base`, None from scratch. Raises ConfigError when the base
    does not fit the tokens (vocabulary, length) or cannot be loaded safely.
    """
    if tokens.task == LANGUAGE_MODELING:
        return build_language_model(model, tokens, base)
    built = _from_base(base, model, tokens) if base else _from_scratch(model, tokens)
    if model.classifier_norm == "batch":
        add_head_norm(built)
    return built


def load_classifier(folder: Path) -> nn.Module:
    """A trained classifier in eval mode, from a local folder; `.config.id2label` names its classes.

    Raises NotFound when `folder` holds no model, ConfigError when only pickle weights are there,
    IntegrityError when the files cannot be read as a model.
    """
    check_layout(folder)
    arguments = loading_arguments() | {"output_loading_info": True}
    model, info = read_model(folder, lambda: AutoModelForSequenceClassification.from_pretrained(folder, **arguments))
    if info["missing_keys"]:
        missing = sorted(info["missing_keys"])
        raise IntegrityError(f"{folder}: {missing[0]} is not among its weights; it is no trained classifier: train it")
    return as_module(model).eval()


def _from_scratch(model: ModelConfig, tokens: TokensManifest) -> nn.Module:
    """ModernBERT: on banking77 at depth 3, one epoch (50 CPU seconds) gives 83 % validation accuracy.

    A BERT of the same depth and width ([CLS], pooler, learned positions) gave 36 % in the same time.
    """
    width = WIDTH_PER_DEPTH * model.depth
    config = ModernBertConfig(
        vocab_size=-(-tokens.vocab_size // VOCABULARY_MULTIPLE) * VOCABULARY_MULTIPLE,
        hidden_size=width,
        intermediate_size=CLASSIFIER_FEED_FORWARD * width,
        num_hidden_layers=model.depth,
        num_attention_heads=model.depth,
        max_position_embeddings=tokens.max_length,
        # Texts are a few hundred tokens at most: a window of 128 would save nothing and hide context.
        layer_types=["full_attention"] * model.depth,
        classifier_pooling="mean",
        pad_token_id=tokens.pad_token_id,
        bos_token_id=None,
        eos_token_id=None,
        cls_token_id=None,
        sep_token_id=None,
        **dropout_fields(model, ModernBertConfig.__dataclass_fields__.__contains__, "ModernBERT"),
        **head_fields(tokens),
    )
    config._attn_implementation = "sdpa"
    return as_module(ModernBertForSequenceClassification(config))


def _from_base(base: Path, model: ModelConfig, tokens: TokensManifest) -> nn.Module:
    check_layout(base)
    config = read_model(base, lambda: AutoConfig.from_pretrained(base, local_files_only=True, trust_remote_code=False))
    check_fit(base, config, tokens)
    config.update(dropout_fields(model, lambda field: hasattr(config, field), base.name) | head_fields(tokens))
    config.pad_token_id = tokens.pad_token_id
    pools_mean = wants_mean_pooling(base, config.model_type, model.pooling)
    if pools_mean:
        config.num_hidden_layers += 1
    # A base that was trained on other classes brings a head of another shape: it is drawn anew.
    arguments = loading_arguments() | {"config": config, "ignore_mismatched_sizes": True}
    loaded = as_module(read_model(base, lambda: AutoModelForSequenceClassification.from_pretrained(base, **arguments)))
    if pools_mean:
        add_mean_pooling(loaded)
    if (base / MODEL_MANIFEST).is_file():
        # A version of ours: its classes mean something, and those that this model has too keep their rows.
        keep_rows(loaded, load_classifier(base), tokens.labels)
    return loaded
