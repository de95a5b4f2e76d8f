"""A child process that ends when its parent does, even by SIGKILL, which lets a parent tell nobody."""

import os
import threading
import time

from fairlead.names import PARENT_ENV

SECONDS_BETWEEN_LOOKS = 0.5


def environment() -> dict[str, str]:
    """Variables for a child process that calls `end_with_parent`."""
    return {PARENT_ENV: str(os.getpid())}


def end_with_parent() -> None:
    """End this process soon after the one that gave it `environment()`; nothing where none did.

    A parent that was gone before this is called is missed, too.
    """
    # Or a grandchild would take its grandparent for its parent.
    parent = int(os.environ.pop(PARENT_ENV, "0"))
    if parent:
        watch(parent)


def watch(parent: int) -> None:
    """End this process once `parent` is its parent no more."""

    def look() -> None:
        while os.getppid() == parent:
            time.sleep(SECONDS_BETWEEN_LOOKS)
        os._exit(1)

    threading.Thread(target=look, daemon=True, name="end-with-parent").start()
