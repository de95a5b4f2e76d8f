"""Masks keep the right share, with the right scale, and belong to their place."""

import pytest
import torch
from torch import nn

from fairlead.training.models import dropout
from fairlead.training.models.dropout import Dropout, GroupSize, Masks, dropped_levels, kept_scale


@pytest.mark.parametrize("probability", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_share_and_the_mean_are_right(probability: float, dtype: torch.dtype) -> None:
    keep = Masks().keep_block(0, 0, probability, 400_001, dtype)
    assert keep.dtype == dtype and keep.unique().tolist() == [0.0, 1.0]
    assert float(keep.float().mean()) == pytest.approx(1 - probability, abs=0.004)
    assert (1 - dropped_levels(probability) / 65_536) * kept_scale(probability) == 1
    layer = Dropout(probability, Masks(groups=[GroupSize(0, 1, 500)]), 0).train()
    assert float(layer(torch.ones(500, 400)).mean()) == pytest.approx(1, abs=0.05)


def test_neighbours_are_independent() -> None:
    keep = Masks().keep_block(0, 0, 0.5, 400_000, torch.float32) - 0.5
    for lag in (1, 2, 4, 64):
        assert abs(float((keep[lag:] * keep[:-lag]).mean())) < 0.002


@pytest.mark.parametrize("other", [(1, 2, 3, 4), (0, 1, 3, 4), (0, 2, 5, 4), (0, 2, 3, 5)])
def test_a_mask_depends_on_seed_step_site_and_group(other: tuple[int, int, int, int]) -> None:
    def mask(seed: int, step: int, site: int, group: int) -> torch.Tensor:
        return Masks(seed, step).keep_block(site, group, 0.5, 64, torch.float32)

    assert torch.equal(mask(0, 2, 3, 4), mask(0, 2, 3, 4))
    assert not torch.equal(mask(0, 2, 3, 4), mask(*other))


def test_rows_may_be_tokens_or_texts_of_the_groups() -> None:
    masks = Masks()
    masks.begin(0, 1, [GroupSize(2, 2, 7), GroupSize(5, 1, 3)])
    tokens, texts = masks.keep(0, 0.5, torch.ones(10, 16)), masks.keep(0, 0.5, torch.ones(3, 16))
    assert torch.equal(tokens[7:].flatten(), masks.keep_block(0, 5, 0.5, 48, torch.float32))
    assert torch.equal(texts[2:].flatten(), masks.keep_block(0, 5, 0.5, 16, torch.float32))
    assert masks.keep(0, 0.5, torch.ones(4, 16)).shape == (4, 16)


def test_it_stands_in_for_every_dropout_of_a_model() -> None:
    model = nn.Sequential(nn.Dropout(0.1), nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5))).train()
    masks = dropout.install(model)
    layers = [module for module in model.modules() if isinstance(module, nn.Dropout)]
    assert [(type(layer), layer.p, layer.training) for layer in layers] == [(Dropout, 0.1, True), (Dropout, 0.5, True)]
    x = torch.ones(64, 4)
    masks.begin(0, 1, [GroupSize(0, 64, 64)])
    assert not torch.equal(layers[1](x), x) and torch.equal(model.eval()(x), model(x))
