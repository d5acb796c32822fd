"""A service over real sockets, in a thread of the test's process."""

import asyncio
import http.client
import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from edge_embed.service.app import make_app
from edge_embed.service.security import Access, hosts_of
from edge_embed.service.server import Server
from edge_embed.service.service import Service
from edge_embed.service.sockets import listen_tcp

TOKEN = "a-token-for-tests-only-0123456789"  # noqa: S105


@dataclass
class Running:
    """Where a service answers."""

    service: Service
    server: Server
    host: str
    port: int
    token: str = TOKEN
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> "Answer":
        """One request; a body that is not bytes is sent as JSON. token=... brings that token."""
        given = {name.replace("_", "-"): value for name, value in headers.items() if name != "token"}
        if "token" in headers:
            given["Authorization"] = f"Bearer {headers['token']}"
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
            given.setdefault("Content-Type", "application/json")
        connection = http.client.HTTPConnection(self.host, self.port, timeout=30)
        try:
            connection.request(method, path, body, given)
            answer = connection.getresponse()
            return Answer(answer.status, dict(answer.getheaders()), answer.read())
        finally:
            connection.close()


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@contextmanager
def running(
    service: Service,
    *,
    token: str | None = TOKEN,
    always: bool = False,
    names: Sequence[str] = (),
    modules: Sequence[ModuleType] | None = None,
) -> Iterator[Running]:
    """A service on a free port of 127.0.0.1. always: every route needs the token, not only writes"""
    listening = listen_tcp("127.0.0.1", 0)
    assert listening.port is not None
    access = Access(token, always, hosts_of(listening.port, names))
    ready = threading.Event()
    server = Server(service, make_app(service, access, modules), ready.set)
    thread = threading.Thread(target=asyncio.run, args=(server.serve([listening.socket]),))
    thread.start()
    assert ready.wait(30)
    try:
        yield Running(service, server, "127.0.0.1", listening.port)
    finally:
        server.should_exit = True
        thread.join()
        listening.close()
        service.close()
