"""How a run is told to stop: the stage's process hands each signal on to its ranks, and waits for them.

Torch's launcher has handlers of its own. They raise in the main thread, also a second time while the
ranks still write their checkpoint, and the ranks are then left behind; so the launcher runs in
another thread, where it installs none.
"""

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import psutil

# What a rank has to end its step and write a checkpoint; Kubernetes grants 30 s by default.
SHUTDOWN_SECONDS = 28
# A rank that had no handler yet when the first signal came gets another.
SECONDS_BETWEEN_SIGNALS = 0.5
SECONDS_BETWEEN_LOOKS = 0.1
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)


class Ended(NamedTuple):
    """How the work ended."""

    signal: str
    """Name of the first signal that came meanwhile; "" without any."""
    error: BaseException | None
    """What it raised."""


def handing_on_signals(work: Callable[[], object], program: str) -> Ended:
    """Do `work` in a thread, and meanwhile hand signals on to the children that run `program`.

    Children that do not end within SHUTDOWN_SECONDS are killed.
    """
    thread = _Thread(work)
    if threading.current_thread() is not threading.main_thread():
        # Signals come to the main thread only.
        thread.run()
        return Ended("", thread.error)
    with _received() as names:
        thread.start()
        while thread.is_alive() and not names:
            # A handler runs at once, but only the end of the waiting tells of it.
            thread.join(SECONDS_BETWEEN_LOOKS)
        deadline = time.monotonic() + SHUTDOWN_SECONDS
        while thread.is_alive():
            _tell(program, kill=time.monotonic() > deadline)
            thread.join(SECONDS_BETWEEN_SIGNALS)
    return Ended(names[0] if names else "", thread.error)


class _Thread(threading.Thread):
    """Keeps what its work raised."""

    def __init__(self, work: Callable[[], object]) -> None:
        super().__init__(daemon=True, name="launcher")
        self._work = work
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            self._work()
        except BaseException as error:
            self.error = error


@contextlib.contextmanager
def _received() -> Iterator[list[str]]:
    """The names of the signals that come within the block; the handlers that were there are put back."""
    names: list[str] = []
    before = {number: signal.getsignal(number) for number in SIGNALS}
    for number in SIGNALS:
        signal.signal(number, lambda came, _: names.append(signal.Signals(came).name))
    try:
        yield names
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _tell(program: str, kill: bool) -> None:
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error):
            if program in child.cmdline():
                child.send_signal(signal.SIGKILL if kill else signal.SIGTERM)
