import numpy as np

from fairlead.evaluation.mistakes import worst_mistakes

LABELS = ["a", "b"]
ROWS = [("right", "a"), ("wrong", "a"), ("wronger", "a"), ("not known", "z"), ("w" * 2000, "b")]
TRUE = np.array([0, 0, 0, -1, 1])
PROBABILITIES = np.array([[0.9, 0.1], [0.4, 0.6], [0.1, 0.9], [0.0, 1.0], [0.7, 0.3]])


def test_the_surest_come_first() -> None:
    found = worst_mistakes(ROWS, LABELS, TRUE, PROBABILITIES, limit=10)
    assert [m.index for m in found] == [2, 4, 1]
    first = found[0]
    assert (first.text, first.label, first.predicted) == ("wronger", "a", "b")
    assert (first.probability, first.label_probability) == (0.9, 0.1)


def test_the_limit_holds() -> None:
    assert [m.index for m in worst_mistakes(ROWS, LABELS, TRUE, PROBABILITIES, limit=1)] == [2]
    assert worst_mistakes(ROWS, LABELS, TRUE, PROBABILITIES, limit=0) == []


def test_long_texts_are_cut() -> None:
    found = worst_mistakes(ROWS, LABELS, TRUE, PROBABILITIES, limit=2)
    assert found[1].text == "w" * 500 + " …"


def test_only_as_many_rows_are_read_as_are_needed() -> None:
    read = []

    def rows():
        for row in ROWS:
            read.append(row)
            yield row

    worst_mistakes(rows(), LABELS, TRUE, PROBABILITIES, limit=1)
    assert len(read) == 3
