"""A process that answers orders: it keeps an index open while others are asked, and may crash or be killed."""

import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self

from bench.common import child_variables
from edge_embed.measuring import children

WORKER = ("-m", "bench.search.worker")
# LanceDB's thread pools (with LANCE_IO_THREADS=1 its writes wait for ever).
MORE_THREAD_VARIABLES = ("TOKIO_WORKER_THREADS", "LANCE_CPU_THREADS")


class ChildError(Exception):
    """Why a child gave no answer, in one line."""


class LateError(ChildError):
    """It took longer than it may."""


class Child:
    """One process of worker.py on one thread. Use it with `with`."""

    def __init__(self) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        self._process = subprocess.Popen(
            [sys.executable, "-P", *WORKER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=children.environment({**child_variables(1), **dict.fromkeys(MORE_THREAD_VARIABLES, "1")}),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        self._process.communicate()
        self._errors.close()

    def kill(self) -> None:
        """SIGKILL: nothing that the process could prepare for."""
        self._process.kill()

    def ask(self, order: dict[str, Any], limit_seconds: float) -> dict[str, Any]:
        """The answer to one order. Raises ChildError when it fails, dies, or takes longer."""
        late = threading.Event()

        def end() -> None:
            late.set()
            self.kill()

        timer = threading.Timer(limit_seconds, end)
        timer.start()
        try:
            self.tell(order)
            answer = next(self.answers(), None)
        finally:
            timer.cancel()
        if late.is_set():
            raise LateError(f"took longer than {limit_seconds:.0f} s")
        if answer is None:
            raise ChildError(self.death())
        if "failed" in answer:
            raise ChildError(children.one_line(answer["failed"]))
        return answer

    def tell(self, order: dict[str, Any]) -> None:
        """Send an order; what comes back is in `answers`."""
        assert self._process.stdin is not None  # noqa: S101 - for the type checker
        try:
            self._process.stdin.write(json.dumps(order).encode() + b"\n")
            self._process.stdin.flush()
        except OSError:  # it has died: `answers` then ends
            pass

    def answers(self) -> Iterator[dict[str, Any]]:
        """What the process says until it ends; a line that it died in is left out."""
        assert self._process.stdout is not None  # noqa: S101 - for the type checker
        yield from filter(None, map(children.message, self._process.stdout))

    def death(self) -> str:
        """How it ended: "its process died: SIGSEGV"."""
        status = self._process.wait()
        self._errors.seek(0)
        return children.one_line(children.death(status, self._errors.read().decode("utf-8", errors="replace")))
