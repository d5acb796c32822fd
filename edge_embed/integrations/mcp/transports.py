"""How clients reach the MCP server: stdin and stdout of this process, or HTTP on this machine."""

import logging
import signal
import socket
import threading
from collections.abc import Callable
from typing import Any

from edge_embed.integrations.mcp.notebook import Notebook
from edge_embed.integrations.mcp.server import make_server
from edge_embed_runtime.extras import require

require("mcp", "mcp")

import anyio
import uvicorn
from mcp import types
from mcp.server.stdio import stdio_server
from mcp.server.transport_security import TransportSecuritySettings
from mcp.shared.message import SessionMessage

PATH = "/mcp"
# The names of this machine by which clients may call: a foreign page has another one, whatever address that leads to.
NAMES = ("127.0.0.1", "localhost", "[::1]")
# Seconds for what runs when the server is stopped.
STOP_SECONDS = 10


def run_stdio(notebook: Notebook) -> None:
    """Serve one client until it closes stdin. Nothing else that this process prints reaches stdout meanwhile.

    Ctrl-C ends the process at once, as SIGTERM does: Python's own way waits for a line from stdin. What was answered is
    on disk.
    """
    _quiet()
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    anyio.run(_serve_stdio, notebook)


async def _serve_stdio(notebook: Notebook) -> None:
    server = make_server(notebook)
    async with stdio_server() as (read, write):
        await server.run(_Answering(read, write), write, server.create_initialization_options())


class _Answering:
    """The messages of a client. A line that is none is answered as JSON-RPC says, where the SDK passes over it and the
    client waits."""

    def __init__(self, read: Any, write: Any) -> None:
        self._read, self._write = read, write

    @property
    def last_context(self) -> Any:
        return getattr(self._read, "last_context", None)

    async def receive(self) -> Any:
        while isinstance(item := await self._read.receive(), Exception):
            said = types.ErrorData(code=types.PARSE_ERROR, message="Parse error: a line is one message in JSON")
            await self._write.send(SessionMessage(types.JSONRPCError(jsonrpc="2.0", id=None, error=said)))
        return item

    async def aclose(self) -> None:
        await self._read.aclose()

    def __aiter__(self) -> "_Answering":
        return self

    async def __anext__(self) -> Any:
        try:
            return await self.receive()
        except anyio.EndOfStream:
            raise StopAsyncIteration from None

    async def __aenter__(self) -> "_Answering":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


def run_http(notebook: Notebook, listening: socket.socket, ready: Callable[[], None]) -> None:
    """Serve clients at a socket, until SIGTERM or SIGINT."""
    _quiet()
    config = uvicorn.Config(
        http_app(notebook, listening.getsockname()[1]), ws="none", log_config=None, access_log=False,
        server_header=False, proxy_headers=False, timeout_graceful_shutdown=STOP_SECONDS,
    )  # fmt: skip
    server = uvicorn.Server(config)
    ready()
    server.run(sockets=[listening])


def http_app(notebook: Notebook, port: int) -> Any:
    """The ASGI application for a port of this machine."""
    hosts = [f"{name}:{port}" for name in NAMES] + (list(NAMES) if port == 80 else [])
    security = TransportSecuritySettings(allowed_hosts=hosts, allowed_origins=[f"http://{host}" for host in hosts])
    return make_server(notebook).streamable_http_app(streamable_http_path=PATH, transport_security=security)


def _quiet() -> None:
    """Packages of others write nothing of what is asked to stderr: their messages show values."""
    for name in ("mcp", "uvicorn", "sse_starlette"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
