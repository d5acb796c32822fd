"""How long a client waits for `edge-embed mcp`, and what the server takes.

    python -m bench.mcpserver [--cpu cortex-a72 --bed FOLDER] [--bundle static] [--rounds 3]

Seconds and CPU seconds from the start of the process to the answer of `initialize`, and of the first and later searches
in the small corpus of the package; the resident set after each. With --cpu under emulation, in the bed that
tests/whole/devices/bed.py makes in FOLDER, with the arm64 wheels of the SDK beside it. It measures neither a client nor
the first start, which compiles Python files.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from edge_embed import Embedder, Index
from edge_embed.corpus import demo_documents

ROOT = Path(__file__).resolve().parents[1]
HELLO = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "bench", "version": "1"}}
TICKS = os.sysconf("SC_CLK_TCK")


class Server:
    """The process, and what it took."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._started = time.perf_counter()
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=dict(environment)
        )
        self._number = 0

    def ask(self, method: str, params: Mapping[str, Any]) -> tuple[float, float]:
        """Wall and CPU seconds of a request; the first has those of the start."""
        begun, cpu = (time.perf_counter(), self._cpu()) if self._number else (self._started, 0.0)
        self._number += 1
        assert self._process.stdin is not None  # noqa: S101 - pipes
        assert self._process.stdout is not None  # noqa: S101
        message = {"jsonrpc": "2.0", "id": self._number, "method": method, "params": params}
        self._process.stdin.write(json.dumps(message) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        if "error" in answer or answer["result"].get("isError"):
            raise SystemExit(f"{method}: {answer}")
        return time.perf_counter() - begun, self._cpu() - cpu

    def search(self, query: str) -> tuple[float, float]:
        return self.ask("tools/call", {"name": "search", "arguments": {"query": query}})

    def rss_mb(self) -> float:
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS"))) / 1000

    def end(self) -> None:
        self._process.communicate()

    def _cpu(self) -> float:
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS


def emulated(cpu: str, bed: Path) -> tuple[list[str], dict[str, str]]:
    """What starts Python on a CPU of the bed, and its environment, in which the SDK can be imported."""
    sys.path.append(str(ROOT / "tests" / "whole" / "devices"))
    from bed import PYTHON, TAGS, Bed

    made = Bed(bed)
    sdk = bed / "mcp-aarch64"
    if not sdk.exists():
        tags = [word for tag in TAGS for word in ("--platform", tag)]
        pip = [sys.executable, "-m", "pip", "install", "-q", "--only-binary=:all:", "--target", str(sdk)]
        subprocess.run([*pip, "--python-version", PYTHON, "--implementation", "cp", *tags, "mcp>=2,<3"], check=True)
    script = made.script(f"{cpu}-{PYTHON}", made.command(cpu, "aarch64", PYTHON))
    environment = made.environment(script)
    return [str(script)], {**environment, "PYTHONPATH": f"{environment['PYTHONPATH']}{os.pathsep}{sdk}"}


def measure(command: Sequence[str], environment: Mapping[str, str], rounds: int) -> list[dict[str, float]]:
    taken = []
    for _ in range(rounds + 1):
        server = Server(command, environment)
        row: dict[str, float] = {}
        row["handshake s"], row["handshake CPU s"] = server.ask("initialize", HELLO)
        row["handshake MB"] = server.rss_mb()
        row["first search s"], row["first search CPU s"] = server.search("my card did not arrive")
        later = [server.search(query) for query in ("exchange rate", "a wrong PIN", "top up", "lost my phone")]
        row["later search s"] = median(wall for wall, _ in later)
        row["search MB"] = server.rss_mb()
        server.end()
        taken.append(row)
    return taken[1:]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--cpu", help="a CPU of qemu: cortex-a72 is a Raspberry Pi 4")
    parser.add_argument("--bed", type=Path, help="the folder of the bed")
    parser.add_argument("--bundle", default="minilm")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    python, environment = [sys.executable], dict(os.environ)
    if given.cpu:
        if given.bed is None:
            parser.error("--cpu needs --bed")
        python, environment = emulated(given.cpu, given.bed)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "demo.db"
        with Index.open(path, Embedder(given.bundle)) as index:
            index.add(demo_documents())
        command = [*python, "-m", "edge_embed", "mcp", str(path)]
        environment["XDG_CACHE_HOME"] = folder
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        rows = measure(command, environment, given.rounds)
    for name in rows[0]:
        values = [row[name] for row in rows]
        print(f"{name:20} {median(values):8.2f}   {min(values):.2f} to {max(values):.2f}")


if __name__ == "__main__":
    main()
