"""The shares of activations that training zeroes, by the names that architectures have for them."""

from collections.abc import Callable

from fairlead.errors import ConfigError
from fairlead.training.config import ModelConfig

ATTENTION = ("attention_probs_dropout_prob", "attention_dropout", "attn_pdrop")
CLASSIFIER = (
    "classifier_dropout",
    "classifier_dropout_prob",
    "seq_classif_dropout",
    "pooler_dropout",
    "cls_dropout",
    "summary_last_dropout",
)
HIDDEN = (
    "hidden_dropout_prob",
    "hidden_dropout",
    "embedding_dropout",
    "mlp_dropout",
    "dropout",
    "embd_pdrop",
    "resid_pdrop",
)


def dropout_fields(model: ModelConfig, knows: Callable[[str], bool], name: str) -> dict[str, float]:
    """The fields of a transformers configuration for the settings of `model`.

    `knows` says whether the configuration has a field; `name` names the model in errors. Raises ConfigError when a
    share of its own is asked for where the architecture has no place for it.
    """
    fields: dict[str, float] = {}
    for setting, names in (("attention_dropout", ATTENTION), ("classifier_dropout", CLASSIFIER), ("dropout", HIDDEN)):
        own = getattr(model, setting)
        known = [field for field in names if knows(field)]
        if own is not None and own != model.dropout and not known:
            raise ConfigError(f"model.{setting}: {name} has no dropout of that kind of its own; leave it away")
        fields |= dict.fromkeys(known, _default(setting, model) if own is None else own)
    return fields


def _default(setting: str, model: ModelConfig) -> float:
    return 0.0 if setting == "classifier_dropout" and model.classifier_norm == "batch" else model.dropout
