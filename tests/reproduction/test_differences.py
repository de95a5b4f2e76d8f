"""What a comparison with a record says, without running anything."""

from typing import Any

import pytest

from fairlead.cli.reproduce import EXIT_CODES, SENTENCES, TOLERANCE
from fairlead.formats.digests import of_bytes
from fairlead.registry import open_registry
from fairlead.reproduction import reproduce
from fairlead.reproduction.differences import differences, distance, known_settings
from tests.registry import samples

RECORD = samples.training()


def test_code_and_environment_are_compared_by_name() -> None:
    code = RECORD.code.model_copy(update={"commit": "abc", "diff_digest": of_bytes(b"diff")})
    environment = RECORD.environment.model_copy(update={"torch": "2.14.0", "world_size": 2, "num_threads": 4})
    here = RECORD.model_copy(update={"code": code, "environment": environment, "tokens_digest": of_bytes(b"other")})
    assert differences(RECORD, here, {"training.x": [1, 2]}) == {
        "code": {"commit": [None, "abc"], "diff_digest": [None, of_bytes(b"diff")]},
        "data": {"tokens_digest": [RECORD.tokens_digest, of_bytes(b"other")]},
        "environment": {"torch": ["2.13.0+cpu", "2.14.0"], "world_size": [1, 2], "num_threads": [1, 4]},
        "settings": {"training.x": [1, 2]},
    }
    assert not any(differences(RECORD, RECORD, {}).values())


def full_record() -> dict[str, dict[str, Any]]:
    """Sections that hold every setting of today at its default."""
    from fairlead.project import ProjectConfig

    config = ProjectConfig.parse({"project": "topics", "data": {"source": "a.csv"}}).to_dict()
    return {name: config[name] for name in ("tokenization", "model", "training", "evaluation")}


def test_settings_that_only_one_of_them_knows_are_named_with_their_values() -> None:
    recorded = full_record()
    recorded["training"] |= {"old": 3}
    del recorded["training"]["warmup_share"], recorded["model"]["dropout"]
    known, unshared = known_settings(recorded)
    assert unshared == {
        "training.old": [3, "unknown here"],
        "training.warmup_share": ["not recorded", 0.06],
        "model.dropout": ["not recorded", 0.1],
    }
    assert "old" not in known["training"] and known["training"]["learning_rate"] == 3e-4


def test_how_a_run_was_carried_out_is_no_setting_of_it() -> None:
    recorded = full_record()
    recorded["training"] |= {"processes": 4, "threads": 2, "checkpoint_every_steps": 7}
    recorded["tokenization"] |= {"base": "scratch"}
    known, unshared = known_settings(recorded)
    assert not unshared
    assert not known["training"].keys() & {"processes", "threads", "checkpoint_every_steps"}


def test_a_record_without_evaluation_settings_is_measured_as_today() -> None:
    recorded = full_record()
    del recorded["evaluation"]
    assert known_settings(recorded)[1] == {}


@pytest.mark.parametrize(
    ("recorded", "here", "expected"),
    [
        ({"accuracy": 0.9}, {"accuracy": 0.88}, 0.02),
        ({"loss": 4.0, "accuracy": 0.9}, {"loss": 4.4, "accuracy": 0.9}, 0.1),
        ({"accuracy": 0.9}, {"macro_f1": 0.1}, 0.0),
        ({}, {}, 0.0),
    ],
)
def test_a_distance_is_in_points_of_a_score_and_shares_of_a_loss(
    recorded: dict[str, float], here: dict[str, float], expected: float
) -> None:
    assert distance(recorded, here) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("weights", "accuracy", "verdict"),
    [(b"weights", 0.9, "same"), (b"other", 0.896, "close"), (b"other", 0.89, "different")],
)
def test_the_verdict_follows_the_weights_and_then_the_metrics(weights: bytes, accuracy: float, verdict: str) -> None:
    with open_registry() as registry:
        version = samples.add_version(registry, "closure", {"accuracy": 0.9, "macro_f1": 0.9}, weights=b"weights")
    here = RECORD.model_copy(update={"weights_digest": of_bytes(weights)})
    found = reproduce.compared(version, here, {"accuracy": accuracy, "macro_f1": 0.9}, {}, reproduce.TOLERANCE, 1.0)
    assert found.verdict == verdict
    assert found.test["accuracy"] == [0.9, accuracy]


def test_every_verdict_has_its_exit_code_and_sentence() -> None:
    assert EXIT_CODES == {"same": 0, "close": 3, "different": 4, "broken": 5}
    assert SENTENCES.keys() == EXIT_CODES.keys() and TOLERANCE == reproduce.TOLERANCE
