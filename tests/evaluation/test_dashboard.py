import json

import pytest
from kfp.dsl import ClassificationMetrics, Metrics

from fairlead.evaluation.dashboard import MAX_CATEGORIES, MAX_POINTS, log_classification, log_metrics, notes_on
from fairlead.evaluation.metrics import Curves
from fairlead.formats.evaluation import ChampionScore, ClassScores, Evaluation


def evaluation_of(num_classes: int, dataset: str = "test") -> Evaluation:
    labels = [f"c{i}" for i in range(num_classes)]
    return Evaluation(
        dataset=dataset,
        dataset_digest="sha256:0",
        num_rows=1,
        metrics={"accuracy": 0.5},
        per_class={label: ClassScores(precision=1, recall=1, f1=1, support=1) for label in labels},
        confusion=[[int(i == j) for j in range(num_classes)] for i in range(num_classes)],
        labels=labels,
    )


def test_further_data_sets_and_the_champion_have_names_of_their_own() -> None:
    artifact = Metrics()
    champion = ChampionScore(version="topics_v1", dataset_digest="sha256:0", metrics={"accuracy": 0.25})
    log_metrics(artifact, [evaluation_of(2), evaluation_of(2, "abroad")], champion)
    assert artifact.metadata == {"accuracy": 0.5, "abroad_accuracy": 0.5, "champion_accuracy": 0.25}


@pytest.mark.parametrize(("num_classes", "shown"), [(2, True), (MAX_CATEGORIES, True), (MAX_CATEGORIES + 1, False)])
def test_a_matrix_too_large_for_the_message_is_left_to_the_report(num_classes: int, shown: bool) -> None:
    artifact = ClassificationMetrics()
    log_classification(artifact, evaluation_of(num_classes), None)
    assert ("confusionMatrix" in artifact.metadata) == shown
    assert len(json.dumps(artifact.metadata)) < 4_000_000
    assert ["no confusion matrix" in note for note in notes_on(evaluation_of(num_classes))] == [True] * (not shown)


def test_a_long_curve_is_thinned_and_keeps_its_ends() -> None:
    artifact = ClassificationMetrics()
    points = [i / 999 for i in range(1000)]
    log_classification(artifact, evaluation_of(2), Curves("c1", points, points, points[::-1], [1.0], [1.0]))
    found = artifact.metadata["confidenceMetrics"]
    assert len(found) == MAX_POINTS
    assert (found[0]["recall"], found[-1]["recall"]) == (0, 1)
    assert (found[0]["confidenceThreshold"], found[-1]["confidenceThreshold"]) == (1, 0)
