"""What a server keeps of its answers, and all else that observes its requests."""

import argparse
from typing import Any

from fairlead import places
from fairlead.formats.digests import of_bytes
from fairlead.inference.generation import Continuation
from fairlead.predictions.config import PredictionLogConfig
from fairlead.predictions.events import Answered
from fairlead.predictions.log import PredictionLog
from fairlead.storage import open_store
from serving import metrics
from serving.answers import Answer
from serving.exchange import Exchange
from serving.gathering import Gathering
from serving.kserve_metrics import KserveMetrics
from serving.metrics_observers import InFlight, RequestMetrics
from serving.observer import Observer
from serving.requestlog import RequestLog
from serving.tracing import open_traces

# With the seconds of the drain before it, within what a pod is given to end.
SECONDS_TO_WRITE = 4.0
# The form that a continuation is kept in, by the setting of texts.
KEPT = {"none": "", "hash": "text_sha256", "full": "text"}
WRITTEN = {"text", "text_sha256"}


class PredictionJournal(Observer):
    """Hands every answer to the prediction log."""

    def __init__(self, log: PredictionLog) -> None:
        self.log = log
        self._text = log.config.text

    def ended(self, exchange: Exchange) -> None:
        """Keep the answer, where there is one."""
        answered = exchange.answered
        if answered is None:
            return
        stamp, items, generation = answered.stamp, answered.question.items, answered.question.generation
        manifest = stamp.manifest
        # Token ids are no text, and what they stand for is as private as one.
        texts = [item for item in items if isinstance(item, str)]
        kept = self._text if texts else "none"
        self.log.put(
            Answered(
                prediction_id=stamp.prediction_id,
                project=manifest.project,
                model=stamp.model_name,
                version=manifest.name,
                digest=manifest.digest,
                variant=stamp.variant,
                task=manifest.training.task,
                seconds=exchange.done - exchange.started,
                # Not the answers themselves: these hold a probability for every class.
                answers=[self._said(answer) for answer in answered.answers],
                texts=texts if kept == "full" else None,
                digests=[of_bytes(text.encode()) for text in texts] if kept == "hash" else None,
                parameters={} if generation is None else generation.to_dict(),
            )
        )
        metrics.LOG_PENDING.set(self.log.pending)

    def close(self) -> None:
        """Write what waits."""
        self.log.close(SECONDS_TO_WRITE)

    def _said(self, answer: Answer) -> dict[str, Any]:
        """The answer; what a language model wrote is as private as what it was given."""
        if not isinstance(answer, Continuation):
            return answer.to_dict()
        left_out = WRITTEN - {KEPT[self._text]}
        return {name: value for name, value in answer.to_record().items() if name not in left_out}


class Journal:
    """Everything that observes the requests of one process. To be made after a fork: it has threads."""

    def __init__(self, options: argparse.Namespace) -> None:
        """Raises ConfigError for a store that cannot be one, or a collector without the packages for it."""
        self.log: PredictionLog | None = None
        """The prediction log; None when it is off."""
        told: list[Observer] = [KserveMetrics(), RequestMetrics()]
        if options.log_requests != "off":
            texts = options.log_requests == "text"
            told.append(RequestLog(options.log_format, texts, metrics.LINES_DROPPED.inc))
        if options.prediction_log == "on":
            config = PredictionLogConfig(text=options.log_text, flush_seconds=options.log_flush_seconds)
            self.log = PredictionLog(open_store(places.store_url()), config, self._count)
            told.append(PredictionJournal(self.log))
        self.observers: list[Observer] = [InFlight(), Gathering(told)]
        """What a Desk tells of its requests."""
        # What a trace needs is in the request's own context.
        if (traces := open_traces()) is not None:
            self.observers.append(traces)

    def _count(self, outcome: str, number: int) -> None:
        metrics.LOG_RECORDS.labels(outcome).inc(number)
        if self.log is not None:
            metrics.LOG_PENDING.set(self.log.pending)

    def close(self) -> None:
        """Write what waits: of the prediction log, the request log, the traces."""
        for observer in reversed(self.observers):
            observer.close()
