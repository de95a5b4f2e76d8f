"""How the threads of a numerical library wait for each other."""

import os

# Spins of a waiting thread before it sleeps (GNU OpenMP, which torch uses on CPU). The default of billions
# is for machines of one's own: two processes on two cores then spin each other out of the way, and a small
# model trained 10 times slower. 1,000 spins are some microseconds, longer than a balanced kernel's wait.
SPIN_COUNT = "1000"


def environment() -> dict[str, str]:
    """Variables for a child process that computes; what the user has set stays."""
    if "OMP_WAIT_POLICY" in os.environ or "GOMP_SPINCOUNT" in os.environ:
        return {}
    return {"GOMP_SPINCOUNT": SPIN_COUNT}
