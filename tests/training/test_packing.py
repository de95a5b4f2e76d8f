"""Packed texts give the logits and gradients of padded ones, whatever the company they are computed in."""

from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    ModernBertConfig,
    ModernBertForSequenceClassification,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from fairlead.formats.tokens import TokenArrays
from fairlead.training.batching.batches import Rows, collate
from fairlead.training.batching.packing import pack
from fairlead.training.models import dropout
from fairlead.training.models.attention import Layout, TextGroup, attend, attend_by_group
from fairlead.training.models.dropout import Masks
from fairlead.training.models.packed_models import packed_forward

LENGTHS = np.array([9, 9, 8, 5, 5, 3, 1])
GROUPS: list[tuple[int, Rows]] = [(0, np.array([0, 1])), (1, np.array([2, 3, 4])), (2, np.array([5, 6]))]
CPU = torch.device("cpu")
SIZE = {"vocab_size": 100, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
NO_IDS = {"bos_token_id": 0, "eos_token_id": 0, "cls_token_id": 0, "sep_token_id": 0}


def arrays() -> TokenArrays:
    offsets = np.concatenate([[0], np.cumsum(LENGTHS)])
    tokens = np.random.default_rng(0).integers(3, 90, offsets[-1]).astype(np.uint16)
    return TokenArrays(tokens, offsets, np.arange(7, dtype=np.int32) % 3)


def modernbert(**changes: Any) -> Any:
    config = ModernBertConfig(
        **SIZE, **NO_IDS, intermediate_size=64, num_labels=3, pad_token_id=0, attention_dropout=0.1, **changes
    )
    return ModernBertForSequenceClassification(config)


def make(name: str) -> Any:
    torch.manual_seed(0)
    if name == "bert":
        return BertForSequenceClassification(BertConfig(**SIZE, intermediate_size=64, num_labels=3))
    if name == "roberta":
        config = RobertaConfig(**SIZE, intermediate_size=64, num_labels=3, pad_token_id=1)
        return RobertaForSequenceClassification(config)
    layers = {"layer_types": ["full_attention"] * 2} if "window" not in name else {"local_attention": 64}
    return modernbert(classifier_pooling="cls" if "cls" in name else "mean", **layers)


def gradients(model: Any, logits: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    torch.nn.functional.cross_entropy(logits, labels).backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("name", ["bert", "roberta", "modernbert mean", "modernbert cls", "modernbert window"])
def test_packed_logits_and_gradients_are_those_of_the_padded_model(name: str) -> None:
    model = make(name).eval()
    forward = packed_forward(model, 9)
    assert forward is not None
    packed = pack(arrays(), GROUPS, CPU)
    ours = forward(model, packed, Masks(), False)
    batch = collate(arrays(), np.arange(7), model.config.pad_token_id)
    theirs = model(input_ids=batch.input_ids_BT, attention_mask=batch.attention_mask_BT).logits
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)
    expected = gradients(model, theirs, batch.labels_B)
    found = gradients(model, ours, packed.labels_B)
    assert found.keys() == expected.keys()
    for key in expected:
        torch.testing.assert_close(found[key], expected[key], atol=1e-5, rtol=1e-3, msg=key)


@pytest.mark.parametrize("name", ["bert", "modernbert mean"])
def test_a_group_gets_the_same_logits_alone_and_in_company(name: str) -> None:
    model = make(name).train()
    masks, forward = dropout.install(model), packed_forward(model, 9)
    assert forward is not None

    def run(groups: list[tuple[int, Rows]], step: int = 1, recompute: bool = False) -> torch.Tensor:
        packed = pack(arrays(), groups, CPU)
        masks.begin(0, step, packed.groups)
        return forward(model, packed, masks, recompute)

    together = run(GROUPS)
    alone = torch.cat([run([group]) for group in GROUPS])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)
    assert torch.equal(run(GROUPS, recompute=True), together)
    assert not torch.allclose(run(GROUPS, step=2), together, atol=1e-3)


def test_recomputed_layers_give_the_same_gradient() -> None:
    model = make("bert").train()
    masks, forward = dropout.install(model), packed_forward(model, 9)
    assert forward is not None
    packed = pack(arrays(), GROUPS, CPU)
    masks.begin(0, 1, packed.groups)
    kept, again = (gradients(model, forward(model, packed, masks, r), packed.labels_B) for r in (False, True))
    assert all(torch.equal(kept[key], again[key]) for key in kept)


def test_models_with_a_window_or_a_decoder_are_not_packed() -> None:
    assert packed_forward(make("modernbert window"), 34) is None
    model = make("bert")
    model.config.is_decoder = True
    assert packed_forward(model, 9) is None


@pytest.mark.parametrize("one_query", [False, True])
@pytest.mark.parametrize("lengths", [[4, 4, 4], [7, 5, 2]])
def test_the_gradient_of_attention_is_that_of_torch(lengths: list[int], one_query: bool) -> None:
    torch.manual_seed(0)
    layouts = [
        Layout(TextGroup(0, 0, 0, np.array(lengths)), CPU),
        Layout(TextGroup(1, sum(lengths), 3, np.array([2, 1])), CPU),
    ]
    num_tokens = sum(lengths) + 3
    q = torch.randn(5 if one_query else num_tokens, 8, requires_grad=True)
    k, v = (torch.randn(num_tokens, 8, requires_grad=True) for _ in range(2))
    weight = torch.randn_like(q)
    results = []
    for out in (attend(q, k, v, 2, layouts, Masks(), 0, 0.0), attend_by_group(q, k, v, 2, layouts)):
        results.append((out, *torch.autograd.grad((out * weight).sum(), (q, k, v))))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


def test_the_gradient_of_attention_with_dropout_is_that_of_differences() -> None:
    torch.manual_seed(0)
    layouts = [Layout(TextGroup(3, 0, 0, np.array([4, 2])), CPU)]
    q, k, v = (torch.randn(6, 4, requires_grad=True) for _ in range(3))
    masks = Masks(seed=5, step=2)
    out = attend(q, k, v, 2, layouts, masks, 1, 0.3)
    assert not torch.allclose(out, attend(q, k, v, 2, layouts, masks, 1, 0.0))
    (found,) = torch.autograd.grad(out.sum(), k)
    step = 1e-2
    for place in [(0, 0), (3, 2), (5, 3)]:
        change = torch.zeros_like(k)
        change[place] = step
        high, low = (attend(q, k + sign * change, v, 2, layouts, masks, 1, 0.3).sum() for sign in (1, -1))
        assert float(found[place]) == pytest.approx(float((high - low).detach()) / (2 * step), abs=5e-3)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
@pytest.mark.parametrize("name", ["bert", "modernbert mean"])
def test_variable_length_attention_gives_the_padded_logits(name: str) -> None:
    device = torch.device("cuda")
    model = make(name).eval().to(device)
    forward = packed_forward(model, 9)
    assert forward is not None
    batch = collate(arrays(), np.arange(7), model.config.pad_token_id).to(device)
    with torch.autocast("cuda", torch.float16):
        ours = forward(model, pack(arrays(), GROUPS, device), Masks(), False)
    theirs = model(input_ids=batch.input_ids_BT, attention_mask=batch.attention_mask_BT).logits
    torch.testing.assert_close(ours.float(), theirs, atol=1e-3, rtol=1e-2)
