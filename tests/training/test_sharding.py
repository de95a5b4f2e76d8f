"""Sharded weights: the numbers of DDP, a share of the memory, and what is refused.

Runs of several ranks that stop, change their number and are killed are in tests/kills.
"""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.distributed.tensor import DTensor

from fairlead.errors import ConfigError, MemoryExceeded
from fairlead.formats import tokens
from fairlead.training.checkpoints.format import open_checkpoints
from fairlead.training.config import ModelConfig, TrainConfig
from fairlead.training.launching.distributed import Group
from fairlead.training.loop import Loop
from fairlead.training.models.building import build_model
from fairlead.training.objective.tasks import Splits
from fairlead.training.updates.shards import local
from fairlead.training.watch.memory import MicroBatchBudget
from tests.training.corpus import Corpus, curve, weights
from tests.training.forked import Forked

MakeLoop = Callable[..., Loop]
NORMED = ModelConfig(depth=2, classifier_norm="batch")


@pytest.mark.parametrize(
    "changes",
    [
        {"ema_decay": 0.9, "layer_rate_decay": 0.8, "gradient_clip_value": 0.05},
        {"optimizer": "sgd", "freeze_embeddings": True, "activation_checkpointing": True},
        {"optimizer": "adagrad"},
        {"optimizer": "rmsprop"},
        {"precision": "bf16", "activation_checkpointing": True},
    ],
    ids=str,
)
def test_one_process_gives_the_numbers_of_ddp(make_loop: MakeLoop, tmp_path: Path, changes: dict[str, Any]) -> None:
    loops = {}
    for parallel in ("ddp", "fsdp"):
        loops[parallel] = make_loop(tmp_path / parallel, parallel=parallel, max_steps=6, model=NORMED, **changes)
        assert loops[parallel].run()
    assert all(isinstance(p, DTensor) for p in loops["fsdp"].model.parameters())
    for name in ("loss", "gradient_norm"):
        # In bf16 a sum of gradients may round the other way.
        near = 1e-2 if changes.get("precision") == "bf16" else 1e-5
        assert curve(tmp_path / "fsdp", name) == pytest.approx(curve(tmp_path / "ddp", name), rel=near)
    for loop in loops.values():
        loop.load_best()
    ours, theirs = (loops[parallel].model.state_dict() for parallel in ("fsdp", "ddp"))
    assert ours.keys() == theirs.keys()
    if "precision" not in changes:
        assert all(torch.allclose(ours[name], theirs[name], rtol=1e-4, atol=1e-6) for name in theirs)


def test_a_float16_run_is_scaled_and_resumed(make_loop: MakeLoop, tmp_path: Path) -> None:
    changes = {"parallel": "fsdp", "precision": "fp16", "max_steps": 6}
    asked = iter(range(3))
    assert not make_loop(tmp_path / "a", stop_requested=lambda: next(asked, None) is None, **changes).run()
    resumed, whole = make_loop(tmp_path / "a", **changes), make_loop(tmp_path / "b", **changes)
    assert resumed.state.step == 4 and resumed.run() and whole.run()
    for loop in (resumed, whole):
        loop.load_best()
    assert weights(resumed.model) == weights(whole.model)
    assert resumed.state.skipped_steps == whole.state.skipped_steps > 0


def rank(folder: Path, rank: int, world_size: int, settings: dict[str, Any]) -> list[int]:
    """One of two ranks: three steps, and how many numbers it then holds, and all together."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=world_size)
    corpus = Corpus(folder / f"corpus-{rank}")
    splits = Splits(*(tokens.open_split(corpus.tokens, corpus.manifest, s) for s in ("train", "validation")), 0)
    torch.manual_seed(0)
    model, group = build_model(ModelConfig(depth=2), corpus.manifest), Group(rank, world_size, torch.device("cpu"))
    loop = Loop(TrainConfig.parse(settings), model, splits, group, open_checkpoints(str(folder)))
    loop.run()
    own = sum(local(p).numel() for p in loop.model.parameters())
    states = [v for state in loop.optimizer.state.values() for v in state.values()]
    kept = sum(local(v).numel() for v in states)
    return [own, kept, sum(p.numel() for p in loop.model.parameters()), sum(v.numel() for v in states)]


def test_two_processes_hold_a_half_each(tmp_path: Path) -> None:
    settings = {"parallel": "fsdp", "max_steps": 3, "batch_size": 8, "threads": 1, "ema_decay": 0.9}
    with closing(Forked("tests.training.test_sharding")) as forked:
        ranks = forked.run(tmp_path, 2, settings)
    assert [rank.code for rank in ranks] == [0, 0], ranks
    (own, kept, numel, state), (other, also_kept, *_) = (rank.returned for rank in ranks)
    assert own + other == numel and kept + also_kept >= state
    # Two moments and an average a weight; a step's number is on both.
    assert state == pytest.approx(3 * numel, rel=0.01)
    assert own == pytest.approx(numel / 2, rel=0.05) and kept == pytest.approx(state / 2, rel=0.05)


def test_a_lack_of_memory_ends_the_run_with_what_to_lower() -> None:
    def hungry() -> float:
        raise MemoryError

    with pytest.raises(MemoryExceeded, match=r"micro-batches of 64 tokens, .* lower training.micro_batch_tokens"):
        MicroBatchBudget(64, None).attempt(hungry)


def test_muon_is_refused_for_it_needs_whole_matrices() -> None:
    with pytest.raises(ConfigError, match="optimizer = muon needs whole matrices"):
        TrainConfig.parse({"parallel": "fsdp", "optimizer": "muon"})


def test_a_weight_is_cut_as_another_one_is_and_comes_back(group: Any) -> None:
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.tensor import Shard, distribute_tensor

    from fairlead.training.updates.shards import local, shared_as, total_norm, whole

    mesh = DeviceMesh.from_group(torch.distributed.group.WORLD, "cpu")
    like, tensor = distribute_tensor(torch.zeros(5, 2), mesh, [Shard(0)]), torch.arange(10.0).view(5, 2)
    cut = shared_as(like, tensor)
    assert isinstance(cut, DTensor) and torch.equal(whole(cut), tensor) and torch.equal(local(cut), tensor)
    assert shared_as(like, torch.ones(())).shape == () and shared_as(tensor, tensor) is tensor
    assert float(total_norm([cut, tensor])) == pytest.approx(float((2 * tensor.square().sum()).sqrt()))
