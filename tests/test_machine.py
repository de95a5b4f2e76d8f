"""A container's limits are kept, as its control group says them, and what a pod without a limit asked for."""

import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from fairlead import machine


@pytest.fixture
def group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A control group on a machine of sixteen CPUs, two threads a core, and nothing else said."""
    for cpu in range(16):
        folder = tmp_path / "topology" / f"cpu{cpu}" / "topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(f"{cpu % 8},{cpu % 8 + 8}\n")
    monkeypatch.setattr(machine, "TOPOLOGY", tmp_path / "topology")
    monkeypatch.setattr(machine, "CGROUP", tmp_path)
    monkeypatch.setattr("os.sched_getaffinity", lambda _pid: set(range(16)), raising=False)
    monkeypatch.delenv("FAIRLEAD_CPUS", raising=False)
    return tmp_path


def test_threads_of_one_core_count_once(group: Path) -> None:
    assert machine.physical_cores() == 8


@pytest.mark.parametrize(("quota", "expected"), [("max 100000", 8), ("250000 100000", 2), ("50000 100000", 1)])
def test_a_quota_is_kept(group: Path, quota: str, expected: int) -> None:
    (group / "cpu.max").write_text(quota + "\n")
    assert machine.physical_cores() == expected


@pytest.mark.parametrize(("asked", "expected"), [("4", 4), ("1.5", 1), ("2500m", 2), ("500m", 1), ("64", 8), ("", 8)])
def test_so_is_what_a_pod_asked_for(group: Path, monkeypatch: pytest.MonkeyPatch, asked: str, expected: int) -> None:
    monkeypatch.setenv("FAIRLEAD_CPUS", asked)
    assert machine.physical_cores() == expected


def test_free_memory_is_what_the_container_has_left(group: Path) -> None:
    assert 0 < machine.free_memory() <= psutil.virtual_memory().total
    (group / "memory.max").write_text("5000000\n")
    (group / "memory.current").write_text("3000000\n")
    (group / "memory.stat").write_text("anon 1\ninactive_file 500000\n")
    assert machine.free_memory() == 2_500_000


def test_version_1_of_control_groups_is_read_as_well(group: Path) -> None:
    for name, content in (
        ("memory/memory.limit_in_bytes", "4000000"),
        ("memory/memory.usage_in_bytes", "1000000"),
        ("cpu/cpu.cfs_quota_us", "300000"),
        ("cpu/cpu.cfs_period_us", "100000"),
    ):
        (group / name).parent.mkdir(exist_ok=True)
        (group / name).write_text(content + "\n")
    assert (machine.free_memory(), machine.physical_cores()) == (3_000_000, 3)


@pytest.mark.skipif(sys.platform != "linux", reason="a nice value is a process's elsewhere")
def test_a_thread_that_gives_way_changes_no_other() -> None:
    def nice() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    def give_way() -> int:
        machine.give_way(3)
        return nice()

    before = nice()
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(give_way).result() == min(19, before + 3)
    assert nice() == before
