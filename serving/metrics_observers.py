"""Counts requests and batches into the metrics: two observers of the doors, one of the engine."""

from functools import lru_cache
from typing import NamedTuple

from fairlead.inference.observing import Batch
from fairlead.inference.writing import ServedWriter
from serving import metrics
from serving.exchange import Exchange
from serving.observer import Observer

NO_VERSION = ("", "", "")


class InFlight(Observer):
    """Counts the requests that are being answered."""

    def began(self, exchange: Exchange) -> None:
        """One more."""
        _in_flight(exchange.door).inc()

    def ended(self, exchange: Exchange) -> None:
        """One less."""
        _in_flight(exchange.door).dec()


class RequestMetrics(Observer):
    """Counts every request, whatever became of it."""

    def ended(self, exchange: Exchange) -> None:
        """It ended, well or not."""
        door, served = exchange.door, exchange.served
        labels = NO_VERSION
        if served is not None:
            labels = (served.name, served.manifest.name, served.variant)
            if not isinstance(served, ServedWriter):
                _of_version(*labels).queue_tokens.set(served.room.tokens + served.room.long_tokens)
        _requests(*labels, door, exchange.status).inc()
        _seconds(*labels, door, exchange.status).observe(exchange.written - exchange.started)
        if exchange.answered is not None:
            _of_version(*labels).texts.inc(len(exchange.answered.answers))


class EngineMetrics:
    """Counts the engine's batches, and the requests that it refused."""

    def on_batch(self, batch: Batch) -> None:
        """A batch was computed."""
        of = _of_version(batch.model, batch.version, batch.variant)
        of.queue_seconds.observe(batch.queue_seconds)
        of.compute_seconds.observe(batch.compute_seconds)
        of.batch_tokens.observe(batch.tokens)
        of.batch_texts.inc(batch.texts)
        of.padding_tokens.inc(batch.padded_tokens - batch.tokens)
        of.tokenize_seconds.inc(batch.tokenize_seconds)
        if batch.failed:
            metrics.FAILED_TEXTS.labels(batch.model, batch.version, batch.variant).inc(batch.failed)

    def on_refused(self, model: str, version: str, variant: str, reason: str) -> None:
        """A request was not accepted, or given up."""
        metrics.REFUSED.labels(model, version, variant, reason).inc()


class _OfVersion(NamedTuple):
    """The series of one version: looking one up by its labels takes longer than counting."""

    texts: metrics.Counter
    queue_tokens: metrics.Gauge
    queue_seconds: metrics.Histogram
    batch_tokens: metrics.Histogram
    batch_texts: metrics.Counter
    padding_tokens: metrics.Counter
    tokenize_seconds: metrics.Counter
    compute_seconds: metrics.Histogram


# Bounded by what is served: a server that swaps versions for weeks meets some hundred.
@lru_cache(1024)
def _of_version(model: str, version: str, variant: str) -> _OfVersion:
    named = (
        metrics.TEXTS,
        metrics.QUEUE_TOKENS,
        metrics.QUEUE_SECONDS,
        metrics.BATCH_TOKENS,
        metrics.BATCH_TEXTS,
        metrics.PADDING_TOKENS,
        metrics.TOKENIZE_SECONDS,
        metrics.COMPUTE_SECONDS,
    )
    return _OfVersion(*(metric.labels(model, version, variant) for metric in named))


@lru_cache(4096)
def _requests(model: str, version: str, variant: str, door: str, status: int) -> metrics.Counter:
    return metrics.REQUESTS.labels(model, version, variant, door, status)


@lru_cache(4096)
def _seconds(model: str, version: str, variant: str, door: str, status: int) -> metrics.Histogram:
    return metrics.REQUEST_SECONDS.labels(model, version, variant, door, status)


@lru_cache(16)
def _in_flight(door: str) -> metrics.Gauge:
    return metrics.IN_FLIGHT.labels(door)
