from typing import Any

from fairlead.formats.variants import REFERENCE, VariantRecord
from fairlead.optimization.choice import choose
from fairlead.optimization.config import OptimizationConfig

CONFIG = OptimizationConfig()


def variant(name: str, speed: float, size: int = 100, **values: Any) -> VariantRecord:
    runtime, _, precision = name.partition("-")
    measured = {"texts_per_second": speed, "size_bytes": size, "changed_share": 0.0, "worst_drop": 0.005, **values}
    named = {"name": name, "runtime": runtime, "precision": precision}
    return VariantRecord.parse({**named, "qualifies": measured["worst_drop"] <= CONFIG.max_drop, **measured})


WEIGHTS = variant(REFERENCE, 100.0, qualifies=None)


def test_the_fastest_that_qualifies_serves() -> None:
    fast = variant("openvino-int8-static", 400.0, worst_drop=0.02)
    able = variant("onnxruntime-int8", 300.0, worst_drop=0.009)
    name, reason = choose([WEIGHTS, fast, able], CONFIG, "cpu")
    assert name == "onnxruntime-int8"
    assert reason == ("3.00 times faster than torch-fp32, and loses at most 0.0090 at confidence 0.95 (allowed: 0.01)")


def test_of_near_speeds_the_one_that_changes_least_serves() -> None:
    first = variant("openvino-int8-static", 303.0, changed_share=0.01)
    second = variant("onnxruntime-fp32", 300.0)
    assert choose([WEIGHTS, first, second], CONFIG, "cpu")[0] == "onnxruntime-fp32"


def test_on_edge_the_smallest_serves() -> None:
    fast, small = variant("openvino-fp32", 400.0), variant("onnxruntime-int8", 90.0, size=25)
    name, reason = choose([WEIGHTS, fast, small], CONFIG, "edge")
    assert name == "onnxruntime-int8" and reason.startswith("4.00 times smaller")


def test_the_weights_serve_when_nothing_qualifies_and_it_says_why() -> None:
    name, reason = choose([WEIGHTS, variant("onnxruntime-int8", 300.0, worst_drop=0.0123)], CONFIG, "cpu")
    assert name == REFERENCE
    assert "no variant is shown to lose at most 0.01 at confidence 0.95" in reason and "0.0123" in reason


def test_a_slower_variant_does_not_serve() -> None:
    name, reason = choose([WEIGHTS, variant("torch-bf16", 50.0)], CONFIG, "cpu")
    assert name == REFERENCE and reason == "no variant that may lose at most 0.01 is faster"
