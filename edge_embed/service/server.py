"""The application behind sockets, until a signal ends it."""

import asyncio
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import uvicorn
from starlette.applications import Starlette

from edge_embed.service.app import make_app
from edge_embed.service.protocol import bounded
from edge_embed.service.security import Access
from edge_embed.service.service import Service
from edge_embed.service.systemd import notify, watchdog_seconds

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Server(uvicorn.Server):
    """uvicorn's server. The first signal stops it: no connection is taken any more, what runs is finished. The second
    ends the process; an index is whole after that, too."""

    def __init__(
        self,
        service: Service,
        app: Starlette,
        ready: Callable[[], None] = lambda: None,
        parser: str | None = None,
    ) -> None:
        limits, watchdog = service.limits, watchdog_seconds()
        super().__init__(
            uvicorn.Config(
                app, loop="asyncio", http=bounded(limits, parser), ws="none", lifespan="off",
                log_config=None, access_log=False, server_header=False, proxy_headers=False, workers=1,
                timeout_keep_alive=round(limits.idle_seconds), timeout_graceful_shutdown=round(limits.stop_seconds),
                callback_notify=None if watchdog is None else _alive, timeout_notify=watchdog or 0,
            )
        )  # fmt: skip
        self._service, self._ready = service, ready

    async def main_loop(self) -> None:
        notify("READY=1")
        self._ready()
        await super().main_loop()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._service.stopping = True
        notify("STOPPING=1")
        await super().shutdown(sockets)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - as uvicorn has it
        if self.should_exit:
            os._exit(128 + sig)
        self.should_exit = True


async def _alive() -> None:
    """uvicorn calls it from its loop, once a second at most: a loop that hangs is silent."""
    notify("WATCHDOG=1")


def run(service: Service, access: Access, listening: list[socket.socket], ready: Callable[[], None]) -> None:
    """Serve until SIGTERM or SIGINT."""
    server = Server(service, make_app(service, access), ready)
    try:
        asyncio.run(server.serve(listening))
    finally:
        service.close()
