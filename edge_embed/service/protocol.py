"""Connections that take too long, or send what nobody reads, are closed; requests of lost ones are dropped."""

import asyncio
from typing import Any, ClassVar

from edge_embed.service.limits import Limits
from edge_embed_runtime.extras import is_installed

# Of the head of a request.
HEAD_BYTES = 2**16
# Of a body that the answer did not need, read and thrown away so that the client sees the answer: bytes and seconds.
UNREAD_BYTES, UNREAD_SECONDS = 2**20, 2.0
# Seconds in which a client must read some of an answer.
READ_SECONDS = 20.0
# Where the scope of a request has its task, while that may be cancelled, and that its connection is lost.
RUNNING, LOST = "edge_embed.running", "edge_embed.lost"


def bounded(limits: Limits, parser: str | None = None) -> type[asyncio.Protocol]:
    """uvicorn's protocol, with limits.

    parser: "httptools", in C, which takes half the time of "h11"; None: the first of them that is installed
    """
    base: Any
    if parser == "httptools" or (parser is None and is_installed("httptools")):
        from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol as base
    else:
        from uvicorn.protocols.http.h11_impl import H11Protocol as base
    made: type[asyncio.Protocol] = type("BoundedProtocol", (_Bounded, base), {"limits": limits})
    return made


class _Bounded(asyncio.Protocol):
    """uvicorn closes a connection that is idle between two requests. Here it also closes one

    - on which the head of a request does not arrive in time, or is too long,
    - that goes on sending a body to which the answer was given,
    - whose client does not read the answer,
    - that is one too many.
    """

    limits: ClassVar[Limits]
    # uvicorn's: the connections of the server, and the request that is answered, or was the last
    loop: asyncio.AbstractEventLoop
    transport: asyncio.Transport
    connections: set[Any]
    cycle: Any

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._late: asyncio.TimerHandle | None = None
        self._ends: list[asyncio.TimerHandle] = []
        self._reading: asyncio.TimerHandle | None = None
        self._was_read = False  # since that timer began
        self._bytes = 0  # of a head that is not whole, or a body that is not needed

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if len(self.connections) > self.limits.connections:
            self.transport.write(b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\n\r\n")
            self.transport.close()
        else:
            self._late = self.loop.call_later(self.limits.head_seconds, self.transport.abort)

    def data_received(self, data: bytes) -> None:
        before = self.cycle
        if before is None or before.response_complete:
            self._bytes += len(data)
            unread = before is not None and before.more_body
            if self._bytes > (UNREAD_BYTES if unread else HEAD_BYTES + len(data)):
                self.transport.abort()
                return
        super().data_received(data)
        if self.cycle is None or self.cycle.response_complete:  # the head of the next request is not whole yet
            if self._late is None:
                self._late = self.loop.call_later(self.limits.head_seconds, self.transport.abort)
        else:
            self._bytes = 0
            if self._late is not None:
                self._late.cancel()
                self._late = None

    def on_response_complete(self) -> None:
        """uvicorn calls it when the answer is handed to the system."""
        cycle = self.cycle
        super().on_response_complete()  # type: ignore[misc]
        self._bytes = 0
        if cycle.more_body:
            self._ends.append(self.loop.call_later(UNREAD_SECONDS, self._close_unread, cycle))
        self._expect_reading()

    def pause_writing(self) -> None:
        """asyncio calls it when much waits for the client to read."""
        super().pause_writing()
        self._expect_reading()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._was_read = True

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self.cycle is not None:
            self.cycle.scope[LOST] = True
            if RUNNING in self.cycle.scope:
                self.cycle.scope[RUNNING].cancel()
        for timer in (self._late, self._reading, *self._ends):
            if timer is not None:
                timer.cancel()

    def _close_unread(self, cycle: object) -> None:
        if self.cycle is cycle:
            self.transport.close()

    def _expect_reading(self) -> None:
        left = self.transport.get_write_buffer_size()
        if left and self._reading is None:
            self._was_read = False
            self._reading = self.loop.call_later(READ_SECONDS, self._close_unread_answer, left)

    def _close_unread_answer(self, before: int) -> None:
        self._reading = None
        if not self._was_read and self.transport.get_write_buffer_size() >= before:
            self.transport.abort()
        else:
            self._expect_reading()
