"""The order of examples is a function of seed and step alone, and no row is lost or seen twice."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.training.batching.batches import Plan, micro_batches, overhead_tokens, packs, random_state, share_out


def plan(**changes: object) -> Plan:
    return Plan(**({"num_rows": 50, "batch_size": 8, "epochs": 3, "max_steps": None, "seed": 1} | changes))


def test_an_epoch_sees_every_row_once() -> None:
    steps = plan()
    assert (steps.steps_per_epoch, steps.num_steps) == (7, 21)
    for epoch in range(3):
        rows = np.concatenate([steps.rows(epoch * 7 + i) for i in range(1, 8)])
        assert sorted(rows) == list(range(50))


def test_epochs_and_seeds_differ_and_any_step_can_be_asked_first() -> None:
    steps = plan()
    assert not np.array_equal(steps.rows(1), steps.rows(8))
    assert not np.array_equal(steps.rows(1), plan(seed=2).rows(1))
    late = steps.rows(20).copy()
    assert np.array_equal(late, plan().rows(20))


def test_max_steps_limits_the_run() -> None:
    assert plan(max_steps=5).num_steps == 5
    assert plan(max_steps=500).num_steps == 21


@pytest.mark.parametrize("steps", [1, 7, 10, 21])
def test_tokens_are_those_of_the_steps(steps: int) -> None:
    lengths = np.arange(50)
    expected = sum(int(lengths[plan().rows(step)].sum()) for step in range(1, steps + 1))
    assert plan().num_tokens(lengths, steps) == expected


@settings(deadline=None)
@given(
    lengths=st.lists(st.integers(1, 60), min_size=1, max_size=80),
    budget=st.integers(16, 200),
    overhead=st.integers(0, 300),
    seed=st.integers(0, 9),
)
def test_micro_batches_hold_every_row_within_the_budget(
    lengths: list[int], budget: int, overhead: int, seed: int
) -> None:
    length_of = np.array(lengths)
    rows = np.random.default_rng(seed).permutation(len(lengths))
    pieces = micro_batches(rows, length_of, budget, overhead)
    assert sorted(np.concatenate(pieces)) == sorted(rows)
    for piece in pieces:
        assert len(piece) == 1 or len(piece) * length_of[piece].max() <= budget


def cost(pieces: list[np.ndarray], lengths: np.ndarray, overhead: int) -> int:
    return sum(len(piece) * int(lengths[piece].max()) + overhead for piece in pieces)


@settings(deadline=None)
@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=7), overhead=st.integers(0, 20))
def test_no_other_cut_of_the_sorted_rows_is_cheaper(lengths: list[int], overhead: int) -> None:
    length_of = np.array(lengths)
    found = cost(micro_batches(np.arange(len(lengths)), length_of, 1000, overhead), length_of, overhead)
    ordered = np.argsort(-length_of, kind="stable")
    places = range(1, len(lengths))
    every_cut = (cut for n in range(len(lengths)) for cut in itertools.combinations(places, n))
    assert found == min(cost(np.split(ordered, cut), length_of, overhead) for cut in every_cut)


def test_a_larger_model_is_cut_finer() -> None:
    rows, lengths = np.arange(64), np.random.default_rng(0).lognormal(3, 0.7, 64).astype(int) + 2
    small, large = (len(micro_batches(rows, lengths, 4096, overhead_tokens(n))) for n in (10**5, 10**7))
    assert small < large


@pytest.mark.parametrize("other", [(1, 2, 3), (0, 3, 3), (0, 2, 4)])
def test_the_random_state_depends_on_seed_step_and_micro_batch(other: tuple[int, int, int]) -> None:
    assert random_state(0, 2, 3) == random_state(0, 2, 3) != random_state(*other)


@settings(deadline=None)
@given(sizes=st.lists(st.integers(1, 500), min_size=8, max_size=60), world_size=st.integers(1, 4))
def test_work_is_shared_out_evenly(sizes: list[int], world_size: int) -> None:
    shares = share_out(sizes, world_size)
    assert sorted(itertools.chain(*shares)) == list(range(len(sizes)))
    loads = [sum(sizes[i] for i in share) for share in shares]
    # The last that the fullest process got found it the least loaded one.
    assert max(loads) <= sum(sizes) / world_size + max(sizes)
    assert max(loads) - min(loads) <= max(sizes)


@settings(deadline=None)
@given(sizes=st.lists(st.integers(1, 50), min_size=1, max_size=40), budget=st.integers(1, 120))
def test_packs_keep_the_order_and_the_budget(sizes: list[int], budget: int) -> None:
    found = packs(range(len(sizes)), sizes, budget)
    assert list(itertools.chain(*found)) == list(range(len(sizes)))
    for one in found:
        assert len(one) == 1 or sum(sizes[i] for i in one) <= budget
    for one, following in itertools.pairwise(found):
        assert sum(sizes[i] for i in one) + sizes[following[0]] > budget


def test_the_rows_of_a_step_are_found_at_once_at_any_depth() -> None:
    deep = Plan(num_rows=1000, batch_size=32, epochs=10**8, max_steps=None, seed=3)
    assert deep.num_steps > 3 * 10**9
    step = 10**9
    epoch, position = divmod(step - 1, deep.steps_per_epoch)
    whole = [deep.rows(epoch * deep.steps_per_epoch + number) for number in range(1, deep.steps_per_epoch + 1)]
    assert deep.rows(step).tolist() == whole[position].tolist()
    assert sorted(row for rows in whole for row in rows) == list(range(1000))
