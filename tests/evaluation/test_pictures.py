import re
import warnings
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from fairlead.evaluation.metrics import Bin, measure
from fairlead.evaluation.pictures import confusion_picture, curves_picture, reliability_picture
from fairlead.formats.evaluation import Evaluation


def evaluation_of(labels: list[str]) -> Evaluation:
    draw = np.random.default_rng(0)
    true = np.arange(len(labels) * 3) % len(labels)
    logits = draw.normal(size=(len(true), len(labels)))
    logits[np.arange(len(true)), true] += 2
    scores = measure(labels, true, logits, num_bins=5, positive=1)
    return Evaluation(
        dataset="test",
        dataset_digest="sha256:0",
        num_rows=len(true),
        metrics=scores.metrics,
        per_class=scores.per_class,
        confusion=scores.confusion,
        labels=labels,
    )


def texts_of(svg: str) -> list[str]:
    """Every text of a picture; parsing it proves that it is well formed."""
    return [element.text or "" for element in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


def test_every_class_is_named_at_77_classes() -> None:
    labels = [f"intent_with_a_long_name_{i}" for i in range(77)]
    texts = texts_of(confusion_picture(evaluation_of(labels)))
    assert all(texts.count(label) == 2 for label in labels)


def test_names_are_text_and_never_markup_or_formulas() -> None:
    labels = ["<b>bold</b>", "$5 off$ \\frac", "a & b", "東京", "x" * 90]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        svg = confusion_picture(evaluation_of(labels))
    texts = texts_of(svg)
    assert all(texts.count(label) == 2 for label in labels[:-1])
    assert texts.count("x" * 39 + "…") == 2
    assert "<b>" not in svg


def test_few_classes_have_their_counts_in_the_cells() -> None:
    evaluation = evaluation_of(["a", "b", "c"])
    texts = texts_of(confusion_picture(evaluation))
    assert sorted(t for t in texts if re.fullmatch(r"[1-9]\d*", t)) == sorted(
        str(count) for row in evaluation.confusion for count in row if count
    )


def test_past_100_classes_those_with_most_mistakes_are_shown() -> None:
    labels = [f"c{i}" for i in range(130)]
    evaluation = evaluation_of(labels)
    confusion = np.diag(np.full(130, 3))
    confusion[5, 6], confusion[5, 5] = 3, 0
    evaluation = evaluation.model_copy(update={"confusion": confusion.tolist()})
    texts = texts_of(confusion_picture(evaluation))
    assert len([t for t in texts if t.startswith("c")]) == 200
    assert {"c5", "c6"} <= set(texts)


def test_pictures_repeat_byte_by_byte_and_fetch_nothing() -> None:
    draw = np.random.default_rng(1)
    true, logits = draw.integers(0, 2, 60), draw.normal(size=(60, 2))
    scores = measure(["ham", "spam"], true, logits, num_bins=7, positive=1)
    assert scores.curves is not None
    for draw_one in (lambda: reliability_picture(scores.bins), lambda: curves_picture(scores.curves, 0.5)):
        svg = draw_one()
        assert svg == draw_one()
        assert svg.startswith("<svg")
        texts_of(svg)
        # Names of XML vocabularies and pieces of the picture itself, and no other addresses.
        assert set(re.findall(r'href="([^#d])', svg)) == set()


@pytest.mark.parametrize("num_rows", [1, 5])
def test_one_filled_bin_is_enough(num_rows: int) -> None:
    empty = Bin(0.0, 0.5, 0, 0.0, 0.0)
    assert texts_of(reliability_picture([empty, Bin(0.5, 1.0, num_rows, 0.9, 1.0)]))
