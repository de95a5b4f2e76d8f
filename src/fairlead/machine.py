"""What this process may use of the machine: cores and memory, the limits of a container kept.

A container's limits are those of its control group: https://docs.kernel.org/admin-guide/cgroup-v2.html (`cpu.max`,
`memory.max`, `memory.current`, `memory.stat`), and the files of version 1 where a machine still has it.
"""

import contextlib
import os
import sys
import threading
from pathlib import Path

import psutil

from fairlead.names import CPUS_ENV

TOPOLOGY = Path("/sys/devices/system/cpu")
CGROUP = Path("/sys/fs/cgroup")
# Limit, use, statistics, and the line of these that counts file pages which the kernel can drop, by version.
MEMORY_FILES = (
    ("memory.max", "memory.current", "memory.stat", "inactive_file"),
    (
        *("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
        *("memory/memory.stat", "total_inactive_file"),
    ),
)
# Version 1 writes "no limit" as a number that no machine has.
NO_LIMIT = 1 << 60


def give_way(by: int) -> None:
    """Let other threads have the core before the calling one: its nice value, which Linux keeps by thread, goes up."""
    if sys.platform != "linux":
        return
    thread = threading.get_native_id()
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + by)


def physical_cores() -> int:
    """Cores that this process may use: hyper-threads count once, and a container's limit is kept.

    Kubernetes tells a container its limit, but not what it asked for: a pod without a limit says so by FAIRLEAD_CPUS.
    """
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    siblings = set()
    for cpu in allowed:
        try:
            siblings.add((TOPOLOGY / f"cpu{cpu}/topology/thread_siblings_list").read_text())
        except OSError:
            siblings.add(str(cpu))
    limits = [limit for limit in (_cpu_limit(), _cpus_asked_for()) if limit]
    return max(1, int(min([len(siblings), *limits])))


def free_memory() -> int:
    """Bytes that this process and those that it starts can still have, of the machine and of its container."""
    free = int(psutil.virtual_memory().available)
    for limit_file, used_file, statistics, reclaimable in MEMORY_FILES:
        limit, used = _number(limit_file), _number(used_file)
        if limit is not None and limit < NO_LIMIT:
            free = min(free, int(limit - (used or 0)) + _counted(statistics, reclaimable))
    return max(0, free)


def _cpu_limit() -> float | None:
    """CPUs of the container's quota; None without one."""
    try:
        quota, period = (CGROUP / "cpu.max").read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError):
        quota_1, period_1 = _number("cpu/cpu.cfs_quota_us"), _number("cpu/cpu.cfs_period_us")
        return quota_1 / period_1 if quota_1 and period_1 and quota_1 > 0 else None


def _cpus_asked_for() -> float | None:
    """FAIRLEAD_CPUS as Kubernetes writes CPUs: `2`, `1.5`, `500m`; None when it is not set or no such number."""
    text = os.environ.get(CPUS_ENV, "")
    try:
        return float(text.removesuffix("m")) / (1000 if text.endswith("m") else 1)
    except ValueError:
        return None


def _number(name: str) -> float | None:
    """A control group's file of one number; None where there is none, or it says `max`."""
    try:
        return float((CGROUP / name).read_text())
    except (OSError, ValueError):
        return None


def _counted(statistics: str, name: str) -> int:
    """A line of a control group's statistics; 0 where there is none."""
    try:
        lines = (CGROUP / statistics).read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(name + " ")), 0)
