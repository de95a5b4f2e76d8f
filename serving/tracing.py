"""OpenTelemetry traces, when OTEL_EXPORTER_OTLP_ENDPOINT names a collector; otherwise nothing of it is imported.

A request is a span, child of the caller's when it sent a W3C traceparent; what the engine did for it (tokenize, queue,
compute) are spans under it. The standard variables set the rest: OTEL_SERVICE_NAME, OTEL_TRACES_SAMPLER and others.
"""

import os
import time
from typing import Any

from fairlead.errors import ConfigError
from fairlead.inference.observing import MARKS, Marks
from serving.exchange import Exchange
from serving.observer import Observer

ENDPOINT_ENVS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
SERVICE = "fairlead"
# The headers of W3C Trace Context.
CARRIED = ("traceparent", "tracestate")


class RequestTraces(Observer):
    """Makes the spans of each request and sends them in the background."""

    def __init__(self) -> None:
        """Read the standard variables. Raises ConfigError when the packages are not here."""
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import SERVICE_NAME, Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
            from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
        except ImportError as error:
            raise ConfigError(
                f"{ENDPOINT_ENVS[0]}: OpenTelemetry is not here ({error.name}); install fairlead[tracing], or unset it"
            ) from error
        named = {} if os.environ.get("OTEL_SERVICE_NAME") else {SERVICE_NAME: SERVICE}
        self._provider = TracerProvider(resource=Resource.create(named))
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer(SERVICE)
        self._propagator = TraceContextTextMapPropagator()

    def began(self, exchange: Exchange) -> None:
        """Ask the engine to note when it does what, in the request's own context."""
        MARKS.set(Marks())

    def ended(self, exchange: Exchange) -> None:
        """Make the spans, now that everything is known."""
        from opentelemetry.trace import SpanKind, StatusCode, set_span_in_context

        clock = time.time_ns() - int(time.perf_counter() * 1e9)
        carried = {name: value for name in CARRIED if (value := exchange.header(name))}
        span = self._tracer.start_span(
            f"infer {exchange.served.name}" if exchange.served else "infer",
            self._propagator.extract(carried),
            SpanKind.SERVER,
            attributes=_attributes(exchange),
            start_time=_moment(clock, exchange.started),
        )
        if exchange.status >= 500:
            span.set_status(StatusCode.ERROR, exchange.error)
        marks = MARKS.get()
        if marks is not None and span.is_recording():
            inside = set_span_in_context(span)
            for name, begun, over in _parts(marks):
                part = self._tracer.start_span(name, inside, start_time=_moment(clock, begun))
                part.end(_moment(clock, over))
        span.end(_moment(clock, exchange.ended))

    def close(self) -> None:
        """Send what waits."""
        self._provider.shutdown()


def _parts(marks: Marks) -> list[tuple[str, float, float]]:
    """The parts of a request that came to be: name, begin, end."""
    # A long request is computed while its end is still read.
    waited = (marks.read, marks.computing) if marks.read <= marks.computing else (0.0, 0.0)
    parts = [
        ("tokenize", marks.reading, marks.read),
        ("queue", *waited),
        ("compute", marks.computing, marks.computed),
    ]
    return [part for part in parts if part[1] and part[2]]


def _moment(clock: int, at: float) -> int:
    """time.perf_counter() `at` in nanoseconds since the epoch."""
    return clock + int(at * 1e9)


def _attributes(exchange: Exchange) -> dict[str, Any]:
    attributes: dict[str, Any] = {"fairlead.protocol": exchange.door, "http.response.status_code": exchange.status}
    if (served := exchange.served) is not None:
        attributes |= {
            "fairlead.model": served.name,
            "fairlead.version": served.manifest.name,
            "fairlead.digest": served.manifest.digest,
            "fairlead.variant": served.variant,
        }
    if (answered := exchange.answered) is not None:
        attributes["fairlead.prediction_id"] = answered.stamp.prediction_id
        attributes["fairlead.texts"] = len(answered.answers)
    return attributes


def open_traces() -> RequestTraces | None:
    """The tracer, None when no collector is named."""
    return RequestTraces() if any(os.environ.get(name) for name in ENDPOINT_ENVS) else None
