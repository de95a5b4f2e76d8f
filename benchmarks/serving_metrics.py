"""What a server of Fairlead says of its own times: histograms of its `/metrics`, before and after a turn."""

import http.client
from collections import Counter

from prometheus_client.parser import text_string_to_metric_families

from benchmarks.serving_load import Address

REQUESTS, LATE = "fairlead_request_seconds", "fairlead_event_loop_late_seconds"


class Times:
    """Observations of some histograms, added up over turns."""

    def __init__(self, address: Address, **labels: dict[str, str]) -> None:
        """`labels` that the series of a histogram must have, by its name."""
        self._address, self._labels = address, labels
        self._counts: dict[str, Counter[float]] = {name: Counter() for name in labels}

    def __enter__(self) -> None:
        """A turn begins."""
        for name, bounds in self._read().items():
            self._counts[name].subtract(bounds)

    def __exit__(self, *reason: object) -> None:
        """It ended."""
        for name, bounds in self._read().items():
            self._counts[name].update(bounds)

    def percentile_ms(self, name: str, rank: float) -> float | None:
        """As Prometheus' histogram_quantile has it: on a line within its bucket. None of nothing."""
        bounds = sorted(self._counts[name].items())
        wanted, below, begin = (bounds[-1][1] if bounds else 0) * rank / 100, 0.0, 0.0
        for end, count in bounds:
            if wanted and count >= wanted:
                share = (wanted - below) / (count - below) if end < float("inf") else 0.0
                return 1000 * (begin + share * (end - begin if share else 0.0))
            begin, below = end, count
        return None

    def share_above(self, name: str, seconds: float) -> float | None:
        """Of all that were observed; `seconds` is the bound of a bucket. None of nothing."""
        counts = self._counts[name]
        return 1 - counts[seconds] / counts[float("inf")] if counts[float("inf")] else None

    def _read(self) -> dict[str, Counter[float]]:
        client = http.client.HTTPConnection(self._address.host, self._address.port, timeout=60)
        client.request("GET", "/metrics")
        text = client.getresponse().read().decode()
        client.close()
        found: dict[str, Counter[float]] = {name: Counter() for name in self._labels}
        for family in text_string_to_metric_families(text):
            for sample in family.samples if family.name in found else ():
                if sample.name.endswith("_bucket") and self._labels[family.name].items() <= sample.labels.items():
                    found[family.name][float(sample.labels["le"])] += sample.value
        return found
