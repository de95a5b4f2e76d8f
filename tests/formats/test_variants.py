from typing import Any

from fairlead.formats.digests import of_json
from fairlead.formats.variants import OptimizationRecord, VariantRecord


def record(**values: Any) -> OptimizationRecord:
    variant = VariantRecord(name="torch-fp32", runtime="torch", precision="fp32", texts_per_second=10.0)
    return OptimizationRecord.parse({"variants": [variant.to_dict()], "config": {"rounds": 5}, **values})


def test_a_time_measured_again_changes_no_identity() -> None:
    first, second = record(reason="2 times faster"), record(reason="2.1 times faster", num_rows=7)
    assert of_json(first.identity()) == of_json(second.identity())


def test_what_decides_answers_is_the_identity() -> None:
    first = of_json(record().identity())
    for values in ({"chosen": "torch-bf16"}, {"temperature": 1.5}, {"rejection_threshold": 0.4}, {"target": "edge"}):
        assert of_json(record(**values).identity()) != first


def test_what_was_asked_and_where_is_the_closure_and_what_was_found_is_not() -> None:
    assert record().closure() == record(chosen="torch-bf16", temperature=2.0).closure()
    assert record().closure() != record(hardware="cpu: another").closure()
