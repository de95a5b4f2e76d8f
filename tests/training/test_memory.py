"""Out of memory: a smaller micro-batch, the same numbers, in one process and in two of which one is short.

A limit on the address space makes the allocator fail as it does on a full machine. What is computed before
the limit is set, and the limit's size, do not matter for what is checked.
"""

import resource
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from fairlead.errors import MemoryExceeded
from fairlead.formats import tokens
from fairlead.training.batching.packing import Pack
from fairlead.training.checkpoints.format import open_checkpoints
from fairlead.training.config import ModelConfig, TrainConfig
from fairlead.training.launching.distributed import Group
from fairlead.training.loop import Loop
from fairlead.training.models.building import build_model
from fairlead.training.objective.tasks import Splits
from fairlead.training.updates.gradients import GradientExchange
from fairlead.training.watch.memory import MicroBatchBudget, in_parts, is_out_of_memory
from tests.training.corpus import Corpus, PromptLog, Recorder, curve
from tests.training.forked import Forked

SETTINGS = {"epochs": 1, "batch_size": 24, "threads": 1, "optimizer": "sgd", "learning_rate": 1e-2}

# What is left under the limit. `hungry` asks for twice as much.
ROOM = 1 << 28


def rank(folder: Path, rank: int, world_size: int, hungry_rank: int, settings: dict[str, Any]) -> dict[str, Any]:
    """One rank of a run of 3 steps; the hungry one fills memory from within a micro-batch above two tokens a row."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=world_size)
    corpus = Corpus(folder / f"corpus-{rank}")
    splits = Splits(*(tokens.open_split(corpus.tokens, corpus.manifest, s) for s in ("train", "validation")), 0)
    torch.manual_seed(0)
    model = build_model(ModelConfig(depth=1), corpus.manifest)
    group, log = Group(rank, world_size, torch.device("cpu")), PromptLog(Recorder(folder)) if rank == 0 else None
    loop = Loop(TrainConfig.parse(settings), model, splits, group, open_checkpoints(str(folder)), log)

    def hungry(_module: object, arguments: tuple[Any, ...]) -> None:
        batch = arguments[0]
        if (batch.input_ids_T if isinstance(batch, Pack) else batch.input_ids_BT).numel() > settings["batch_size"] * 2:
            torch.empty(2 * ROOM, dtype=torch.uint8)

    if rank == hungry_rank:
        loop._passes.network.register_forward_pre_hook(hungry)
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + ROOM, resource.RLIM_INFINITY))
    loop.run()
    return {"budget": loop.state.micro_batch_tokens, "step": loop.state.step}


@pytest.fixture(scope="module")
def forked() -> Iterator[Forked]:
    forked = Forked("tests.training.test_memory")
    yield forked
    forked.close()


def train(forked: Forked, folder: Path, world_size: int, hungry_rank: int, **settings: Any) -> list[dict[str, Any]]:
    folder.mkdir()
    ranks = forked.run(folder, world_size, hungry_rank, SETTINGS | settings)
    assert [rank.code for rank in ranks] == [0] * world_size, ranks
    assert ("memory ran out at step 1" in ranks[0].output) == (hungry_rank == 0)
    return [rank.returned for rank in ranks]


@pytest.mark.parametrize(("world_size", "hungry_rank"), [(1, 0), (2, 0)])
def test_a_batch_that_does_not_fit_is_computed_in_smaller_parts(
    forked: Forked, tmp_path: Path, world_size: int, hungry_rank: int
) -> None:
    found = train(forked, tmp_path / "short", world_size, hungry_rank)
    budget = found[0]["budget"]
    assert found == [{"budget": budget, "step": 3}] * world_size and budget < 300
    train(forked, tmp_path / "set", world_size, -1, micro_batch_tokens=budget)
    for name in ("loss", "gradient_norm"):
        assert curve(tmp_path / "short", name) == curve(tmp_path / "set", name)
    assert curve(tmp_path / "short", "micro_batch_tokens") == [budget] * 3


def test_what_fits_is_remembered(make_loop: Callable[..., Any], tmp_path: Path) -> None:
    loop = make_loop(tmp_path / "a", micro_batch_tokens=4096, max_steps=2)
    loop.gradient.budget.halve(1, loop.plan.rows(1), loop._passes.lengths, True)
    loop._advance(micro_batch_tokens=loop.gradient.budget.tokens)
    loop.run()
    resumed = make_loop(tmp_path / "a", micro_batch_tokens=4096, max_steps=4)
    assert resumed.gradient.budget.tokens == loop.gradient.budget.tokens < 4096


def test_a_row_that_does_not_fit_alone_is_named(make_loop: Callable[..., Any], tmp_path: Path) -> None:
    loop = make_loop(tmp_path, batch_size=72)

    whole, settling = loop.gradient._wrap, threading.Event()

    def too_little(*_: object) -> None:
        if not settling.is_set():
            raise MemoryError

    def wrap() -> object:
        settling.set()
        ddp = whole()
        settling.clear()
        return ddp

    loop._passes.network.register_forward_pre_hook(too_little)
    loop.gradient._wrap = wrap
    longest = loop._passes.lengths.max()
    with pytest.raises(MemoryExceeded, match=rf"one row of {longest} tokens \(row \d+ of 'train'\) alone"):
        loop.run()


def test_halving_skips_what_is_more_than_the_whole_batch(capfd: pytest.CaptureFixture[str]) -> None:
    rows, lengths = torch.arange(4).numpy(), torch.tensor([10, 20, 30, 100]).numpy()
    budget = MicroBatchBudget(4096, GradientExchange(1))
    for expected in (256, 128, 64):
        budget.halve(7, rows, lengths, True)
        assert budget.tokens == expected
    assert "memory ran out at step 7 with micro-batches of 4,096 tokens; it goes on with 256" in capfd.readouterr().err
    with pytest.raises(MemoryExceeded, match=r"one row of 100 tokens \(row 3 of 'train'\)"):
        budget.halve(8, rows, lengths, True)


def test_other_failures_are_not_taken_for_a_lack_of_memory() -> None:
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory")) and is_out_of_memory(MemoryError())
    with pytest.raises(RuntimeError) as raised:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert is_out_of_memory(raised.value)
    with pytest.raises(RuntimeError) as raised:
        torch.ones(2) @ torch.ones(3)
    assert not is_out_of_memory(raised.value)
    with pytest.raises(RuntimeError, match="size"):
        MicroBatchBudget(16, GradientExchange(1)).attempt(lambda: float(torch.ones(2) @ torch.ones(3)))


def test_work_by_row_is_done_in_the_parts_that_fit() -> None:
    done: list[list[int]] = []

    def compute(rows: Any) -> None:
        if len(rows) > 3:
            raise MemoryError
        done.append(list(rows))

    in_parts(torch.arange(10).numpy(), compute)
    assert done == [[0, 1], [2, 3, 4], [5, 6], [7, 8, 9]]
