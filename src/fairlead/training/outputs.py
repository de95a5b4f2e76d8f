"""What the numbers that a sequence classifier gives for a text are, as its Hugging Face configuration says it."""

from typing import Any

from torch import nn

from fairlead.formats.tokens import TokensManifest
from fairlead.names import CLASSIFICATION

# `problem_type` by task.
PROBLEM_TYPES = {CLASSIFICATION: "single_label_classification"}


def head_fields(tokens: TokensManifest) -> dict[str, Any]:
    """The fields of the configuration for the task and the classes of `tokens`."""
    return {
        "num_labels": len(tokens.labels),
        "id2label": dict(enumerate(tokens.labels)),
        "label2id": {label: index for index, label in enumerate(tokens.labels)},
        "problem_type": PROBLEM_TYPES[tokens.task],
    }


def class_names(model: nn.Module) -> list[str]:
    """The names of its outputs, in their order."""
    id2label: dict[int, str] = model.config.id2label  # type: ignore[union-attr,assignment]
    return [id2label[index] for index in range(len(id2label))]
