"""Muon brings singular values near 1, moves only the matrices of layers so, and goes on from its state."""

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from fairlead.training.loop import Loop
from fairlead.training.updates.muon import ADAMW_SIZE, Muon, orthogonal


@pytest.mark.parametrize("shape", [(32, 80), (80, 32), (1, 7)])
def test_singular_values_are_brought_near_one(shape: tuple[int, int]) -> None:
    matrices = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0))
    found = torch.linalg.svdvals(orthogonal(matrices))
    assert found.min() > 0.6 and found.max() < 1.3
    assert orthogonal(matrices).shape == matrices.shape
    # Each matrix by itself, whatever is beside it.
    assert torch.allclose(orthogonal(matrices[1:2])[0], orthogonal(matrices)[1], atol=1e-2)


def test_an_update_has_the_size_and_decay_that_it_should() -> None:
    weight = torch.nn.Parameter(torch.full((4, 9), 2.0))
    weight.grad = torch.randn(4, 9, generator=torch.Generator().manual_seed(0))
    group = {"params": [weight], "weight_decay": 0.5, "orthogonal": True}
    Muon([group], lr=0.1, momentum=0.9, betas=(0.9, 0.95), eps=1e-8).step()
    moved = torch.linalg.svdvals((weight.detach() - 2.0 * (1 - 0.1 * 0.5)) / (0.1 * ADAMW_SIZE * 9**0.5))
    assert moved.min() > 0.6 and moved.max() < 1.3


def test_other_weights_are_updated_as_by_adamw() -> None:
    mine, torchs = (torch.nn.Parameter(torch.linspace(-1, 1, 6)) for _ in range(2))
    group = {"params": [mine], "weight_decay": 0.1, "orthogonal": False}
    ours = Muon([group], lr=0.1, momentum=0.9, betas=(0.8, 0.95), eps=1e-8)
    reference = torch.optim.AdamW([torchs], lr=0.1, betas=(0.8, 0.95), weight_decay=0.1)
    for step in range(5):
        for weight in (mine, torchs):
            weight.grad = torch.arange(6.0).sub(2.5).pow(2) * (step - 1.5)
        ours.step()
        reference.step()
    torch.testing.assert_close(mine, torchs)


def test_only_matrices_of_layers_are_orthogonal(make_loop: Callable[..., Loop], tmp_path: Path) -> None:
    loop = make_loop(tmp_path, optimizer="muon", momentum=0.95)
    chosen = {id(p) for group in loop.optimizer.param_groups if group["orthogonal"] for p in group["params"]}
    names = {name for name, p in loop.model.named_parameters() if id(p) in chosen}
    assert names == {n for n, p in loop.model.named_parameters() if n.startswith("model.layers.") and p.ndim == 2}
    assert sum(len(g["params"]) for g in loop.optimizer.param_groups) == len(list(loop.model.parameters()))


def test_a_state_that_was_saved_goes_on_as_if_never_saved(make_loop: Callable[..., Loop], tmp_path: Path) -> None:
    whole, cut = (make_loop(tmp_path / name, optimizer="muon", max_steps=6) for name in ("whole", "cut"))
    for step in range(1, 7):
        for loop in (whole, cut):
            loop.model.zero_grad()
            loop.gradient.add(step, loop.plan.rows(step))
        whole.optimizer.step()
        if step == 3:
            saved = copy.deepcopy(cut.optimizer.state_dict())
            cut.optimizer = type(cut.optimizer)([*cut.optimizer.param_groups], 1, 0, (0, 0), 0)
            cut.optimizer.load_state_dict(saved)
        cut.optimizer.step()
    for a, b in zip(whole.model.parameters(), cut.model.parameters(), strict=True):
        assert torch.equal(a, b)
