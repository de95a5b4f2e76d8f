"""The metrics of kserve's own server, by the same names, for the dashboards that are built on them."""

from prometheus_client import CollectorRegistry, GCCollector, Histogram, PlatformCollector, ProcessCollector

from serving.exchange import Exchange

# Not the process's default: whoever imports kserve beside this has these names there already.
REGISTRY = CollectorRegistry()
ProcessCollector(registry=REGISTRY)
PlatformCollector(registry=REGISTRY)
GCCollector(registry=REGISTRY)
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
