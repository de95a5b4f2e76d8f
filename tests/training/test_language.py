"""Language models train on blocks that cover every token once an epoch, and resume to the same weights."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from fairlead.formats.tokens import TokenArrays, TokensManifest, TokenSplit
from fairlead.names import LANGUAGE_MODELING
from fairlead.training.batching.batches import Plan, collate
from fairlead.training.batching.blocks import all_blocks, open_rows, training_blocks
from fairlead.training.checkpoints.format import open_checkpoints
from fairlead.training.config import ModelConfig, TrainConfig
from fairlead.training.launching.distributed import Group
from fairlead.training.loop import Loop
from fairlead.training.models.building import build_model
from fairlead.training.models.language_models import load_language_model, num_positions
from fairlead.training.objective.tasks import Splits
from fairlead.training.updates.shards import local
from tests.data.test_language_tokens import make
from tests.training.corpus import PromptLog, Recorder, curve, weights

STORY = "".join(f"the {a} saw the {b} and the {b} ran\n" for a in ("cat", "dog", "fox") for b in ("hen", "rat")) * 20
SUMMARY = TokenSplit(
    num_rows=1, num_tokens=0, digests={}, length_quantiles={}, truncated_share=0, unknown_token_share=0
)


def stream(num_tokens: int) -> TokenArrays:
    ids = np.arange(num_tokens, dtype=np.uint16)
    return TokenArrays(ids, np.array([0, num_tokens]), np.zeros((1, 0), np.uint8))


@pytest.mark.parametrize(("num_tokens", "size"), [(100, 8), (8, 8), (9, 8), (14, 8), (15, 8), (64, 2)])
def test_one_reading_predicts_every_token_once(num_tokens: int, size: int) -> None:
    blocks = all_blocks(stream(num_tokens), SUMMARY, size)
    batch = collate(blocks, np.arange(blocks.num_rows), 0)
    predicted = batch.input_ids_BT[:, 1:][batch.attention_mask_BT[:, 1:] == 1]
    assert predicted.tolist() == list(range(1, num_tokens))
    assert int((blocks.lengths - 1).sum()) == num_tokens - 1


@pytest.mark.parametrize(("num_tokens", "size"), [(100, 8), (8, 8), (9, 8), (21, 8), (64, 2)])
def test_training_blocks_begin_elsewhere_each_epoch_and_never_overlap(num_tokens: int, size: int) -> None:
    blocks = training_blocks(stream(num_tokens), SUMMARY, size, epochs=12, seed=5)
    firsts = set()
    for epoch in range(12):
        rows = epoch * blocks.num_rows + np.arange(blocks.num_rows)
        ids = collate(blocks, rows, 0).input_ids_BT
        predicted = ids[:, 1:].flatten().tolist()
        assert ids.shape == (blocks.num_rows, size) and predicted == list(range(predicted[0], predicted[-1] + 1))
        assert len(predicted) > num_tokens - 2 * size
        firsts.add(int(ids[0, 0]))
    assert len(firsts) > 1 or num_tokens <= size or size == 2
    assert len(blocks.lengths) == 12 * blocks.num_rows and set(blocks.lengths.tolist()) == {size}


def test_the_rows_of_a_step_depend_on_the_step_alone() -> None:
    plan = Plan(num_rows=10, batch_size=4, epochs=3, max_steps=None, seed=1, by_epoch=True)
    rows = np.concatenate([plan.rows(step) for step in range(1, plan.num_steps + 1)])
    assert sorted(rows.tolist()) == list(range(30))
    assert plan.rows(8).tolist() == Plan(10, 4, 5, 9, 1, by_epoch=True).rows(8).tolist()
    assert plan.num_tokens(np.full(30, 8), 4) == (10 + 4) * 8


@pytest.fixture
def manifest(tmp_path: Path) -> TokensManifest:
    return make(tmp_path / "made", STORY, kind="character", max_length=24)


@pytest.fixture
def make_writer_loop(tmp_path: Path, manifest: TokensManifest, group: Group) -> Callable[..., Loop]:
    def build(name: str, dropout: float = 0, **changes: Any) -> Loop:
        settings = {"epochs": 2, "batch_size": 8, "micro_batch_tokens": 64, "learning_rate": 3e-3, "threads": 1}
        config = TrainConfig.parse({**settings, "optimizer": "muon", "eval_every_steps": 20, **changes})
        folder = tmp_path / "made" / "tokens"
        rows = {split: open_rows(folder, manifest, split, config) for split in ("train", "validation")}
        splits = Splits(rows["train"], rows["validation"], manifest.pad_token_id, LANGUAGE_MODELING)
        torch.manual_seed(config.seed)
        model = build_model(ModelConfig(depth=1, dropout=dropout), manifest)
        log = PromptLog(Recorder(tmp_path / name))
        return Loop(config, model, splits, group, open_checkpoints(str(tmp_path / name)), log)

    return build


def test_a_language_is_learned_and_measured(make_writer_loop: Callable[..., Loop], tmp_path: Path) -> None:
    loop = make_writer_loop("a")
    assert loop.run()
    losses = curve(tmp_path / "a")
    assert losses[0] == pytest.approx(math.log(64), abs=0.3) and np.mean(losses[-5:]) < 0.5 * losses[0]
    assert loop.state.best is not None
    found = loop.state.best.metrics
    validation = loop.splits.validation
    nats = found["loss"] * (len(validation.tokens) - 1)
    assert found["perplexity"] == pytest.approx(math.exp(found["loss"]))
    assert found["nats_per_character"] == pytest.approx(nats / (len(validation.tokens) - 1))
    assert found["bits_per_byte"] == pytest.approx(found["nats_per_character"] / math.log(2))
    # The same as scoring the whole stream by hand, in blocks that begin with the last token of the one before.
    loop.load_best()
    ids, total = torch.from_numpy(validation.tokens.astype(np.int64)), 0.0
    with torch.no_grad():
        for start in range(0, len(ids) - 1, 23):
            block = ids[start : start + 24]
            total += float(
                F.cross_entropy(loop.model(input_ids=block[None]).logits[0, :-1], block[1:], reduction="sum")
            )
    assert total == pytest.approx(nats, rel=1e-4)


def test_the_gradient_is_that_of_the_mean_over_tokens_however_it_is_cut(make_writer_loop: Callable[..., Loop]) -> None:
    whole, cut = make_writer_loop("a", micro_batch_tokens=4096), make_writer_loop("b", micro_batch_tokens=24)
    rows = whole.plan.rows(1)
    assert whole.gradient.add(1, rows) == pytest.approx(cut.gradient.add(1, rows), rel=1e-5)
    for a, b in zip(whole.model.parameters(), cut.model.parameters(), strict=True):
        assert torch.allclose(a.grad, b.grad, atol=1e-6)  # type: ignore[arg-type]


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_recomputed_and_sharded_layers_give_the_same_gradient(
    make_writer_loop: Callable[..., Loop], recompute: bool, parallel: str
) -> None:
    # Dropout is drawn once more when a layer is computed once more.
    changes = {"optimizer": "adamw", "dropout": 0.2}
    plain = make_writer_loop("a", **changes)
    other = make_writer_loop("b", **changes, activation_checkpointing=recompute, parallel=parallel)
    rows = plain.plan.rows(1)
    assert plain.gradient.add(1, rows) == pytest.approx(other.gradient.add(1, rows), rel=1e-6)
    for a, b in zip(plain.model.parameters(), other.model.parameters(), strict=True):
        assert torch.equal(a.grad, local(b.grad))  # type: ignore[arg-type]


def test_a_run_that_was_cut_ends_with_the_same_weights(make_writer_loop: Callable[..., Loop], tmp_path: Path) -> None:
    whole = make_writer_loop("whole", max_steps=25)
    assert whole.run()
    first = make_writer_loop("cut", max_steps=25)
    stops = iter([False] * 12)
    first.stop_requested = lambda: next(stops, None) is not False
    assert not first.run()
    again = make_writer_loop("cut", max_steps=25)
    assert 0 < again.state.step < 25 and again.run()
    assert weights(again.model) == weights(whole.model)


def test_the_saved_model_is_one_that_transformers_loads(
    make_writer_loop: Callable[..., Loop], manifest: TokensManifest, tmp_path: Path
) -> None:
    loop = make_writer_loop("a", max_steps=2)
    loop.run()
    loop.model.save_pretrained(tmp_path / "saved")
    model = load_language_model(tmp_path / "saved")
    assert num_positions(model) == manifest.max_length and model.config.eos_token_id == manifest.end_token_id
    ids = torch.arange(5)[None]
    assert torch.equal(model(input_ids=ids).logits, loop.model.eval()(input_ids=ids).logits)
