"""What the numbers that a sequence classifier gives for a text are, as its Hugging Face configuration says it."""

from typing import Any

from torch import nn

from fairlead.formats.tokens import TokensManifest
from fairlead.names import CLASSIFICATION, MULTI_LABEL, REGRESSION

# `problem_type` by task.
PROBLEM_TYPES = {
    CLASSIFICATION: "single_label_classification",
    MULTI_LABEL: "multi_label_classification",
    REGRESSION: "regression",
}
# The name of the one output of a regression.
VALUE = "value"
# The field of a multi-label configuration with the probability from which on a text has each label.
THRESHOLDS = "thresholds"
DEFAULT_THRESHOLD = 0.5


def output_names(tokens: TokensManifest) -> list[str]:
    """The names of the outputs: classes, or the value."""
    return [VALUE] if tokens.task == REGRESSION else tokens.labels


def head_fields(tokens: TokensManifest) -> dict[str, Any]:
    """The fields of the configuration for the task and the classes of `tokens`."""
    names = output_names(tokens)
    return {
        "num_labels": len(names),
        "id2label": dict(enumerate(names)),
        "label2id": {name: index for index, name in enumerate(names)},
        "problem_type": PROBLEM_TYPES[tokens.task],
    }


def class_names(model: nn.Module) -> list[str]:
    """The names of its outputs, in their order."""
    id2label: dict[int, str] = model.config.id2label  # type: ignore[union-attr,assignment]
    return [id2label[index] for index in range(len(id2label))]


def class_thresholds(model: nn.Module) -> list[float]:
    """The probability from which on a text has each label; 0.5 where nothing else was found."""
    names = class_names(model)
    found: list[float] | None = getattr(model.config, THRESHOLDS, None)
    return list(found) if found else [DEFAULT_THRESHOLD] * len(names)
