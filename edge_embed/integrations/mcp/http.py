"""The MCP server over HTTP, for several clients."""

import socket
from collections.abc import Callable

from edge_embed.integrations.mcp.notebook import Notebook
from edge_embed.integrations.mcp.server import make_server, quiet
from edge_embed.service.limits import Limits
from edge_embed.service.protocol import bounded
from edge_embed.service.refusals import Refusal
from edge_embed.service.security import Access, Guard
from edge_embed_runtime.extras import require

require("mcp", "mcp")

import uvicorn
from mcp import types
from mcp.server.transport_security import TransportSecuritySettings
from starlette.responses import JSONResponse
from starlette.types import Scope

PATH = "/mcp"


def run_http(notebook: Notebook, access: Access, listening: socket.socket, ready: Callable[[], None]) -> None:
    """Serve clients at a socket, until SIGTERM or SIGINT."""
    quiet()
    limits = Limits()
    config = uvicorn.Config(
        http_app(notebook, access), loop="asyncio", http=bounded(limits), ws="none", log_config=None, access_log=False,
        server_header=False, proxy_headers=False, timeout_keep_alive=round(limits.idle_seconds),
        timeout_graceful_shutdown=round(limits.stop_seconds),
    )  # fmt: skip
    server = uvicorn.Server(config)
    ready()
    server.run(sockets=[listening])


def http_app(notebook: Notebook, access: Access) -> Guard:
    """The ASGI application: Host, Origin and token are checked as `edge-embed serve` does it, before the SDK's own."""
    unchecked = TransportSecuritySettings(enable_dns_rebinding_protection=False)
    app = make_server(notebook).streamable_http_app(
        streamable_http_path=PATH, transport_security=unchecked, max_request_body_size=notebook.limits.message
    )
    return Guard(app, access, _refused, {})


def _refused(refusal: Refusal, scope: Scope) -> JSONResponse:  # noqa: ARG001 - as Guard calls it
    error = {"code": types.INVALID_REQUEST, "message": f"{refusal.code}: {refusal}"}
    challenge = {"www-authenticate": 'Bearer realm="edge-embed"'} if refusal.status == 401 else None
    return JSONResponse({"jsonrpc": "2.0", "id": None, "error": error}, refusal.status, challenge)
