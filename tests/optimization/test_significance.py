import numpy as np
import pytest

from fairlead.optimization.significance import (
    rows_needed,
    worst_drop_of_accuracy,
    worst_drop_of_micro_f1,
    worst_drop_of_r2,
)


def right(rows: int, wrong: int, first: int = 0) -> np.ndarray:
    values = np.ones(rows, np.bool_)
    values[first : first + wrong] = False
    return values


def test_equal_answers_are_bounded_by_their_number() -> None:
    """Without a discordant row the score interval ends at z^2 / (n + z^2): Tango 1998."""
    z = 1.6448536269514722
    same = right(1000, 100)
    assert worst_drop_of_accuracy(same, same, 0.95) == pytest.approx(z**2 / (1000 + z**2), abs=1e-9)


@pytest.mark.parametrize(("lost", "gained"), [(1, 0), (12, 3), (3, 12)])
def test_at_the_bound_the_statistic_is_the_quantile(lost: int, gained: int) -> None:
    """With the nuisance parameter, the share of gained rows, found by trying values instead of Tango's formula."""
    rows, z = 200, 1.6448536269514722
    reference, ours = right(rows, gained), right(rows, lost, first=gained)
    bound = worst_drop_of_accuracy(ours, reference, 0.95)
    share = np.linspace(max(1e-9, 1e-9 - bound), (1 - bound) / 2 - 1e-9, 2_000_001)
    likelihood = lost * np.log(share + bound) + (rows - lost - gained) * np.log(1 - 2 * share - bound)
    best = share[np.argmax(likelihood + (gained * np.log(share) if gained else 0))]
    statistic = (lost - gained - rows * bound) / np.sqrt(rows * (2 * best + bound * (1 - bound)))
    assert statistic == pytest.approx(-z, abs=1e-3)


def test_the_bound_holds_as_often_as_it_says() -> None:
    """400 times 500 rows of which 3 % are lost and 1 % gained: the bound is above the true drop 95 times of 100."""
    generator, held = np.random.default_rng(3), 0
    for _ in range(400):
        draw = generator.random(500)
        reference, ours = ~(draw < 0.01), ~((draw >= 0.01) & (draw < 0.04))
        held += worst_drop_of_accuracy(ours, reference, 0.95) >= 0.02
    assert 0.92 <= held / 400 <= 0.98


def test_too_few_rows_are_known_beforehand() -> None:
    needed = rows_needed(0.01, 0.95)
    for rows, shown in ((needed - 1, False), (needed, True)):
        same = right(rows, 0)
        assert (worst_drop_of_accuracy(same, same, 0.95) <= 0.01) is shown
    assert rows_needed(0.0, 0.95) == float("inf")


def test_a_worse_variant_has_a_greater_bound_whatever_the_task() -> None:
    generator = np.random.default_rng(0)
    true_NC = generator.random((300, 4)) < 0.3
    little, much = true_NC.copy(), true_NC.copy()
    little[:3] ^= True
    much[:60] ^= True
    same, few, many = (worst_drop_of_micro_f1(true_NC, said, true_NC, 0.95) for said in (true_NC, little, much))
    assert same == 0 and 0 < few < 0.1 < many
    true_N = generator.normal(size=300)
    noise = generator.normal(size=300)
    few, many = (worst_drop_of_r2(true_N, true_N + scale * noise, true_N, 0.95) for scale in (0.05, 0.5))
    assert 0 < few < 0.01 < 0.2 < many
