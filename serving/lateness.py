"""How late the event loop is: what has come to a socket, health requests included, waits so long before it is read."""

import asyncio
import time

from serving.metrics import LOOP_LATE_SECONDS

# Twenty looks a second cost a thousandth of a core and see what holds the loop up for milliseconds.
SECONDS_BETWEEN_LOOKS = 0.05


async def watch_lateness() -> None:
    """Observe until cancelled."""
    while True:
        due = time.perf_counter() + SECONDS_BETWEEN_LOOKS
        await asyncio.sleep(SECONDS_BETWEEN_LOOKS)
        # The loop's own clock has milliseconds.
        LOOP_LATE_SECONDS.observe(max(0.0, time.perf_counter() - due))
