"""The application behind sockets, until a signal ends it."""

import uvicorn

from edge_embed.service.app import make_app
from edge_embed.service.service import Service


def run(service: Service, host: str, port: int) -> None:
    """Serve until SIGTERM or SIGINT."""
    config = uvicorn.Config(
        make_app(service), host, port, loop="asyncio", http="h11", ws="none", lifespan="off", log_config=None,
        access_log=False, server_header=False, proxy_headers=False, timeout_graceful_shutdown=10,
    )  # fmt: skip
    uvicorn.Server(config).run()
