"""The adapter between KServe's model interface and Fairlead's engine."""

import logging
import time
from typing import Any

from kserve import InferRequest, InferResponse, Model
from kserve.errors import InvalidInput

from fairlead.inference.repository import Served
from serving.answers import Stamp, answer
from serving.questions import PROBABILITIES, Question, read_v1, read_v2

logger = logging.getLogger("fairlead.serving")


class ServedModel(Model):  # type: ignore[misc]
    """A model version that KServe's routes can call."""

    def __init__(self, served: Served) -> None:
        """The version is loaded already."""
        super().__init__(served.name, return_response_headers=True)
        self.manifest = served.manifest
        self._served = served
        self.ready = True

    def close(self) -> None:
        """Drop predictions that still queue."""
        self._served.close()

    def get_input_types(self) -> list[dict[str, Any]]:
        """The signature's inputs."""
        return [tensor.to_dict() for tensor in self.manifest.signature.inputs]

    def get_output_types(self) -> list[dict[str, Any]]:
        """The signature's outputs, and the one that is given on request."""
        outputs = [tensor.to_dict() for tensor in self.manifest.signature.outputs]
        if not self.manifest.labels:
            return outputs
        on_request = {"name": PROBABILITIES, "datatype": "FP32", "shape": [-1, len(self.manifest.labels)]}
        return [*outputs, on_request]

    def serves(self, version: str) -> bool:
        """Whether `version` names the version served: `support_topics_v3`, `v3` or `3`."""
        number = self.manifest.version
        return version in (self.manifest.name, f"v{number}", str(number))

    async def preprocess(self, payload: Any, headers: dict[str, str] | None = None) -> Question:
        """Read and check the request."""
        outputs = tuple(tensor.name for tensor in self.manifest.signature.outputs)
        read = read_v2 if isinstance(payload, InferRequest) else read_v1
        return read(payload, outputs, bool(self.manifest.labels))

    async def predict(
        self,
        payload: Question,
        headers: dict[str, str] | None = None,
        response_headers: dict[str, str] | None = None,
    ) -> dict[str, Any] | InferResponse:
        """Answer off the event loop."""
        stamp = Stamp(self.name, self.manifest, self._served.variant)
        started = time.perf_counter()
        predictions = await self._served.predict(payload.texts)
        if response_headers is not None:
            response_headers.update(stamp.headers())
        logger.info(
            "prediction id=%s version=%s digest=%s texts=%d seconds=%.4f",
            stamp.prediction_id,
            self.manifest.name,
            self.manifest.digest,
            len(predictions),
            time.perf_counter() - started,
        )
        return answer(payload, predictions, stamp)

    async def explain(self, payload: Any, headers: dict[str, str] | None = None) -> None:
        """Refuse: kserve has this route for every model, and would call the caller's mistake ours."""
        raise InvalidInput("explain: this model gives no explanations; use :predict")
