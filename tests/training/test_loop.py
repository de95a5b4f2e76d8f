"""The loop: the same numbers again, resumed anywhere, stopped early, stopped from outside."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from fairlead.errors import NumericalError
from fairlead.training.batching.passes import Pass
from fairlead.training.checkpoints.format import State, open_checkpoints
from fairlead.training.loop import Loop
from fairlead.training.watch.trouble import last_good
from tests.training.corpus import curve, weights

MakeLoop = Callable[..., Loop]


class Killed(Exception):
    """Stands for SIGKILL: nothing is written after it."""


class After:
    """Says stop, or dies, when asked for the n-th time; steps and validation batches ask."""

    def __init__(self, times: int, die: bool = False) -> None:
        self.times, self.die = times, die

    def __call__(self) -> bool:
        self.times -= 1
        if self.times == 0 and self.die:
            raise Killed
        return self.times <= 0


def finish(make_loop: MakeLoop, folder: Path, **changes: object) -> Loop:
    loop = make_loop(folder, **changes)
    assert loop.run()
    loop.load_best()
    return loop


def test_the_same_settings_give_the_same_weights_and_another_seed_others(make_loop: MakeLoop, tmp_path: Path) -> None:
    first, again, other = (finish(make_loop, tmp_path / n, seed=s) for n, s in (("a", 7), ("b", 7), ("c", 8)))
    assert weights(first.model) == weights(again.model) != weights(other.model)
    assert curve(tmp_path / "a") == curve(tmp_path / "b")


def test_a_validation_has_a_bar_of_its_own(
    make_loop: MakeLoop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = tmp_path / "events.jsonl"
    monkeypatch.setenv("FAIRLEAD_EVENTS", str(events))
    loop = finish(make_loop, tmp_path / "a", epochs=1)
    told = [json.loads(line) for line in events.read_text().splitlines()]
    rows = loop.splits.validation.num_rows
    assert {(e["done"], e["total"], e["unit"]) for e in told if e["what"] == "validating"} == {(rows, rows, "rows")}


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "adagrad"])
@pytest.mark.parametrize("times", [2, 13, 24])
def test_killed_anywhere_it_ends_with_the_same_weights(
    make_loop: MakeLoop, tmp_path: Path, optimizer: str, times: int
) -> None:
    changes = {"optimizer": optimizer, "epochs": 2, "checkpoint_every_steps": 4}
    with pytest.raises(Killed):
        make_loop(tmp_path / "killed", stop_requested=After(times, die=True), **changes).run()
    resumed, whole = finish(make_loop, tmp_path / "killed", **changes), finish(make_loop, tmp_path / "whole", **changes)
    assert weights(resumed.model) == weights(whole.model)
    assert resumed.state.best == whole.state.best
    assert curve(tmp_path / "killed")[-8:] == curve(tmp_path / "whole")[-8:]


@pytest.mark.parametrize("times", [1, 5, 10, 11])
def test_told_to_stop_it_keeps_its_step_and_goes_on_from_there(make_loop: MakeLoop, tmp_path: Path, times: int) -> None:
    # The tenth question is asked in the validation after step 9.
    stopped = make_loop(tmp_path / "a", stop_requested=After(times), checkpoint_every_steps=1000, epochs=2)
    assert not stopped.run()
    found = open_checkpoints(str(tmp_path / "a")).newest()
    assert found is not None and found.state.step == stopped.state.step == min(times, 9)
    resumed = finish(make_loop, tmp_path / "a", epochs=2)
    assert weights(resumed.model) == weights(finish(make_loop, tmp_path / "b", epochs=2).model)


def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_used(
    make_loop: MakeLoop, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    changes = {"checkpoint_every_steps": 5, "eval_every_steps": 15}
    assert not make_loop(tmp_path / "a", stop_requested=After(12), **changes).run()
    newest = max(tmp_path.glob("a/step-*"))
    content = bytearray((newest / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (newest / "model.safetensors").write_bytes(content)
    resumed = make_loop(tmp_path / "a", **changes)
    assert newest.name == "step-00000012" and resumed.state.step == 10
    assert (newest / "corrupt.json").is_file()
    assert "step-00000012" in capfd.readouterr().err
    assert resumed.run()
    resumed.load_best()
    assert weights(resumed.model) == weights(finish(make_loop, tmp_path / "b", **changes).model)


def test_patience_stops_early_and_keeps_the_best(make_loop: MakeLoop, tmp_path: Path) -> None:
    # At this rate nothing is learned, so that no validation is better than an early one.
    changes = {"learning_rate": 1e-6, "schedule": "constant", "metric": "accuracy", "patience": 2}
    loop = make_loop(tmp_path, epochs=40, eval_every_steps=3, **changes)
    assert loop.run()
    assert loop.state.stopped_early and loop.state.step < 360
    accuracy = curve(tmp_path, "validation/accuracy")
    assert loop.state.best is not None
    assert loop.state.best.metrics["accuracy"] == max(accuracy)
    assert loop.state.best.step == 3 * (accuracy.index(max(accuracy)) + 1) == loop.state.step - 6


def test_the_last_weights_are_kept_when_asked(make_loop: MakeLoop, tmp_path: Path) -> None:
    # At this rate nothing is learned, so that no validation is better than an early one.
    changes = {"learning_rate": 1e-6, "schedule": "constant", "metric": "accuracy", "keep": "last"}
    loop = finish(make_loop, tmp_path, epochs=2, eval_every_steps=4, **changes)
    assert loop.state.best is not None and loop.state.best.step == loop.state.step == 18


@pytest.mark.parametrize("metric", ["macro_f1", "accuracy", "loss"])
def test_the_best_step_is_that_of_the_metric(make_loop: MakeLoop, tmp_path: Path, metric: str) -> None:
    loop = finish(make_loop, tmp_path, metric=metric, epochs=2, eval_every_steps=4)
    values = curve(tmp_path, f"validation/{metric}")
    best = min(values) if metric == "loss" else max(values)
    assert loop.state.best is not None and loop.state.best.metrics[metric] == best
    assert loop.state.best.step == [4, 8, 12, 16, 18][values.index(best)]


def test_a_loss_that_is_not_a_number_stops_at_its_step(make_loop: MakeLoop, tmp_path: Path) -> None:
    loop = make_loop(tmp_path)
    with torch.no_grad():
        loop.model.classifier.bias[0] = float("nan")
    with pytest.raises(NumericalError, match=r"loss is nan at step 1; all of its 8 rows .* no checkpoint from before"):
        loop.run()


def test_the_rows_that_give_no_number_are_named_with_their_source(
    make_loop: MakeLoop, tmp_path: Path, write_data: Callable[..., Path]
) -> None:
    bad = int(make_loop(tmp_path).plan.rows(4)[2])
    data = write_data(tmp_path / "texts", {"train": [(f"text {row}", "cat") for row in range(72)]})
    loop = make_loop(tmp_path / "run", checkpoint_every_steps=1)
    loop.splits = replace(loop.splits, data=data)
    whole = loop.losses.of

    def loss(network: torch.nn.Module, step: int, of: Pass) -> torch.Tensor:
        return whole(network, step, of) / float(all(bad not in rows for _, rows in of.groups))

    loop.losses.of = loss
    with pytest.raises(NumericalError) as raised:
        loop.run()
    good = tmp_path / "run" / "step-00000003"
    assert f"it comes from row {bad} (test line {bad + 1}) of 'train'; the last good checkpoint is {good}" in str(
        raised.value
    )
    report = json.loads((tmp_path / "run" / "trouble-step-00000004.json").read_text())
    assert [entry["row"] for entry in report["batch"]] == loop.plan.rows(4).tolist()
    assert [entry["row"] for entry in report["batch"] if entry["loss"] == "inf"] == [bad]
    found = open_checkpoints(str(tmp_path / "run")).newest()
    assert found is not None and found.state.step == 3


def test_a_checkpoint_with_weights_that_are_no_numbers_is_not_called_good(tmp_path: Path) -> None:
    checkpoints = open_checkpoints(str(tmp_path))
    for step, value in ((1, 0.5), (2, float("inf"))):
        checkpoints.write(State(step=step), {"model": save({"weight": torch.tensor([1.0, value])})})
    assert last_good(checkpoints) == str(tmp_path / "step-00000001")


@pytest.mark.parametrize("changes", [{"precision": "bf16"}, {"label_smoothing": 0.3}, {"gradient_clip": 0.01}])
def test_settings_change_the_curve(make_loop: MakeLoop, tmp_path: Path, changes: dict[str, object]) -> None:
    finish(make_loop, tmp_path / "plain", epochs=1)
    finish(make_loop, tmp_path / "changed", epochs=1, **changes)
    assert curve(tmp_path / "changed")[1:] != curve(tmp_path / "plain")[1:]
    assert curve(tmp_path / "changed")[-1] == pytest.approx(curve(tmp_path / "plain")[-1], abs=1.0)


@pytest.mark.parametrize("changes", [{}, {"class_weights": {"cat": 1, "dog": 9, "eel": 2}}, {"loss": "focal"}])
def test_micro_batches_do_not_change_the_gradient(
    make_loop: MakeLoop, tmp_path: Path, changes: dict[str, object]
) -> None:
    for name, tokens in (("many", 16), ("one", 4096)):
        loop = make_loop(tmp_path / name, micro_batch_tokens=tokens, max_steps=1, **changes)
        for module in loop.model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        loop.run()
    for name in ("loss", "gradient_norm"):
        assert curve(tmp_path / "many", name) == pytest.approx(curve(tmp_path / "one", name), rel=1e-3)


@pytest.mark.parametrize("changes", [{"batch_tokens": 60}, {"shuffle_window": 24}])
def test_batches_by_length_resume_where_they_were(
    make_loop: MakeLoop, tmp_path: Path, changes: dict[str, object]
) -> None:
    stopped = make_loop(tmp_path / "a", stop_requested=After(4), epochs=2, **changes)
    assert stopped.plan.buckets and not stopped.run()
    resumed, whole = (
        finish(make_loop, tmp_path / "a", epochs=2, **changes),
        finish(make_loop, tmp_path / "b", epochs=2, **changes),
    )
    assert weights(resumed.model) == weights(whole.model)
