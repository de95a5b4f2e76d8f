"""The metrics of kserve's own server, by the same names, for the dashboards that are built on them."""

from prometheus_client import Histogram

from serving.exchange import Exchange
from serving.metrics import REGISTRY

PREPROCESS = Histogram("request_preprocess_seconds", "pre-process request latency", ["model_name"], registry=REGISTRY)
PREDICT = Histogram("request_predict_seconds", "predict request latency", ["model_name"], registry=REGISTRY)
POSTPROCESS = Histogram(
    "request_postprocess_seconds", "post-process request latency", ["model_name"], registry=REGISTRY
)


class KserveMetrics:
    """Counts the phases of every request whose model is served, as kserve's model class does."""

    def began(self, exchange: Exchange) -> None:
        """Nothing is known yet."""

    def asked(self, exchange: Exchange) -> None:
        """The request is read."""
        PREPROCESS.labels(exchange.model).observe(exchange.asked - exchange.started)

    def ended(self, exchange: Exchange) -> None:
        """The request ended."""
        if exchange.answered:
            PREDICT.labels(exchange.model).observe(exchange.done - exchange.asked)
            POSTPROCESS.labels(exchange.model).observe(exchange.ended - exchange.done)
