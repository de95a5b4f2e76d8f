"""Sampling: temperature, top-k and top-p leave the probabilities that they should, and draws follow them."""

import pytest
import torch
from transformers import LogitsProcessorList, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from fairlead.inference.config import GenerationConfig
from fairlead.inference.sampling import Sampler, distribution

LOGITS = torch.tensor([[2.0, 1.0, 0.0, -1.0, 0.5], [0.0, 0.0, 3.0, -5.0, 1.0]])


@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p"), [(1.0, None, 1.0), (0.7, 3, 1.0), (1.3, None, 0.8), (0.9, 4, 0.6), (2.0, 9, 0.9)]
)
def test_probabilities_are_those_of_transformers(temperature: float, top_k: int | None, top_p: float) -> None:
    warpers = [TemperatureLogitsWarper(temperature)]
    warpers += [TopKLogitsWarper(top_k)] if top_k else []
    warpers += [TopPLogitsWarper(top_p)] if top_p < 1 else []
    ids = torch.zeros(2, 1, dtype=torch.long)
    expected = LogitsProcessorList(warpers)(ids, LOGITS.clone()).softmax(dim=-1)
    found = distribution(LOGITS, GenerationConfig(temperature=temperature, top_k=top_k, top_p=top_p))
    torch.testing.assert_close(found, expected)


def test_zero_and_nearly_zero_temperature_take_the_most_probable() -> None:
    for temperature in (0.0, 1e-4):
        assert Sampler(GenerationConfig(temperature=temperature), 2).draw(LOGITS) == [0, 2]
    assert Sampler(GenerationConfig(temperature=9, top_k=1), 2).draw(LOGITS) == [0, 2]
    assert Sampler(GenerationConfig(temperature=9, top_p=1e-6), 2).draw(LOGITS) == [0, 2]


def test_draws_follow_the_probabilities() -> None:
    sampler = Sampler(GenerationConfig(temperature=1.0), 1)
    drawn = torch.tensor([sampler.draw(LOGITS[:1])[0] for _ in range(2000)])
    shares = drawn.bincount(minlength=5) / 2000
    assert torch.allclose(shares, LOGITS[0].softmax(dim=0), atol=0.04)
