"""What a server counts and measures, for Prometheus.

Names begin with `fairlead_`; docs/serving.md lists them. Labels come from the versions that are served and from fixed
sets, never from a caller's words, so that nobody makes series by asking for models that are not there. With
PROMETHEUS_MULTIPROC_DIR set before this is imported, the workers of one server share a folder and each answers for all.
"""

import functools
import os
from collections.abc import Iterator

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    exposition,
    multiprocess,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

MULTIPROC_ENV = "PROMETHEUS_MULTIPROC_DIR"

VERSION = ("model", "version", "variant")
# Seconds of a request, close together around the 10 ms that a refusal may take.
REQUEST_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
# From the overhead of a request to a deadline; and from a short text's tokens to a long batch.
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
SHORT_SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
TOKENS = (16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768)

# Not the process's default: whoever imports kserve beside this has some of its names there already.
REGISTRY = CollectorRegistry()
# Of one process; with several workers they would be those of whichever answers.
ProcessCollector(registry=REGISTRY)
PlatformCollector(registry=REGISTRY)
GCCollector(registry=REGISTRY)

_counter = functools.partial(Counter, registry=REGISTRY)
_histogram = functools.partial(Histogram, registry=REGISTRY)
# Of the workers that live, in all.
_gauge = functools.partial(Gauge, registry=REGISTRY, multiprocess_mode="livesum")

REQUESTS = _counter("fairlead_requests", "Requests that ended, by HTTP status.", [*VERSION, "protocol", "status"])
REQUEST_SECONDS = _histogram(
    "fairlead_request_seconds",
    "From a request's first byte to its answer or refusal on the socket, by HTTP status.",
    [*VERSION, "protocol", "status"],
    buckets=REQUEST_BUCKETS,
)
LOOP_LATE_SECONDS = _histogram(
    "fairlead_event_loop_late_seconds",
    "How much later than due the event loop turns: what has come waits so long before it is read.",
    buckets=REQUEST_BUCKETS,
)
TEXTS = _counter("fairlead_texts", "Texts answered.", VERSION)
IN_FLIGHT = _gauge("fairlead_requests_in_flight", "Requests being answered.", ["protocol"])

QUEUE_TOKENS = _gauge("fairlead_queue_tokens", "Tokens accepted and not answered.", VERSION)
QUEUE_SECONDS = _histogram(
    "fairlead_queue_seconds", "Wait of a batch's oldest text, tokenizing included.", VERSION, buckets=SECONDS
)
BATCH_TOKENS = _histogram("fairlead_batch_tokens", "Tokens of a batch, without padding.", VERSION, buckets=TOKENS)
BATCH_TEXTS = _counter("fairlead_batch_texts", "Texts computed, in all batches.", VERSION)
PADDING_TOKENS = _counter("fairlead_padding_tokens", "Tokens of padding computed, in all batches.", VERSION)
TOKENIZE_SECONDS = _counter("fairlead_tokenize_seconds", "Time spent tokenizing.", VERSION)
COMPUTE_SECONDS = _histogram(
    "fairlead_compute_seconds", "Time of a batch in the model.", VERSION, buckets=SHORT_SECONDS
)
FAILED_TEXTS = _counter("fairlead_failed_texts", "Texts that the model failed on.", VERSION)
REFUSED = _counter(
    "fairlead_refused", "Requests refused (overloaded) or given up (deadline, cancelled).", [*VERSION, "reason"]
)
CAPACITY = _gauge("fairlead_capacity_texts_per_second", "What the version can do here, as measured.", VERSION)
CAPACITY_TOKENS = _gauge("fairlead_capacity_tokens_per_second", "The same in tokens.", VERSION)
STATE = _gauge("fairlead_model_state", "Processes in which the version is in this state.", [*VERSION, "state"])

LOG_RECORDS = _counter("fairlead_prediction_log_records", "Records of the prediction log.", ["outcome"])
LOG_PENDING = _gauge("fairlead_prediction_log_pending", "Records that are not written yet.")
LINES_DROPPED = _counter("fairlead_request_log_dropped", "Lines of the log for which there was no room.")
FEEDBACK = _counter("fairlead_feedback", "True labels received, by what became of them.", ["outcome"])

LOAD = "fairlead_machine_load_ratio"
STATES = ("loading", "ready", "failed")


class MachineLoad(Collector):
    """The machine's load at the moment of the scrape: the same for all workers, so none of them records it."""

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """One sample."""
        cpus = len(os.sched_getaffinity(0))
        text = "Processes that run or wait, over the last minute, per CPU that this server may use."
        yield GaugeMetricFamily(LOAD, text, value=os.getloadavg()[0] / cpus)


REGISTRY.register(MachineLoad())


def exposed(accept: str | None) -> tuple[bytes, str]:
    """All metrics and their content type: OpenMetrics where the scraper takes it, else Prometheus' text format."""
    encoder, content_type = exposition.choose_encoder(accept or "")
    return encoder(_registry()), content_type


def _registry() -> CollectorRegistry:
    if not os.environ.get(MULTIPROC_ENV):
        return REGISTRY
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry)
    registry.register(MachineLoad())
    return registry


def worker_ended(pid: int) -> None:
    """Take a dead worker's gauges out of the sums; to be called by the process that started it."""
    if os.environ.get(MULTIPROC_ENV):
        multiprocess.mark_process_dead(pid)


def set_state(model: str, version: str, variant: str, state: str) -> None:
    """Say which of STATES a version is in, in this process; none of them once it is unloaded."""
    for name in STATES:
        STATE.labels(model, version, variant, name).set(name == state)
