"""The threads that all models of a process share."""

import os

from fairlead.inference.scheduler import Scheduler
from fairlead.machine import physical_cores


class Workers:
    """Those that tokenize and compute: one a core, unless a number is given."""

    def __init__(self, cores: int | None = None) -> None:
        # The tokenizers' own threads would take the core that computes; a few short texts gain nothing by them.
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        self.scheduler = Scheduler(cores or physical_cores())

    def stop(self) -> None:
        """End them after what they do now."""
        self.scheduler.stop()
