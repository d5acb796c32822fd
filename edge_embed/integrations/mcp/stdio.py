"""The MCP server at stdin and stdout of this process, for the program that started it."""

import os
import signal
import threading
from collections.abc import AsyncIterator
from typing import Any, BinaryIO

from edge_embed.integrations.mcp.notebook import Notebook
from edge_embed.integrations.mcp.server import make_server, quiet
from edge_embed_runtime.extras import require

require("mcp", "mcp")

import anyio
from mcp import types
from mcp.server.stdio import stdio_server
from mcp.shared.message import SessionMessage

# Bytes of a line that is too long, of which so many are held while it is passed over.
PIECE = 2**20


def run_stdio(notebook: Notebook) -> None:
    """Serve one client until it closes stdin. Nothing else that this process prints reaches stdout meanwhile.

    Ctrl-C ends the process at once, as SIGTERM does: Python's own way waits for a line from stdin. What was answered is
    on disk.
    """
    quiet()
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    anyio.run(_serve, notebook)


async def _serve(notebook: Notebook) -> None:
    server, most = make_server(notebook), notebook.limits.message
    lines: Any = _lines(_taken_stdin(), most)
    async with stdio_server(stdin=lines) as (read, write), anyio.create_task_group() as group:
        messages, given = anyio.create_memory_object_stream[SessionMessage](0)
        group.start_soon(_pass_on, read, write, messages, most)
        await server.run(given, write, server.create_initialization_options())


def _taken_stdin() -> BinaryIO:
    """What the client sends. Nothing else that runs in this process finds it at stdin, as the SDK has it."""
    taken = os.fdopen(os.dup(0), "rb", closefd=False)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return taken


async def _lines(stdin: BinaryIO, most: int) -> AsyncIterator[str]:
    while line := await anyio.to_thread.run_sync(_line, stdin, most):
        yield line.decode("utf-8", "replace")


def _line(stdin: BinaryIO, most: int) -> bytes:
    """The next line, b"" at the end. One of more than `most` bytes is passed over: an empty one stands for it."""
    line = stdin.readline(most + 1)
    if len(line) <= most:
        return line
    while line and not line.endswith(b"\n"):
        line = stdin.readline(PIECE)
    return b"\n"


async def _pass_on(read: Any, write: Any, messages: Any, most: int) -> None:
    """Give the server the client's messages. A line that is none is answered as JSON-RPC says, where the SDK passes
    over it and the client waits."""
    wrong = types.ErrorData(
        code=types.PARSE_ERROR, message=f"Parse error: a line is one message in JSON, of at most {most:,} bytes"
    )
    async with messages:
        async for item in read:
            if isinstance(item, Exception):
                await write.send(SessionMessage(types.JSONRPCError(jsonrpc="2.0", id=None, error=wrong)))
            else:
                await messages.send(item)
