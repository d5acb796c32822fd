"""This process: when it was started, and how much it asks for."""

import os
import sys
import threading
from contextlib import suppress
from pathlib import Path


def give_way() -> None:
    """Let this thread run only while nothing else wants its core (Linux; elsewhere nothing changes)."""
    if sys.platform == "linux":
        with suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))  # 0: the thread that calls
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)


def seconds_since_start() -> float | None:
    """Seconds since this process was started by the system (Linux), interpreter start-up included."""
    try:
        fields = Path("/proc/self/stat").read_text().rsplit(")", 1)[1].split()
        uptime = float(Path("/proc/uptime").read_text().split()[0])
        return uptime - int(fields[19]) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return None
