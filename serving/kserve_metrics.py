"""The metrics of kserve's own server, by the same names, for the dashboards that are built on them."""

from functools import lru_cache

from prometheus_client import Histogram

from serving.exchange import Exchange
from serving.metrics import REGISTRY
from serving.observer import Observer

PREPROCESS = Histogram("request_preprocess_seconds", "pre-process request latency", ["model_name"], registry=REGISTRY)
PREDICT = Histogram("request_predict_seconds", "predict request latency", ["model_name"], registry=REGISTRY)
POSTPROCESS = Histogram(
    "request_postprocess_seconds", "post-process request latency", ["model_name"], registry=REGISTRY
)


# Finding a series by its labels takes longer than counting.
@lru_cache(1024)
def _of(histogram: Histogram, model: str) -> Histogram:
    return histogram.labels(model)


class KserveMetrics(Observer):
    """Counts the phases of every request whose model is served, as kserve's model class does."""

    def ended(self, exchange: Exchange) -> None:
        """The request ended."""
        if exchange.asked:
            _of(PREPROCESS, exchange.model).observe(exchange.asked - exchange.started)
        if exchange.answered:
            _of(PREDICT, exchange.model).observe(exchange.done - exchange.asked)
            _of(POSTPROCESS, exchange.model).observe(exchange.ended - exchange.done)
