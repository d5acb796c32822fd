"""Connections that take too long, or send what nobody reads, are closed."""

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from edge_embed.service.limits import Limits

# Of a body that the answer did not need, read and thrown away so that the client sees the answer: bytes and seconds.
UNREAD_BYTES, UNREAD_SECONDS = 2**20, 2.0
# Seconds in which a client must read some of an answer.
READ_SECONDS = 20.0


def bounded(limits: Limits) -> type[H11Protocol]:
    """uvicorn's protocol, with limits."""

    class Protocol(BoundedProtocol):
        pass

    Protocol.limits = limits
    return Protocol


class BoundedProtocol(H11Protocol):
    """uvicorn closes a connection that is idle between two requests. Here it also closes one

    - on which the head of a request does not arrive in time,
    - that goes on sending a body to which the answer was given,
    - whose client does not read the answer,
    - that is one too many.
    """

    limits: Limits

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._head: asyncio.TimerHandle | None = None
        self._end: asyncio.TimerHandle | None = None
        self._unread = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.limits.connections:
            transport.write(b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\n\r\n")
            transport.close()
            return
        self._head = self.loop.call_later(self.limits.head_seconds, transport.abort)

    def data_received(self, data: bytes) -> None:
        answered = self.cycle
        if answered is not None and answered.response_complete and answered.more_body:
            self._unread += len(data)
            if self._unread > UNREAD_BYTES:
                self.transport.abort()
                return
        super().data_received(data)
        if self.cycle is None or self.cycle.response_complete:  # the head of the next request is not whole yet
            if self._head is None:
                self._head = self.loop.call_later(self.limits.head_seconds, self.transport.abort)
        elif self._head is not None:
            self._head.cancel()
            self._head = None
        if self.cycle is not answered:
            self._unread = 0

    def on_response_complete(self) -> None:
        cycle = self.cycle
        super().on_response_complete()
        if cycle.more_body:
            self._end = self.loop.call_later(UNREAD_SECONDS, self._close_unread, cycle)
        left = self.transport.get_write_buffer_size()
        if left:
            self._end = self.loop.call_later(READ_SECONDS, self._close_stuck, left)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        for timer in (self._head, self._end):
            if timer is not None:
                timer.cancel()

    def _close_unread(self, cycle: object) -> None:
        if self.cycle is cycle:
            self.transport.close()

    def _close_stuck(self, before: int) -> None:
        left = self.transport.get_write_buffer_size()
        if left >= before:
            self.transport.abort()
        elif left:
            self._end = self.loop.call_later(READ_SECONDS, self._close_stuck, left)
