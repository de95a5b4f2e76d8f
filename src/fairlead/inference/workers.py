"""The two threads that all models of a process share."""

import os

from fairlead.inference.reader import Reader
from fairlead.inference.scheduler import Scheduler


class Workers:
    """One thread that tokenizes and one that computes."""

    def __init__(self) -> None:
        # The tokenizers' own threads would take the core that computes; a few short texts gain nothing by them.
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        self.scheduler = Scheduler()
        self.reader = Reader(self.scheduler)

    def stop(self) -> None:
        """End both after what they do now."""
        self.reader.stop()
        self.scheduler.stop()
