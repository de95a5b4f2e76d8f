"""What a caller gets: predictions in the words of V1 and of the Open Inference Protocol.

Every answer says which prediction it is and which version gave it.
"""

import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from kserve import InferOutput, InferResponse

from fairlead.formats.model import ModelManifest
from fairlead.inference.answers import Answer
from fairlead.predictions.ids import IdSource
from serving.questions import PROBABILITIES, Question


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

    def headers(self) -> dict[str, str]:
        """As HTTP headers."""
        return {f"x-fairlead-{name.replace('_', '-')}": value for name, value in self.parameters().items()}


def answer(question: Question, predictions: Sequence[Answer], stamp: Stamp) -> dict[str, Any] | InferResponse:
    """The answer in the protocol of the question."""
    if question.request is None:
        return _answer_v1(question, predictions, stamp)
    return InferResponse(
        response_id=question.request.id or stamp.prediction_id,
        model_name=stamp.model_name,
        model_version=stamp.manifest.name,
        infer_outputs=[_tensor(name, predictions, stamp.manifest) for name in question.outputs],
        parameters=stamp.parameters(),
        use_binary_outputs=question.request.use_binary_outputs,
        requested_outputs=_requested(question),
    )


def _requested(question: Question) -> list[Any] | None:
    """kserve reads from these which output goes out as binary, and sends no other output."""
    requested = question.request.request_outputs if question.request else None
    # An output added by a parameter would be left out: then all take the request's own form.
    return requested if requested and len(requested) == len(question.outputs) else None


def _answer_v1(question: Question, predictions: Sequence[Answer], stamp: Stamp) -> dict[str, Any]:
    rows: list[dict[str, Any]] = [p.to_dict() for p in predictions]
    if PROBABILITIES in question.outputs:
        for row, prediction in zip(rows, predictions, strict=True):
            row[PROBABILITIES] = dict(zip(stamp.manifest.labels, prediction.probabilities, strict=True))
    return {"predictions": rows, "model_name": stamp.model_name, **stamp.parameters()}


def _tensor(name: str, predictions: Sequence[Answer], manifest: ModelManifest) -> InferOutput:
    count, labels = len(predictions), manifest.labels
    if name != PROBABILITIES:
        datatype = next(tensor.datatype for tensor in manifest.signature.outputs if tensor.name == name)
        return InferOutput(name, [count], datatype, data=[_element(p.to_dict()[name]) for p in predictions])
    # A column's class is its place, so the classes go with them; V2 parameters hold no lists.
    parameters = {"labels": json.dumps(labels, ensure_ascii=False)}
    data = [probability for p in predictions for probability in p.probabilities]
    return InferOutput(name, [count, len(labels)], "FP32", data=data, parameters=parameters)


def _element(value: Any) -> Any:
    """A value as an element of a tensor: a list, which may be of any length, goes as JSON."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list) else value
