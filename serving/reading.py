"""Large requests are read beside the event loop, one after the other, and only some of them wait for that."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from fairlead.errors import Overloaded

# From here on a request is read beside the loop; less is parsed in 5 ms, whatever it holds.
LARGE_BYTES = 64 << 10
# Bodies of 32 MB in memory, several times over, and the seconds that the last of them waits.
MAX_READING = 16
_READING = ThreadPoolExecutor(1, thread_name_prefix="reading")

Result = TypeVar("Result")


class _Waiting:
    """How many large bodies are read, or wait for that."""

    count = 0


def check_waiting(num_bytes: int) -> None:
    """Raises Overloaded for a large body when many are read already."""
    if num_bytes >= LARGE_BYTES and _Waiting.count >= MAX_READING:
        raise Overloaded(f"server: {_Waiting.count} large bodies are being read; send it again later")


async def read_sized(num_bytes: int, read: Callable[[], Result]) -> Result:
    """What `read` makes of so many bytes: at once, or beside the loop. Raises Overloaded, and what `read` raises."""
    if num_bytes < LARGE_BYTES:
        return read()
    check_waiting(num_bytes)
    return await beside(read)


async def beside(read: Callable[[], Result]) -> Result:
    """Read something beside the event loop, when what came before is read."""
    _Waiting.count += 1
    try:
        return await asyncio.get_running_loop().run_in_executor(_READING, read)
    finally:
        _Waiting.count -= 1
