"""KServe's V1 protocol: `{"instances": ["text", ...]}` in, `{"predictions": [...]}` out."""

from collections.abc import Sequence
from typing import Any

from serving.answers import Stamp
from serving.failures import InvalidRequest
from serving.interface import EMBEDDING, NORMALIZE, PROBABILITIES, Interface
from serving.questions import Question, kind, read_generation, read_items, read_parameters, wanted_outputs

EXAMPLE = '{"instances": ["text", ...]}'


def read(body: dict[str, Any], interface: Interface) -> Question:
    """Read `{"instances": ["text", ...], "parameters": {"probabilities": true}}`.

    An instance is a text, or the list of its token ids. Raises InvalidRequest, which names the field.
    """
    if "instances" not in body:
        raise InvalidRequest(f"instances: it is missing; send {EXAMPLE}")
    instances = body["instances"]
    if not isinstance(instances, list):
        raise InvalidRequest(f"instances: a list of texts is expected, not {kind(instances)}; put the text in a list")
    parameters = read_parameters(body.get("parameters"), interface)
    items, outputs = read_items(instances, "instances", interface), wanted_outputs((), parameters, interface)
    generation = read_generation(parameters, items, interface)
    return Question(items, outputs, generation=generation, normalize=bool(parameters.get(NORMALIZE)))


def written(question: Question, answers: Sequence[Any], stamp: Stamp) -> dict[str, Any]:
    """The answer: a row for each instance."""
    rows: list[dict[str, Any]] = [answer.to_dict() for answer in answers]
    if PROBABILITIES in question.outputs:
        for row, answer in zip(rows, answers, strict=True):
            row[PROBABILITIES] = dict(zip(stamp.manifest.labels, answer.probabilities, strict=True))
    if EMBEDDING in question.outputs:
        for row, answer in zip(rows, answers, strict=True):
            row[EMBEDDING] = answer.embedding.tolist()
    return {"predictions": rows, "model_name": stamp.model_name, **stamp.parameters()}
