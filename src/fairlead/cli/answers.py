"""What a model said of a text, as people read it."""

from collections.abc import Mapping
from typing import Any


def said(answer: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of an answer: label and probability, labels with theirs, or the number."""
    if "labels" in answer:
        named = zip(answer["labels"], answer["label_probabilities"], strict=True)
        return {"labels": ", ".join(f"{label} {probability:.2f}" for label, probability in named) or "none"}
    return {name: answer[name] for name in ("label", "probability", "value") if name in answer}
