"""What a caller gets: the columns of an answer, and what says which prediction it is and which version gave it."""

import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fairlead.formats.model import ModelManifest
from fairlead.inference.answers import Answer as Labelled
from fairlead.inference.answers import Embedded
from fairlead.inference.generation import Continuation
from fairlead.predictions.ids import IdSource
from serving.interface import EMBEDDING, PROBABILITIES, Interface

# What a model says of a text, or how it goes on.
Answer = Labelled | Embedded | Continuation
HEADERS = {
    name: f"x-fairlead-{name.replace('_', '-')}" for name in ("prediction_id", "model_version", "digest", "variant")
}


@functools.cache
def prediction_ids() -> IdSource:
    """This process's ids; made at the first answer, so that workers that were forked have their own."""
    return IdSource()


@dataclass(frozen=True)
class Stamp:
    """What every answer carries."""

    model_name: str
    manifest: ModelManifest
    variant: str
    prediction_id: str = field(default_factory=lambda: prediction_ids().next())

    def parameters(self) -> dict[str, str]:
        """As V2 response parameters."""
        return {
            "prediction_id": self.prediction_id,
            "model_version": self.manifest.name,
            "digest": self.manifest.digest,
            "variant": self.variant,
        }

    def headers(self) -> list[tuple[str, str]]:
        """As HTTP headers, or metadata of gRPC."""
        return [(HEADERS[name], value) for name, value in self.parameters().items()]

    def http_headers(self) -> list[tuple[bytes, bytes]]:
        """The same as bytes."""
        return [(name.encode(), value.encode()) for name, value in self.headers()]


@dataclass(frozen=True, slots=True)
class Column:
    """One output tensor, its elements as JSON would have them."""

    name: str
    """Name of the output."""
    datatype: str
    """BYTES, BOOL or FP32."""
    shape: list[int]
    """Texts, and where there are several numbers for each, how many."""
    data: list[Any]
    """Elements, flat: strings of BYTES, truths of BOOL, else numbers."""
    parameters: dict[str, str] = field(default_factory=dict)
    """What goes with it."""


def columns(outputs: Sequence[str], answers: Sequence[Answer], interface: Interface) -> list[Column]:
    """The output tensors of an answer, in the order asked for."""
    rows = [answer.to_dict() for answer in answers]
    return [
        WIDE[name](answers, interface)
        if name in WIDE
        else Column(name, interface.datatypes[name], [len(rows)], [_element(row[name]) for row in rows])
        for name in outputs
    ]


def _probabilities(answers: Sequence[Any], interface: Interface) -> Column:
    shape = [len(answers), len(interface.manifest.labels)]
    data = [probability for answer in answers for probability in answer.probabilities]
    # A column's class is its place, so the classes go with them; V2 parameters hold no lists.
    return Column(PROBABILITIES, "FP32", shape, data, {"labels": interface.labels_json})


def _embeddings(answers: Sequence[Any], interface: Interface) -> Column:
    data = np.concatenate([answer.embedding for answer in answers]).tolist()
    return Column(EMBEDDING, "FP32", [len(answers), interface.embedding_size], data)


# Outputs with more than one number a text.
WIDE = {PROBABILITIES: _probabilities, EMBEDDING: _embeddings}


def _element(value: Any) -> Any:
    """A value as an element of a tensor: a list, which may be of any length, goes as JSON."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list) else value
