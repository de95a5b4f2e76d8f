"""What a model says of one text, by task."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fairlead.formats.model import ModelManifest
from fairlead.names import MULTI_LABEL, REGRESSION
from fairlead.variants.contract import Embeddings

# Where a version names no thresholds.
DEFAULT_THRESHOLD = 0.5


@dataclass(frozen=True)
class Prediction:
    """The answer of a classifier whose texts have one label."""

    label: str
    """The most probable class."""
    probability: float
    """Its probability, 0 to 1."""
    probabilities: tuple[float, ...]
    """Of every class, in the order of the manifest's labels; they sum to 1."""
    rejected: bool | None = None
    """Whether the probability is below the version's rejection threshold: the text is likely to belong to no class.
    The label is still the most probable one. None where the version has no threshold."""

    def to_dict(self) -> dict[str, Any]:
        """By the names of the signature's outputs, and `rejected` where the version has a threshold."""
        said = {"label": self.label, "probability": self.probability}
        return said if self.rejected is None else {**said, "rejected": self.rejected}


@dataclass(frozen=True)
class SetPrediction:
    """The answer of a classifier whose texts have any number of labels."""

    labels: tuple[str, ...]
    """The classes whose probability reaches their threshold, in the manifest's order; none may."""
    label_probabilities: tuple[float, ...]
    """Their probabilities, 0 to 1."""
    probabilities: tuple[float, ...]
    """Of every class, in the order of the manifest's labels; each stands for itself."""

    def to_dict(self) -> dict[str, Any]:
        """By the names of the signature's outputs."""
        return {"labels": list(self.labels), "label_probabilities": list(self.label_probabilities)}


@dataclass(frozen=True)
class NumberPrediction:
    """The answer of a regression."""

    value: float
    """In the unit of the numbers that it learned from."""
    probabilities: tuple[float, ...] = ()
    """None."""

    def to_dict(self) -> dict[str, Any]:
        """By the name of the signature's output."""
        return {"value": self.value}


Answer = Prediction | SetPrediction | NumberPrediction


@dataclass(frozen=True)
class Embedded:
    """An answer, and the vector that it was made from."""

    answer: Answer
    """What the model says."""
    embedding: Embeddings
    """What its head reads of the text, (`embedding_size`,)."""
    num_tokens: int
    """Tokens of the text, special ones included."""

    @property
    def probabilities(self) -> tuple[float, ...]:
        """Of the answer."""
        return self.answer.probabilities

    def to_dict(self) -> dict[str, Any]:
        """Of the answer."""
        return self.answer.to_dict()

    def normalized(self) -> "Embedded":
        """With an embedding of length 1, so that the product of two is their cosine."""
        length = float(np.linalg.norm(self.embedding))
        return replace(self, embedding=self.embedding / np.float32(length or 1.0))


def answers_of(manifest: ModelManifest) -> Callable[[list[float]], Answer]:
    """From what a model of this version gives for a text (probabilities, or the number) to the answer."""
    labels, task = manifest.labels, manifest.training.task
    threshold = manifest.optimization.rejection_threshold if manifest.optimization else None
    thresholds = manifest.training.thresholds or [DEFAULT_THRESHOLD] * len(labels)

    def best(probabilities_C: list[float]) -> Answer:
        index = max(range(len(probabilities_C)), key=probabilities_C.__getitem__)
        rejected = None if threshold is None else probabilities_C[index] < threshold
        return Prediction(labels[index], probabilities_C[index], tuple(probabilities_C), rejected)

    def reached(probabilities_C: list[float]) -> Answer:
        chosen = [i for i, probability in enumerate(probabilities_C) if probability >= thresholds[i]]
        return SetPrediction(
            tuple(labels[i] for i in chosen), tuple(probabilities_C[i] for i in chosen), tuple(probabilities_C)
        )

    def number(values: list[float]) -> Answer:
        return NumberPrediction(values[0])

    return {MULTI_LABEL: reached, REGRESSION: number}.get(task, best)
