"""So many examples of a strategy, the same ones for the same seed, each handed to a function."""

from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, Phase, Verbosity, given, seed, settings


def draw(strategy: Any, number: int, number_seed: int, call: Callable[[Any], None]) -> None:
    """Call `call` with `number` examples, one at least."""

    @seed(number_seed)
    @settings(
        max_examples=max(1, number),
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        verbosity=Verbosity.quiet,
    )
    @given(strategy)
    def drawn(example: Any) -> None:
        call(example)

    drawn()
