"""The MCP server as a process, asked line by line as any client does it, and a notebook for tests without one."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from edge_embed import Embedder
from edge_embed.integrations.mcp.limits import Limits
from edge_embed.integrations.mcp.notebook import Notebook

HELLO = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}

# For all that a test asks of one process.
SECONDS = 120.0


def notebook(path: Path, embedder: Embedder | None, *, read_only: bool = False, **limits: Any) -> Notebook:
    return Notebook(path, lambda _: {"embedder": embedder}, limits=Limits(**limits), read_only=read_only)


def document(key: str, text: str, **metadata: Any) -> dict[str, Any]:
    return {"key": key, "text": text, "metadata": metadata}


class Server:
    """`edge-embed mcp` with pipes at stdin and stdout."""

    def __init__(self, *arguments: object, environment: Mapping[str, str] | None = None) -> None:
        command = [sys.executable, "-m", "edge_embed", "mcp", *map(str, arguments)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            encoding="utf-8", env={**os.environ, **(environment or {})},
        )  # fmt: skip
        self._number = 0
        self._alarm = threading.Timer(SECONDS, self.process.kill)  # or a test would wait for ever
        self._alarm.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._alarm.cancel()
        self.process.kill()
        self.process.communicate()

    def hello(self) -> dict[str, Any]:
        """The handshake."""
        answer = self.ask("initialize", **HELLO)
        self.send({"jsonrpc": "2.0", "method": "notifications/initialized"})
        return answer

    def send(self, message: Any) -> None:
        self.write(json.dumps(message))

    def write(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def next(self) -> dict[str, Any]:
        """The next message from the server; EOFError where it has ended."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise EOFError
        message: dict[str, Any] = json.loads(line)
        return message

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """The answer to a request."""
        self._number += 1
        self.send({"jsonrpc": "2.0", "id": self._number, "method": method, "params": params})
        while (answer := self.next()).get("id") != self._number:
            pass
        return answer

    def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """What a tool gives: the structured answer, or {"error": the line}."""
        result = self.ask("tools/call", name=tool, arguments=arguments)["result"]
        if result.get("isError"):
            return {"error": result["content"][0]["text"]}
        found: dict[str, Any] = result["structuredContent"]
        assert json.loads(result["content"][0]["text"]) == found
        return found

    def peak_mb(self) -> float:
        """The most memory that the process had; 0 where the system does not say it."""
        status = Path(f"/proc/{self.process.pid}/status")
        lines = status.read_text().splitlines() if status.exists() else []
        return sum(int(line.split()[1]) / 1000 for line in lines if line.startswith("VmHWM"))

    def end(self) -> tuple[int, str]:
        """Close stdin, which ends the server: its exit status, and what it wrote to stderr."""
        out, err = self.process.communicate()
        assert out == ""
        return self.process.returncode, err
