"""The MCP server at stdin and stdout of this process, for the program that started it."""

import json
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
    """Serve one client until it closes stdin or stdout. Nothing else that this process prints reaches stdout meanwhile.

    Ctrl-C ends the process at once, as SIGTERM does: Python's own way waits for a line from stdin. What was answered is
    on disk.
    """
    quiet()
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        anyio.run(_serve, notebook)
    except* BrokenPipeError:
        os._exit(0)  # the client is gone; the thread that waits for its next line would keep the process


async def _serve(notebook: Notebook) -> None:
    server = make_server(notebook)
    nothing: Any = _nothing()
    async with stdio_server(stdin=nothing) as (_, write), anyio.create_task_group() as group:
        messages, given = anyio.create_memory_object_stream[SessionMessage](0)
        group.start_soon(_read, _taken_stdin(), notebook.limits.message, messages, write)
        await server.run(given, write, server.create_initialization_options())


async def _nothing() -> AsyncIterator[str]:
    """What the SDK reads in place of stdin: it holds a line of any length, and does not answer what is no message."""
    for line in list[str]():
        yield line


def _taken_stdin() -> BinaryIO:
    """What the client sends. Nothing else that runs in this process finds it at stdin, as the SDK has it."""
    taken = os.fdopen(os.dup(0), "rb", closefd=False)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return taken


async def _read(stdin: BinaryIO, most: int, messages: Any, write: Any) -> None:
    """Give the server the messages of the client; answer what is none as JSON-RPC says, or the client waits."""
    async with messages:
        while line := await anyio.to_thread.run_sync(_line, stdin, most, abandon_on_cancel=True):
            try:
                message = types.jsonrpc_message_adapter.validate_json(line, by_name=False)
            except ValueError:
                await write.send(SessionMessage(_refusal(line, most)))
            else:
                await messages.send(SessionMessage(message))


def _line(stdin: BinaryIO, most: int) -> bytes:
    """The next line, b"" at the end. One of more than `most` bytes is passed over: an empty one stands for it."""
    line = stdin.readline(most + 1)
    if len(line) <= most:
        return line
    while line and not line.endswith(b"\n"):
        line = stdin.readline(PIECE)
    return b"\n"


def _refusal(line: bytes, most: int) -> types.JSONRPCError:
    """The answer to a line that is no message, for the request that it was meant to be where it has an id."""
    try:
        given = json.loads(line)
    except (ValueError, RecursionError):
        given = None
    number = given.get("id") if isinstance(given, dict) else None
    if isinstance(number, bool) or not (isinstance(number, int) or (isinstance(number, str) and number.isprintable())):
        number = None
    said = f"a line is one message of JSON-RPC, of at most {most:,} bytes, in whole Unicode, nested at most 200 deep"
    error = types.ErrorData(code=types.PARSE_ERROR if number is None else types.INVALID_REQUEST, message=said)
    return types.JSONRPCError(jsonrpc="2.0", id=number, error=error)
