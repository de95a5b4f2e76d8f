"""Compiled layers: the numbers and names of plain ones, a run that resumes, and a way without a compiler."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch._dynamo.utils import counters

from fairlead.training.batching.packing import pack
from fairlead.training.batching.passes import Network
from fairlead.training.config import TrainConfig
from fairlead.training.loop import Loop
from fairlead.training.models.compiling import compile_layers
from fairlead.training.models.packed_models import packed_forward
from fairlead.training.precision import LEAST_STEPS, resolve_compile
from tests.training.corpus import curve, weights
from tests.training.test_packing import GROUPS, arrays, gradients, make

MakeLoop = Callable[..., Loop]
NEEDS_COMPILER = pytest.mark.skipif(not shutil.which("g++"), reason="there is no g++ here")
CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(
    ("settings", "device", "num_steps", "expected"),
    [
        ({}, CPU, 10**6, "off"),
        ({}, GPU, LEAST_STEPS - 1, "off"),
        ({}, GPU, LEAST_STEPS, "on"),
        ({"parallel": "fsdp"}, GPU, LEAST_STEPS, "off"),
        ({"compile": "on"}, CPU, 1, "on"),
        ({"compile": "off"}, GPU, 10**6, "off"),
    ],
)
def test_auto_is_by_device_and_steps(
    settings: dict[str, str], device: torch.device, num_steps: int, expected: str
) -> None:
    assert resolve_compile(TrainConfig.parse(settings), device, num_steps).compile == expected


def test_without_a_compiler_layers_run_as_they_are(
    make_loop: MakeLoop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CXX", "/no/such/compiler")
    loop = make_loop(tmp_path / "a", compile="on", max_steps=2)
    assert "warning: training.compile: no C++ compiler is here" in capfd.readouterr().err
    assert loop.run() and make_loop(tmp_path / "b", max_steps=2).run()
    assert curve(tmp_path / "a") == curve(tmp_path / "b")


@pytest.mark.slow
@NEEDS_COMPILER
def test_a_compiled_layer_gives_the_same_gradient_under_the_same_names() -> None:
    plain, compiled = (Network(model := make("bert").eval(), packed_forward(model, 9), False) for _ in range(2))
    assert compile_layers(compiled)
    before = counters["stats"]["unique_graphs"]
    packed = pack(arrays(), GROUPS, CPU)
    expected, found = (gradients(network, network(packed), packed.labels_B) for network in (plain, compiled))
    assert counters["stats"]["unique_graphs"] > before
    assert found.keys() == expected.keys() and compiled.state_dict().keys() == plain.state_dict().keys()
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], atol=1e-5, rtol=1e-3, msg=name)


@pytest.mark.slow
@NEEDS_COMPILER
def test_compiled_layers_give_the_same_curve_and_names_and_resume(make_loop: MakeLoop, tmp_path: Path) -> None:
    changes = {"max_steps": 6, "ema_decay": 0.9, "eval_every_steps": 3}
    plain = make_loop(tmp_path / "plain", **changes)
    assert plain.run()
    before = counters["stats"]["unique_graphs"]
    whole = make_loop(tmp_path / "whole", compile="on", **changes)
    assert whole.run() and counters["stats"]["unique_graphs"] > before
    for name in ("loss", "gradient_norm"):
        assert curve(tmp_path / "whole", name) == pytest.approx(curve(tmp_path / "plain", name), rel=1e-4)
    asked = iter(range(3))
    stopped = make_loop(tmp_path / "cut", compile="on", stop_requested=lambda: next(asked, None) is None, **changes)
    assert not stopped.run()
    resumed = make_loop(tmp_path / "cut", compile="on", **changes)
    assert resumed.state.step == stopped.state.step == 3 and resumed.run()
    for loop in (plain, whole, resumed):
        loop.load_best()
    assert weights(resumed.model) == weights(whole.model)
    assert whole.model.state_dict().keys() == plain.model.state_dict().keys()
    assert whole.parts["model"].tensors().keys() == plain.parts["model"].tensors().keys()
