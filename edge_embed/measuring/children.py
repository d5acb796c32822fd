"""Processes of their own: a crash is an answer, not an end."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

REASON_LENGTH = 300
MEANINGS = {
    "SIGILL": "an instruction that this CPU does not have, so the package was built for a newer one",
    "SIGSEGV": "a crash in native code",
    "SIGBUS": "a crash in native code, or a disk that ran full",
    "SIGABRT": "it gave up by itself",
    "SIGKILL": "killed, most often for want of memory",
}
# How Windows numbers the first two.
WINDOWS_STATUS = {0xC000001D: -4, 0xC0000005: -11}


# Sends a message to the process that started this one.
Say = Callable[[dict[str, Any]], None]


@contextmanager
def answering() -> Iterator[Say]:
    """For a child: say(message) writes a line of JSON to stdout; what libraries print goes to stderr."""
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as output:
        os.dup2(2, 1)

        def say(message: dict[str, Any]) -> None:
            output.write(json.dumps(message) + "\n")
            output.flush()

        yield say


def message(line: str | bytes) -> dict[str, Any]:
    """What a child said in a line; {} for a line that it died in."""
    try:
        found = json.loads(line)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def ask(
    module: str, job: dict[str, Any], seconds: float, hear: Callable[[dict[str, Any]], None] = lambda _: None
) -> tuple[dict[str, Any] | None, str | None]:
    """Run `python -m module JOB`: what it said as {"result": ...}, or why there is none.

    hear: called with every message. {"stage": what begins} and {"failed": why} make the reason
    """
    said: dict[str, Any] = {}

    def take(line: str) -> None:
        found = message(line)
        said.update(found)
        hear(found)

    _, problem = child(["-m", module, json.dumps(job)], seconds, take)
    if problem:
        return None, f"while {said.get('stage', 'starting')}: {problem}"
    return said.get("result"), said.get("failed")


def child(
    arguments: Sequence[str],
    seconds: float | None,
    hear: Callable[[str], None] = lambda _: None,
    variables: Mapping[str, str] | None = None,
) -> tuple[list[str], str | None]:
    """Run this Python with arguments: the lines it printed, and why it did not end well or None.

    It finds the same packages as this process. `hear` is called with every line as it comes; `variables` are added to
    the environment.
    """
    lines: list[str] = []
    with tempfile.TemporaryFile() as errors:
        try:
            process = subprocess.Popen(  # noqa: S603 - programs of our own, by this interpreter
                [sys.executable, "-P", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=environment(variables or {}),
            )
        except (OSError, ValueError) as error:
            return lines, f"a process cannot be started: {error}"
        with process:
            late = _listen(process, seconds, lines, hear)
        errors.seek(0)
        said = errors.read().decode("utf-8", "replace")
    if late:
        return lines, f"no answer within {seconds:.0f} seconds"
    status = WINDOWS_STATUS.get(process.returncode & 0xFFFFFFFF, process.returncode)
    return lines, _explain(death(status, said)) if status else None


def environment(variables: Mapping[str, str]) -> dict[str, str]:
    """The environment of a child that finds the same packages as this process."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path), **variables}


def _listen(
    process: "subprocess.Popen[bytes]", seconds: float | None, lines: list[str], hear: Callable[[str], None]
) -> bool:
    """Hear and keep the lines a process prints until it ends; whether it was killed because that took too long."""
    late = threading.Event()

    def stop() -> None:
        late.set()
        process.kill()

    timer = threading.Timer(seconds, stop) if seconds is not None else None
    try:
        if timer:
            timer.start()
        for raw in process.stdout or ():
            lines.append(raw.decode("utf-8", "replace").strip())
            hear(lines[-1])
        process.wait()
    finally:
        if timer:
            timer.cancel()
        process.kill()
    return late.is_set()


def _explain(reason: str) -> str:
    """Adds what a signal means: "its process died: SIGILL, an instruction that this CPU does not have, ..."."""
    reason = reason.removeprefix("its process ended with status 1: ")  # the exception says enough
    meaning = next((meaning for name, meaning in MEANINGS.items() if reason.endswith(name)), None)
    return one_line(reason if meaning is None else f"{reason}, {meaning}")


def one_line(text: str) -> str:
    """A reason as it fits into a table's footnote."""
    line = " ".join(text.split())
    return line if len(line) <= REASON_LENGTH else line[: REASON_LENGTH - 1] + "…"


def death(status: int, errors: str) -> str:
    """-11 -> "its process died: SIGSEGV"."""
    last = next((line for line in reversed(errors.splitlines()) if line.strip()), "")
    if status < 0:
        name = signal.Signals(-status).name if -status in {int(s) for s in signal.Signals} else f"signal {-status}"
        return f"its process died: {name}"
    return f"its process ended with status {status}: {last}"
