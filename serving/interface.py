"""What one served version takes and gives, in the words of the Open Inference Protocol."""

import json
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

from fairlead.formats.model import ModelManifest
from fairlead.inference.loading import Model
from fairlead.inference.writing import ServedWriter
from fairlead.names import CLASSIFICATION, LANGUAGE_MODELING, MULTI_LABEL, REGRESSION, TaskName

TEXT, TOKEN_IDS, TOKEN_MASK = "text", "input_ids", "attention_mask"
LABEL, PROBABILITY, PROBABILITIES = "label", "probability", "probabilities"
EMBEDDING, NORMALIZE = "embedding", "normalize"
PLATFORMS: dict[TaskName, str] = {
    CLASSIFICATION: "fairlead_text_classification",
    MULTI_LABEL: "fairlead_text_multi_label_classification",
    REGRESSION: "fairlead_text_regression",
    LANGUAGE_MODELING: "fairlead_text_generation",
}


@dataclass(frozen=True)
class Interface:
    """Inputs and outputs of a version, read from its manifest once."""

    manifest: ModelManifest
    """The version's."""
    variant: str
    """The variant that answers."""
    num_token_ids: int
    """Ids of tokens go from 0 to below this; 0 where the model takes texts only."""
    embedding_size: int
    """Numbers of an embedding; 0 where the variant gives none."""
    outputs: tuple[str, ...] = field(init=False)
    """What an answer has when its caller names no outputs."""
    on_request: tuple[str, ...] = field(init=False)
    """What it has besides, when its caller asks."""
    datatypes: dict[str, str] = field(init=False)
    """Datatype of each output."""
    labels_json: str = field(init=False)
    """Names of the classes as a JSON list: the parameter that goes with `probabilities`."""

    def __post_init__(self) -> None:
        tensors = self.manifest.signature.outputs
        on_request = {PROBABILITIES: "FP32"} if self.manifest.labels else {}
        on_request |= {EMBEDDING: "FP32"} if self.embedding_size else {}
        for name, value in {
            "outputs": tuple(tensor.name for tensor in tensors),
            "on_request": tuple(on_request),
            "datatypes": {tensor.name: tensor.datatype for tensor in tensors} | on_request,
            "labels_json": json.dumps(self.manifest.labels, ensure_ascii=False),
        }.items():
            object.__setattr__(self, name, value)

    @property
    def generates(self) -> bool:
        """Whether it continues texts."""
        return self.manifest.training.writes_text

    @property
    def known_outputs(self) -> tuple[str, ...]:
        """Everything that may be asked for."""
        return (*self.outputs, *self.on_request)

    def metadata(self, name: str) -> dict[str, Any]:
        """The model's metadata under its name on the endpoint, as V2 has it."""
        signature = self.manifest.signature
        inputs = [tensor.to_dict() for tensor in signature.inputs]
        outputs = [tensor.to_dict() for tensor in signature.outputs]
        widths = {PROBABILITIES: len(self.manifest.labels), EMBEDDING: self.embedding_size}
        outputs += [{"name": one, "datatype": "FP32", "shape": [-1, widths[one]]} for one in self.on_request]
        return {
            "name": name,
            "versions": [self.manifest.name],
            "platform": PLATFORMS[LANGUAGE_MODELING if self.generates else self.manifest.training.task],
            "inputs": inputs,
            "outputs": outputs,
        }


_INTERFACES: "WeakKeyDictionary[Model, Interface]" = WeakKeyDictionary()


def interface_of(served: Model) -> Interface:
    """The interface of what is served; kept as long as that is."""
    known = _INTERFACES.get(served)
    if known is None:
        # Prompts are texts only.
        sizes = (0, 0)
        if not isinstance(served, ServedWriter):
            sizes = (served.engine.num_token_ids, served.engine.embedding_size)
        known = _INTERFACES[served] = Interface(served.manifest, served.variant, *sizes)
    return known
