"""Mean pooling for an encoder that was trained with it, in the layout that every loader knows.

The head of a BERT reads its first token. A sentence encoder was trained to say what a text means by the
mean of its tokens (Reimers and Gurevych 2019, "Sentence-BERT", section 3), and its first token alone says
little: one epoch of banking77 gives 89 % from the mean and 60 % from the first token.

No classifier of the BERT family in transformers reads the mean, and a class of our own would make the model
folder one that only Fairlead can load. So the encoder gets one more layer of its own kind that starts as the
pooling: queries are 0, so that attention is uniform over the tokens of the text; values and output are
multiples of the identity, so that the first token receives their mean; the feed-forward part adds 0. The
dense layer before the head starts as half the identity, where tanh is nearly a straight line. All of it
trains on: pooling by attention, which starts as the mean.
"""

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fairlead.errors import ConfigError

POOLING = Path("1_Pooling", "config.json")
MEAN_FIELD = "pooling_mode_mean_tokens"
# Architectures whose layers are BERT's, with the path of the dense layer before the head.
DENSE = {
    "bert": "bert.pooler.dense",
    "roberta": "classifier.dense",
    "xlm-roberta": "classifier.dense",
    "camembert": "classifier.dense",
}
# The mean's weight against the first token's own vector, which the residual connection adds.
MEAN_SCALE = 4.0
DENSE_SCALE = 0.5


def wants_mean_pooling(base: Path, model_type: str, pooling: str) -> bool:
    """Whether `base` gets a pooling layer. Raises ConfigError for `mean` on an architecture that cannot have it."""
    if pooling == "mean" and model_type not in DENSE:
        raise ConfigError(
            f"model.pooling: {base.name} is a {model_type}, and mean can be added to {', '.join(DENSE)}; set it to base"
        )
    return pooling == "mean" or (pooling == "auto" and model_type in DENSE and _trained_with_mean(base))


@torch.no_grad()
def add_mean_pooling(model: nn.Module) -> None:
    """Make the last layer of a sequence classifier, loaded with one layer more than its base has, the pooling."""
    path = DENSE[str(model.config.model_type)]  # type: ignore[union-attr]
    encoder: Any = model.get_submodule(str(model.base_model_prefix))
    layer = encoder.encoder.layer[-1]
    for name, parameter in layer.named_parameters():
        if name.endswith("bias"):
            parameter.zero_()
        elif "LayerNorm" in name:
            parameter.fill_(1.0)
    layer.attention.self.query.weight.zero_()
    _set_identity(layer.attention.self.value, MEAN_SCALE)
    _set_identity(layer.attention.output.dense, 1.0)
    layer.output.dense.weight.zero_()
    _set_identity(model.get_submodule(path), DENSE_SCALE)


def _trained_with_mean(base: Path) -> bool:
    try:
        return bool(json.loads((base / POOLING).read_text("utf-8")).get(MEAN_FIELD))
    except (OSError, ValueError, AttributeError):
        return False


def _set_identity(linear: Any, scale: float) -> None:
    linear.weight.copy_(scale * torch.eye(linear.out_features, linear.in_features))
    if linear.bias is not None:
        linear.bias.zero_()
