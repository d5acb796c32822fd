import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from edge_embed_runtime.system import cpu as machine
from edge_embed_runtime.system import memory, process
from edge_embed_runtime.system.cpu import default_threads
from edge_embed_runtime.system.memory import peak_rss_bytes
from edge_embed_runtime.system.process import seconds_since_start

linux = pytest.mark.skipif(sys.platform != "linux", reason="read from /proc")


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
    monkeypatch.setattr(machine, "cpu_quota", lambda: None)
    assert default_threads() == 2
    assert machine.physical_cores([0, 1, 2, 3]) == 4
    assert machine.physical_cores([8]) is None


@linux
def test_giving_way_is_for_one_thread() -> None:
    """The thread that calls has the lowest priority then; the others keep theirs."""
    before = os.sched_getscheduler(0), os.getpriority(os.PRIO_PROCESS, 0)
    with ThreadPoolExecutor(1, initializer=process.give_way) as pool:
        assert pool.submit(os.sched_getscheduler, 0).result() == os.SCHED_IDLE
        assert pool.submit(lambda: os.getpriority(os.PRIO_PROCESS, threading.get_native_id())).result() == 19
    assert (os.sched_getscheduler(0), os.getpriority(os.PRIO_PROCESS, 0)) == before


@pytest.mark.parametrize(("quota", "threads"), [(None, 8), (0.1, 1), (1.5, 2), (2.0, 2), (64.0, 8)])
def test_a_quota_cuts_threads(quota: float | None, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A part of a core is one thread more; there is never none."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(machine, "physical_cores", lambda _: None)
    monkeypatch.setattr(machine, "cpu_quota", lambda: quota)
    assert default_threads() == threads


def test_no_affinity(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system has no affinity all cores count, and one where it does not tell their number."""
    monkeypatch.setattr(machine, "physical_cores", lambda _: None)
    monkeypatch.setattr(machine, "cpu_quota", lambda: None)
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
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
    program = "from edge_embed_runtime.system.process import seconds_since_start; print(seconds_since_start())"
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout
    elapsed = time.monotonic() - started
    assert 0 <= float(printed) <= elapsed + 0.1
    assert (seconds_since_start() or 0) > 0


def test_systems_without_proc(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without /proc the time since start is unknown, and the peak comes from elsewhere or is unknown."""
    peak = peak_rss_bytes()
    monkeypatch.setattr(machine, "physical_cores", lambda _: None)
    for module in (machine, memory, process):
        monkeypatch.setattr(module, "Path", lambda path: tmp_path / path.lstrip("/"))
    assert seconds_since_start() is None
    assert (peak_rss_bytes() is None) == (peak is None)
