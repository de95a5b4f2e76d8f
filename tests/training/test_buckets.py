"""Batches of one length: every row once, little padding, and the same whoever asks and whenever."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.training.batching.batches import Plan, micro_batches
from fairlead.training.batching.buckets import by_rows, by_tokens


def log_normal(num_rows: int, seed: int = 0) -> np.ndarray:
    """Mean 50, at most 256."""
    drawn = np.random.default_rng(seed).lognormal(np.log(50) - 0.7**2 / 2, 0.7, num_rows)
    return np.clip(drawn, 4, 256).astype(np.int64)


def plan(lengths: np.ndarray, batch_tokens: int | None = None, window: int = 2048, **changes: int) -> Plan:
    buckets = by_tokens(lengths, batch_tokens, window) if batch_tokens else by_rows(lengths, 32, window)
    return Plan(len(lengths), 32, 3, None, changes.get("seed", 1), buckets=buckets)


@pytest.mark.parametrize("batch_tokens", [1024, 4096, None])
@pytest.mark.parametrize("seed", [0, 1])
def test_at_most_a_twentieth_of_the_computed_tokens_is_padding(batch_tokens: int | None, seed: int) -> None:
    lengths = log_normal(20_000, seed)
    steps = plan(lengths, batch_tokens, window=4096)
    useful = computed = 0
    for step in range(1, steps.steps_per_epoch + 1):
        for rows in micro_batches(steps.rows(step), lengths, 4096, overhead=64):
            useful += int(lengths[rows].sum())
            computed += len(rows) * int(lengths[rows].max())
    assert useful == lengths.sum() and 1 - useful / computed <= 0.05


@settings(deadline=None)
@given(
    lengths=st.lists(st.integers(1, 300), min_size=1, max_size=90),
    batch_tokens=st.integers(1, 2000),
    window=st.integers(0, 40),
)
def test_an_epoch_sees_every_row_once_and_no_batch_is_empty(lengths: list[int], batch_tokens: int, window: int) -> None:
    length_of = np.array(lengths)
    steps = plan(length_of, batch_tokens, window)
    batches = [steps.rows(steps.steps_per_epoch + i) for i in range(1, steps.steps_per_epoch + 1)]
    assert sorted(np.concatenate(batches)) == list(range(len(lengths)))
    limit = length_of.sum() / steps.steps_per_epoch + length_of.max()
    assert all(len(rows) and length_of[rows].sum() <= limit for rows in batches)


def test_rows_are_cut_into_batches_of_the_asked_size() -> None:
    steps = plan(log_normal(100))
    assert {len(steps.rows(i)) for i in range(1, 5)} == {25} and steps.steps_per_epoch == 4


def test_any_step_can_be_asked_first_and_epochs_and_seeds_differ() -> None:
    lengths = log_normal(5_000)
    steps = plan(lengths, 2048)
    late = steps.rows(2 * steps.steps_per_epoch + 7).copy()
    assert np.array_equal(late, plan(lengths, 2048).rows(2 * steps.steps_per_epoch + 7))
    assert not np.array_equal(steps.rows(1), steps.rows(1 + steps.steps_per_epoch))
    assert not np.array_equal(steps.rows(1), plan(lengths, 2048, seed=2).rows(1))


def test_neighbouring_batches_are_of_other_lengths() -> None:
    lengths = log_normal(20_000)
    steps = plan(lengths, 2048)
    means = [float(lengths[steps.rows(step)].mean()) for step in range(1, steps.steps_per_epoch + 1)]
    assert abs(float(np.corrcoef(means[:-1], means[1:])[0, 1])) < 0.2
