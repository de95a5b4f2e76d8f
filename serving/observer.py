"""Who is told of requests: those who count them, log them, keep their answers or trace them."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from serving.exchange import Exchange


class Observer:
    """Does nothing. It is called on the event loop, so it must return at once."""

    def began(self, exchange: "Exchange") -> None:
        """A request has come."""

    def ended(self, exchange: "Exchange") -> None:
        """It ended, well or not."""

    def flush(self) -> None:
        """Do now what was put off."""

    def close(self) -> None:
        """Write what waits: no more requests come."""
