"""What a server is asked about its own answers: the record of a prediction, and its true label.

Both wait for the store or the registry, in threads of their own: predictions never wait for these.
"""

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from fairlead import places
from fairlead.errors import ConfigError, NotFound, Overloaded
from fairlead.names import ModelRef
from fairlead.predictions.finding import find
from fairlead.predictions.ids import PredictionId
from fairlead.predictions.log import PredictionLog
from fairlead.registry import Feedback, Registry, open_registry
from fairlead.storage import open_store
from serving import metrics
from serving.asgi import Handler, Request, Response, json_response
from serving.desk import Desk
from serving.failures import InvalidRequest
from serving.jsonbody import read_body, read_object
from serving.questions import kind

EXAMPLE = '{"prediction_id": "...", "label": "billing"}'
FIELDS = ("prediction_id", "label", "index")
MAX_LABEL_BYTES, MAX_LABELS = 10_000, 1000
# The record of a younger prediction may still be with another process, or wait for the store.
SECONDS_TO_BE_WRITTEN = 900.0
NUM_THREADS, MAX_WAITING = 2, 32

Event = dict[str, Any]
Label = str | float | list[str]
Result = TypeVar("Result")


class JournalDoor:
    """The handlers of both."""

    def __init__(self, desk: Desk, log: PredictionLog | None) -> None:
        """`log` is None where no prediction is logged."""
        self._desk, self._log = desk, log
        self._threads = ThreadPoolExecutor(NUM_THREADS, thread_name_prefix="journal")
        self._waiting = 0
        self._registry: Registry | None = None

    def handlers(self) -> Sequence[tuple[str, str, Handler]]:
        """By method and path."""
        return (("GET", "/v2/predictions/{id}", self.prediction), ("POST", "/v2/feedback", self.feedback))

    def close(self) -> None:
        """Drop what waits."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        if self._registry is not None:
            self._registry.close()

    async def prediction(self, request: Request) -> Response:
        """What the log has of a prediction."""
        prediction = _parsed(request.parts["id"], "prediction")
        self._desk.flush()
        events = await self._off_loop(lambda: self._events(prediction))
        return json_response({"prediction_id": prediction.text, "events": events})

    async def feedback(self, request: Request) -> Response:
        """Keep the true label of a text that was predicted."""
        body = await read_body(request, lambda body: read_object(body, EXAMPLE))
        for name in body:
            if name not in FIELDS:
                raise InvalidRequest(f"{name}: there is no such field; known are {', '.join(FIELDS)}")
        prediction, label, index = _parsed(body.get("prediction_id"), "prediction_id"), _label(body), _index(body)
        self._desk.flush()
        status = await self._off_loop(lambda: self._keep(prediction, label, index))
        metrics.FEEDBACK.labels(status).inc()
        found = {"prediction_id": prediction.text, "index": index or 0, "status": status}
        return json_response(found, 202 if status == "waiting" else 200)

    async def _off_loop(self, work: Callable[[], Result]) -> Result:
        if self._waiting >= MAX_WAITING:
            raise Overloaded(f"server: {self._waiting} questions about predictions wait; send it again later")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        finally:
            self._waiting -= 1

    def _events(self, prediction: PredictionId) -> list[Event]:
        """What is known of a prediction here or in the store. Raises NotFound, saying why there is nothing."""
        if self._log is None:
            raise NotFound(
                f"prediction {prediction.text}: this server keeps no prediction log; "
                "start it with --prediction-log on to have one from now on"
            )
        if (recent := self._log.get(prediction.text)) is not None:
            return recent.events()
        repository = self._desk.models()
        projects = {repository.get(name).manifest.project for name in repository.names()}
        return find(open_store(places.store_url()), sorted(projects), prediction)

    def _keep(self, prediction: PredictionId, label: Label, index: int | None) -> str:
        try:
            events = self._events(prediction)
        except NotFound:
            young = time.time() - prediction.milliseconds / 1000 < SECONDS_TO_BE_WRITTEN
            if self._log is None or not young:
                raise
            self._open_registry().record_feedback([Feedback(prediction.text, index or 0, label)])
            return "waiting"
        if index is None and len(events) > 1:
            raise InvalidRequest(f"index: {len(events)} texts were answered; say which, 0 to {len(events) - 1}")
        if (index or 0) >= len(events):
            raise InvalidRequest(f"index: {index} is not one of the {len(events)} texts that were answered; correct it")
        data = events[index or 0]["data"]
        _check_kind(label, data["answer"])
        number = ModelRef.parse(data["version"]).number
        given = Feedback(prediction.text, index or 0, label, data["project"], number, data["answer"])
        return self._open_registry().record_feedback([given])[0]

    def _open_registry(self) -> Registry:
        if self._registry is None:
            self._registry = open_registry()
        return self._registry


def _parsed(value: object, field: str) -> PredictionId:
    try:
        return PredictionId.parse(value)
    except ConfigError as error:
        raise InvalidRequest(f"{field}: {error}") from error


def _index(body: dict[str, Any]) -> int | None:
    index = body.get("index")
    if index is not None and (type(index) is not int or not 0 <= index < 2**31):
        raise InvalidRequest(f"index: the place of a text, from 0, is expected, not {kind(index)}; correct it")
    return index


def _label(body: dict[str, Any]) -> Label:
    if "label" not in body:
        raise InvalidRequest(f"label: it is missing; send {EXAMPLE}")
    label = body["label"]
    if isinstance(label, bool) or not isinstance(label, str | int | float | list):
        raise InvalidRequest(
            f"label: a class, a list of classes or a number is expected, not {kind(label)}; correct it"
        )
    names = label if isinstance(label, list) else [label] if isinstance(label, str) else []
    if len(names) > MAX_LABELS or not all(isinstance(name, str) for name in names):
        raise InvalidRequest(f"label: a list holds at most {MAX_LABELS:,} names of classes; correct it")
    if sum(len(name) for name in names) > MAX_LABEL_BYTES or any("\0" in name for name in names):
        raise InvalidRequest(f"label: it is over {MAX_LABEL_BYTES:,} characters or has a null character; correct it")
    if isinstance(label, int | float) and not math.isfinite(label):
        raise InvalidRequest("label: the number is not finite; correct it")
    return float(label) if isinstance(label, int) else label


def _check_kind(label: Label, answer: dict[str, Any]) -> None:
    """A label is of the form of what was predicted; a class that the model does not know is welcome."""
    expected = {"label": str, "labels": list, "value": float}
    name = next((name for name in expected if name in answer), None)
    if name is None:
        raise InvalidRequest("label: what this model answers has no true label; send none")
    if not isinstance(label, expected[name]):
        words = {"label": "a class", "labels": "a list of classes", "value": "a number"}[name]
        raise InvalidRequest(f"label: {words} was predicted, so {words} is expected, not {kind(label)}; correct it")
