"""A service over real sockets, in a thread of the test's process."""

import asyncio
import http.client
import json
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
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
        return ask(self.host, self.port, method, path, body, headers)


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


def ask(host: str, port: int, method: str, path: str, body: Any, headers: dict[str, str]) -> Answer:
    """See `Running.ask`."""
    given = {name.replace("_", "-"): value for name, value in headers.items() if name != "token"}
    if "token" in headers:
        given["Authorization"] = f"Bearer {headers['token']}"
    if body is not None and not isinstance(body, bytes):
        body = json.dumps(body).encode()
        given.setdefault("Content-Type", "application/json")
    connection = http.client.HTTPConnection(host, port, timeout=30)
    try:
        connection.request(method, path, body, given)
        answer = connection.getresponse()
        return Answer(answer.status, dict(answer.getheaders()), answer.read())
    finally:
        connection.close()


@contextmanager
def running(
    service: Service,
    *,
    token: str | None = TOKEN,
    always: bool = False,
    names: Sequence[str] = (),
    modules: Sequence[ModuleType] | None = None,
    parser: str | None = None,
) -> Iterator[Running]:
    """A service on a free port of 127.0.0.1.

    always: every route needs the token, not only writes
    parser: of HTTP, see `bounded`
    """
    listening = listen_tcp("127.0.0.1", 0)
    assert listening.port is not None
    access = Access(token, always, hosts_of(listening.port, names))
    ready = threading.Event()
    server = Server(service, make_app(service, access, modules), ready.set, parser)
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


@dataclass
class Started:
    """`edge-embed serve` in a process of its own. said: what it printed, until it listened"""

    process: "subprocess.Popen[str]"
    said: list[str]
    stderr: Path

    @property
    def where(self) -> str:
        """ "http://127.0.0.1:1234", or "unix:/path"."""
        return next(line for line in self.said if line.startswith("listening on ")).split()[-1]

    @property
    def port(self) -> int:
        return int(self.where.rpartition(":")[2])

    @property
    def token(self) -> str:
        return next(line for line in self.said if line.startswith("token for writing: ")).split()[-1]

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> "Answer":
        return ask("127.0.0.1", self.port, method, path, body, headers)

    @property
    def resident(self) -> int:
        """Bytes, anonymous pages alone: files of the model that come in later do not count."""
        found = re.search(r"RssAnon:\s+(\d+) kB", Path(f"/proc/{self.process.pid}/status").read_text())
        assert found is not None
        return int(found[1]) * 1024

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(30)


@contextmanager
def started(folder: Path, *arguments: object, **options: Any) -> Iterator[Started]:
    """`edge-embed serve` with these arguments, on a free port unless they say another address."""
    command = [sys.executable, "-m", "edge_embed", "serve", *map(str, arguments)]
    if not options.pop("address", False):
        command += ["--port", "0"]
    errors = folder / "stderr.txt"
    with errors.open("w") as stderr:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True, **options)
    assert process.stdout is not None
    try:
        said: list[str] = []
        for line in process.stdout:
            said.append(line.rstrip())
            if line.startswith(("listening on ", "{")):
                break
        else:
            raise AssertionError(errors.read_text())
        yield Started(process, said, errors)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
