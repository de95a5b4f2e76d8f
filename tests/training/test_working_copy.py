"""bf16: computed in a copy of the weights, learned in float32; and validation computes as training does."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM

from fairlead.training.batching.batches import MicroBatch
from fairlead.training.batching.passes import Network
from fairlead.training.config import ModelConfig
from fairlead.training.loop import Loop
from fairlead.training.models.working_copy import WorkingCopy
from fairlead.training.objective.tasks import keep_all
from fairlead.training.validation import validate
from tests.training.corpus import curve, weights

MakeLoop = Callable[..., Loop]


def test_weights_moments_and_checkpoints_are_float32_and_a_cut_run_ends_with_the_same(
    make_loop: MakeLoop, tmp_path: Path
) -> None:
    changes: dict[str, Any] = {"precision": "bf16", "max_steps": 12, "checkpoint_every_steps": 5}
    stops = iter([False] * 6)
    first = make_loop(tmp_path / "cut", stop_requested=lambda: next(stops, None) is not False, **changes)
    assert not first.run() and 0 < first.state.step < 12
    again, whole = make_loop(tmp_path / "cut", **changes), make_loop(tmp_path / "whole", **changes)
    assert again.run() and whole.run()
    assert weights(again.model) == weights(whole.model)
    kept = [tensor for file in tmp_path.glob("cut/step-*/*.safetensors") for tensor in load_file(file).values()]
    assert kept and {tensor.dtype for tensor in kept if tensor.is_floating_point()} == {torch.float32}
    assert {p.dtype for p in whole.model.parameters()} == {torch.float32}


def test_the_curve_is_near_that_of_float32(make_loop: MakeLoop, tmp_path: Path) -> None:
    for precision in ("fp32", "bf16"):
        assert make_loop(tmp_path / precision, precision=precision).run()
    single, half = (np.array(curve(tmp_path / precision)) for precision in ("fp32", "bf16"))
    assert not np.array_equal(single, half)
    assert half == pytest.approx(single, abs=0.03)


@pytest.mark.parametrize(
    ("model", "changes"),
    [
        (ModelConfig(depth=1, classifier_norm="batch"), {}),
        (ModelConfig(depth=1), {"parallel": "fsdp"}),
    ],
)
def test_other_ways_of_computing_go_with_it(
    make_loop: MakeLoop, tmp_path: Path, model: ModelConfig, changes: dict[str, Any]
) -> None:
    assert make_loop(tmp_path / "fp32", model=model, max_steps=6).run()
    assert make_loop(tmp_path / "bf16", model=model, max_steps=6, precision="bf16", **changes).run()
    assert curve(tmp_path / "bf16") == pytest.approx(curve(tmp_path / "fp32"), abs=0.03)


def test_layers_that_are_computed_again_are_computed_in_the_copy(make_loop: MakeLoop, tmp_path: Path) -> None:
    """To the bit: autocast would round otherwise."""
    for again in (False, True):
        loop = make_loop(tmp_path / str(again), precision="bf16", max_steps=4, activation_checkpointing=again)
        assert loop.run()
    assert curve(tmp_path / "True") == curve(tmp_path / "False")
    assert curve(tmp_path / "True", "gradient_norm") == curve(tmp_path / "False", "gradient_norm")


def test_gradients_of_shared_weights_arrive_in_float32() -> None:
    torch.manual_seed(0)
    size = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    model: Any = LlamaForCausalLM(LlamaConfig(vocab_size=64, tie_word_embeddings=True, **size))
    ids_BT = torch.arange(40).view(4, 10)
    batch = MicroBatch(ids_BT, torch.ones_like(ids_BT), torch.zeros(4))
    network = Network(model, None, recompute=False)

    def gradients(computing: torch.nn.Module) -> torch.Tensor:
        model.zero_grad()
        torch.autograd.backward(computing(batch).float().logsumexp(-1).sum())
        found = [p.grad for p in model.parameters()]
        assert {g.dtype for g in found} == {torch.float32}
        return torch.cat([g.flatten() for g in found])

    expected, found = gradients(network), gradients(WorkingCopy(network, torch.bfloat16))
    assert float((found - expected).norm() / expected.norm()) < 0.02


def test_validation_without_padding_gives_the_scores_of_the_padded_model(make_loop: MakeLoop, tmp_path: Path) -> None:
    loop = make_loop(tmp_path, max_steps=9)
    assert loop.run()
    validation, task = loop.splits.validation, loop.task
    padded = keep_all(loop.model, task.keep, validation, loop.splits.pad_token_id, task.num_kept)
    found = validate(loop._passes, task, validation, loop._pieces, loop.group, lambda: False)
    assert found == pytest.approx(task.scores(padded), abs=1e-5)
    assert loop.model.training
