import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from edge_embed_runtime import machine
from edge_embed_runtime.machine import default_threads, peak_rss_bytes, seconds_since_start

linux = pytest.mark.skipif(sys.platform != "linux", reason="read from /proc")

Cgroup = Callable[..., None]


@pytest.fixture
def cgroup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cgroup:
    """A machine of eight cores with the cgroup files given: cgroup({"cpu.max": "max 100000"})."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(machine, "physical_cores", lambda _: None)
    monkeypatch.setattr(machine, "Path", lambda path: tmp_path if path == "/sys/fs/cgroup" else Path(path))

    def write(files: dict[str, str]) -> None:
        for name, content in files.items():
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(content)

    return write


def test_threads_are_within_the_affinity() -> None:
    """At least one thread, and no more than the cores this process may run on."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    assert 1 <= default_threads() <= cores


def test_two_processors_of_a_core_are_one_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of eight processors on four cores this process may run on three, of two cores."""
    for processor in range(8):
        folder = tmp_path / f"cpu{processor}" / "topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(f"{processor % 4},{processor % 4 + 4}\n")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 4, 5}, raising=False)
    monkeypatch.setattr(machine, "Path", lambda path: Path(str(path).replace("/sys/devices/system/cpu", str(tmp_path))))
    monkeypatch.setattr(machine, "_cgroup_cores", lambda: None)
    assert default_threads() == 2
    assert machine.physical_cores([0, 1, 2, 3]) == 4
    assert machine.physical_cores([8]) is None


@linux
def test_giving_way_is_for_one_thread() -> None:
    """The thread that calls has the lowest priority then; the others keep theirs."""
    before = os.sched_getscheduler(0), os.getpriority(os.PRIO_PROCESS, 0)
    with ThreadPoolExecutor(1, initializer=machine.give_way) as pool:
        assert pool.submit(os.sched_getscheduler, 0).result() == os.SCHED_IDLE
        assert pool.submit(lambda: os.getpriority(os.PRIO_PROCESS, threading.get_native_id())).result() == 19
    assert (os.sched_getscheduler(0), os.getpriority(os.PRIO_PROCESS, 0)) == before


@pytest.mark.parametrize(
    ("quota", "threads"),
    [
        ("max 100000\n", 8),
        ("200000 100000\n", 2),
        ("150000 100000\n", 2),  # a part of a core is one thread more
        ("10000 100000\n", 1),
        ("6400000 100000\n", 8),
        ("garbage\n", 8),
        ("", 8),
    ],
)
def test_quota_of_cgroup_version_2(quota: str, threads: int, cgroup: Cgroup) -> None:
    """The quota cuts the number of threads, never below one; without a quota that can be read all cores count."""
    cgroup({"cpu.max": quota})
    assert default_threads() == threads


@pytest.mark.parametrize(("quota", "threads"), [("-1\n", 8), ("300000\n", 3), ("250000\n", 3), ("0\n", 8)])
def test_quota_of_cgroup_version_1(quota: str, threads: int, cgroup: Cgroup) -> None:
    """The quota is in a file of its own; -1 means none."""
    cgroup({"cpu/cpu.cfs_quota_us": quota, "cpu/cpu.cfs_period_us": "100000\n"})
    assert default_threads() == threads


def test_no_cgroup(cgroup: Cgroup) -> None:
    """Without cgroup files all cores of the affinity count."""
    cgroup({})
    assert default_threads() == 8


def test_no_affinity(cgroup: Cgroup, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system has no affinity all cores count, and one where it does not tell their number."""
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert default_threads() == 6
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert default_threads() == 1


@pytest.mark.skipif(sys.platform == "win32", reason="the system does not tell")
def test_peak_grows_with_memory_in_use() -> None:
    """Touching more memory than the peak raises the peak; freeing it does not lower it."""
    before = peak_rss_bytes()
    assert before is not None
    size = before + 2**24
    block = np.ones(size, np.uint8)
    assert (peak_rss_bytes() or 0) >= size
    del block
    assert (peak_rss_bytes() or 0) >= size


@linux
def test_seconds_since_start() -> None:
    """A new process counts from its own start, not from that of the machine or of its parent."""
    started = time.monotonic()
    program = "from edge_embed_runtime.machine import seconds_since_start; print(seconds_since_start())"
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout
    elapsed = time.monotonic() - started
    assert 0 <= float(printed) <= elapsed + 0.1
    assert (seconds_since_start() or 0) > 0


def test_systems_without_proc(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without /proc the time since start is unknown, and the peak comes from elsewhere or is unknown."""
    peak = peak_rss_bytes()
    monkeypatch.setattr(machine, "physical_cores", lambda _: None)
    monkeypatch.setattr(machine, "Path", lambda path: tmp_path / path.lstrip("/"))
    assert seconds_since_start() is None
    assert (peak_rss_bytes() is None) == (peak is None)
