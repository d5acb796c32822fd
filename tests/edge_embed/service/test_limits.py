"""Requests that are too large, too slow, malformed or too many: each gets one sentence, and holds up nobody."""

import asyncio
import contextlib
import json
import select
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from builders.services import TOKEN, Running, running, started
from starlette.responses import Response

from edge_embed import Embedder
from edge_embed.service import protocol
from edge_embed.service.endpoints import Call, Endpoint, json_response
from edge_embed.service.limits import Limits
from edge_embed.service.service import Service

LIMITS = Limits(body_bytes=20_000, upload_bytes=50_000, texts=8, characters=500, connections=40)
# Long enough that a busy machine sends what it should in time.
HASTY = Limits(head_seconds=1.0, body_seconds=1.0)

# More than the system takes for a client that does not read.
LARGE = b"0123456789abcdef" * 2**20


def routes() -> ModuleType:
    async def embed(call: Call) -> Response:
        vectors = await call.service.embed(call.json()["texts"])
        return json_response({"shape": vectors.shape})

    async def echo(call: Call) -> Response:
        return json_response(call.json())

    async def size(call: Call) -> Response:
        return json_response({"bytes": len(call.body)})

    async def large(_: Call) -> Response:
        return Response(LARGE)

    async def wait(_: Call) -> Response:
        await asyncio.Event().wait()
        raise AssertionError

    async def fail(call: Call) -> Response:
        raise ZeroDivisionError(call.body.decode())

    module = ModuleType("routes")
    module.ROUTES = [  # type: ignore[attr-defined]
        Endpoint("POST", "/embed", embed, body="json"),
        Endpoint("POST", "/echo", echo, body="any"),
        Endpoint("POST", "/size", size, body="raw"),
        Endpoint("GET", "/large", large),
        Endpoint("POST", "/wait", wait, body="raw"),
        Endpoint("POST", "/fail", fail, body="raw"),
    ]
    return module


@pytest.fixture(scope="module")
def static() -> Embedder:
    return Embedder("static", threads=1)


@pytest.fixture(scope="module", params=["h11", "httptools"])
def service(static: Embedder, request: pytest.FixtureRequest) -> Iterator[Running]:
    pytest.importorskip(request.param)
    with running(Service({"m": static}, limits=LIMITS), modules=[routes()], parser=request.param) as found:
        yield found


@pytest.fixture(params=["h11", "httptools"])
def hasty(static: Embedder, request: pytest.FixtureRequest) -> Iterator[Running]:
    pytest.importorskip(request.param)
    with running(Service({"m": static}, limits=HASTY), modules=[routes()], parser=request.param) as found:
        yield found


@contextlib.contextmanager
def connected(port: int, head: str) -> Iterator[socket.socket]:
    """A connection on which so much of a request was sent."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as made:
        made.sendall(head.replace("HOST", f"Host: localhost:{port}").replace("\n", "\r\n").encode())
        yield made


def answer(made: socket.socket) -> tuple[int, str]:
    """What comes until the service closes the connection: status and text; 0 where nothing came."""
    said = b""
    with contextlib.suppress(ConnectionResetError):
        while part := made.recv(65536):
            said += part
            head, found, body = said.partition(b"\r\n\r\n")
            if found and len(body) >= int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0]):
                break
    return int(said.split(b" ")[1]) if said else 0, said.decode()


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "invalid_json"),
        (b"{", 400, "invalid_json"),
        (b"[]", 400, "invalid_json"),
        (b'"a"', 400, "invalid_json"),
        (b"\xff\xfe", 400, "invalid_json"),
        (b'{"a": NaN}', 400, "invalid_json"),
        (b'{"a": -Infinity}', 400, "invalid_json"),
        (b'{"a": 1e999}', 400, "invalid_json"),
        (b'{"a": ' + b"9" * 5000 + b"}", 400, "invalid_json"),
        (b'{"a": 1, "a": 2}', 400, "invalid_json"),
        (b'{"a":' + b"[" * 15000, 400, "invalid_json"),
        (b'{"a":' * 3000, 400, "invalid_json"),
        (b'{"a": "\x01"}', 400, "invalid_json"),
        (b'{"a": "' + b"x" * 20_000 + b'"}', 413, "body_too_large"),
        (b'{"texts": "a"}', 400, "invalid_input"),
        (b'{"texts": [1]}', 400, "invalid_input"),
        (b'{"texts": ["\\ud800"]}', 400, "invalid_input"),
        (json.dumps({"texts": ["a"] * 9}).encode(), 413, "too_many_texts"),
        (json.dumps({"texts": ["a" * 501]}).encode(), 413, "text_too_long"),
    ],
)
def test_malformed(service: Running, body: bytes, status: int, code: str) -> None:
    """One sentence that does not grow with the body, without a place in our code."""
    found = service.ask("POST", "/embed", body, Content_Type="application/json")
    error = found.json()["error"]
    assert (found.status, error["code"]) == (status, code)
    assert 10 < len(error["message"]) < 200
    assert "\n" not in error["message"]


def test_many_values() -> None:
    """A million inputs are refused by their commas, before Python makes objects of them."""
    call = Call(None, None, b'{"texts": [' + b"1," * 1_000_000 + b"1]}", None)  # type: ignore[arg-type]
    with pytest.raises(Exception, match="more than 200,000 values"):
        call.json()


def test_good_bodies(service: Running) -> None:
    """At the limits all is well; a body may come in parts, and under any type where a route says so."""
    assert service.ask("POST", "/embed", {"texts": ["a" * 500] * 8}).json() == {"shape": [8, 240]}
    assert service.ask("POST", "/embed", {"texts": []}).json() == {"shape": [0, 240]}
    assert service.ask("POST", "/echo", b'{"a": "\xc3\xa4"}', Content_Type="text/plain").json() == {"a": "ä"}
    assert service.ask("POST", "/size", b"x" * 50_000).json() == {"bytes": 50_000}
    head = "POST /size HTTP/1.1\nHOST\nTransfer-Encoding: chunked\n\n3\nabc\n"
    with connected(service.port, head) as made:
        made.sendall(b"4\r\ndefg\r\n0\r\n\r\n")
        assert answer(made)[1].endswith('{"bytes":7}')


def test_wrong_types(service: Running) -> None:
    """JSON under another type, and compressed bodies, are refused before they are read."""
    assert service.ask("POST", "/embed", b"{}", Content_Type="text/plain").status == 415
    packed = service.ask("POST", "/echo", b"{}", Content_Encoding="gzip")
    assert (packed.status, packed.json()["error"]["code"]) == (415, "unsupported_encoding")


def test_declared_too_large(service: Running) -> None:
    """A body of a gigabyte is refused by its length: nothing of it has to be sent."""
    with connected(service.port, "POST /embed HTTP/1.1\nHOST\nContent-Length: 1000000000\n\n") as made:
        status, said = answer(made)
        assert (status, "body_too_large" in said) == (413, True)
    expecting = "POST /size HTTP/1.1\nHOST\nExpect: 100-continue\nContent-Length: 1000000000\n\n"
    with connected(service.port, expecting) as made:
        assert answer(made)[0] == 413  # and not 100


def test_chunked_too_large(service: Running) -> None:
    """A body without a length is refused when it has grown too large, and the client is cut off if it goes on."""
    head = "POST /size HTTP/1.1\nHOST\nTransfer-Encoding: chunked\n\n"
    with connected(service.port, head) as made:
        chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
        with pytest.raises(OSError, match=r"reset|[Bb]roken pipe"):
            made.sendall(chunk * 10_000)


def test_slow_heads_and_bodies(hasty: Running) -> None:
    """Who does not finish a head is cut off, a second request's too; who does not finish a body is told so."""
    with connected(hasty.port, "GET /nothing HTTP/1.1\nHos") as made:
        assert answer(made) == (0, "")
    with connected(hasty.port, "") as made:
        assert answer(made) == (0, "")
    with connected(hasty.port, "GET /nothing HTTP/1.1\nHOST\n\n") as made:
        assert answer(made)[0] == 404
        made.sendall(b"GET /noth")
        assert answer(made) == (0, "")
    with connected(hasty.port, "POST /size HTTP/1.1\nHOST\nContent-Length: 10\n\nabc") as made:
        status, said = answer(made)
        assert (status, "too_slow" in said) == (408, True)


def test_endless_heads(service: Running) -> None:
    """A head that does not end is refused long before it fills the memory."""
    with connected(service.port, "GET /nothing HTTP/1.1\nHOST\n") as made:
        line = b"X-Name: " + b"x" * 1000 + b"\r\n"
        with pytest.raises(OSError, match=r"reset|[Bb]roken pipe"):
            made.sendall(line * 10_000)


def test_deadline(static: Embedder) -> None:
    """A request that takes too long ends with 503."""
    with running(Service({"m": static}, limits=Limits(seconds=0.05)), modules=[routes()]) as service:
        found = service.ask("POST", "/wait", b"x")
        assert (found.status, found.json()["error"]["code"]) == (503, "deadline")


def test_faults_say_nothing(service: Running, caplog: pytest.LogCaptureFixture) -> None:
    """What fails by our fault is 500; the client is told no more, and the log has no message, which may hold a text."""
    from edge_embed.service.logs import PlainFormatter

    found = service.ask("POST", "/fail", b"a secret text")
    assert (found.status, found.json()["error"]["code"]) == (500, "internal")
    assert b"secret" not in found.body
    (record,) = [record for record in caplog.records if record.name == "edge_embed.service"]
    line = PlainFormatter("%(message)s").format(record)
    assert "POST /fail failed" in line
    assert "builtins.ZeroDivisionError" in line
    assert "in fail" in line
    assert "secret" not in line


def test_one_connection_too_many(service: Running) -> None:
    """Above the limit a connection is closed at once, and below it all goes on."""
    with contextlib.ExitStack() as opened:
        made = [opened.enter_context(connected(service.port, "POST /wait HTTP/1.1\nHOST\n")) for _ in range(40)]
        with connected(service.port, "GET /nothing HTTP/1.1\nHOST\n\n") as late:
            assert late.recv(12) == b"HTTP/1.1 503"
        for one in made:
            one.close()
    status = 0
    while status != 404:  # once the service has noticed that they are closed
        with contextlib.suppress(OSError):
            status = service.ask("GET", "/nothing").status


def test_gone_clients_are_dropped(static: Embedder) -> None:
    """What waits for a client that went away is cancelled."""
    waiting, dropped = threading.Event(), threading.Event()

    async def large(_: Call) -> Response:
        return Response(LARGE)

    async def wait(_: Call) -> Response:
        waiting.set()
        try:
            await asyncio.Event().wait()
        finally:
            dropped.set()
        raise AssertionError

    module = ModuleType("waiting")
    module.ROUTES = [Endpoint("POST", "/wait", wait, body="raw")]  # type: ignore[attr-defined]
    with running(Service({"m": static}), modules=[module]) as service:
        with connected(service.port, "POST /wait HTTP/1.1\nHOST\nContent-Length: 1\n\nx"):
            assert waiting.wait(30)
        assert dropped.wait(30)
        text = service.service.metrics.text().decode()
        assert 'edge_embed_requests_total{route="/wait",status="499"} 1.0' in text


def test_held_bytes(static: Embedder) -> None:
    """Bodies that arrive slowly share what may be held: the one that is too much is refused, the others end well."""
    head = f"POST /size HTTP/1.1\nHOST\nContent-Length: 50000\n\n{'x' * 45_000}"
    limits = Limits(upload_bytes=50_000, held_bytes=120_000)
    with (
        running(Service({"m": static}, limits=limits), modules=[routes()]) as service,
        contextlib.ExitStack() as opened,
    ):
        made = [opened.enter_context(connected(service.port, head)) for _ in range(3)]
        (first,), _, _ = select.select(made, [], [], 30)
        status, said = answer(first)
        assert (status, '"code":"busy"' in said, "retry-after: 1" in said) == (429, True, True)
        for one in made:
            if one is not first:
                one.sendall(b"x" * 5_000)
                assert answer(one)[0] == 200
        assert service.ask("POST", "/size", b"x" * 50_000).status == 200


@pytest.mark.parametrize("parser", ["h11", "httptools"])
def test_unread_answers_are_held_within_bounds(static: Embedder, parser: str) -> None:
    """While clients do not read their large answers, others get no large one, but small ones; and all when they can."""
    pytest.importorskip(parser)
    head = "GET /large HTTP/1.1\nHOST\n\n"
    limits = Limits(held_bytes=1_000_000)
    with running(Service({"m": static}, limits=limits), modules=[routes()], parser=parser) as service:
        with connected(service.port, head) as unread:
            assert unread.recv(12) == b"HTTP/1.1 200"
            for _ in range(3):
                found = service.ask("GET", "/large")
                assert (found.status, found.json()["error"]["code"]) == (429, "busy")
            assert service.ask("POST", "/size", b"x" * 1000).status == 200
        while (found := service.ask("GET", "/large")).status == 429:  # until the service has noticed that it is closed
            pass
        assert (found.status, found.body == LARGE) == (200, True)
        assert service.ask("GET", "/large").body == LARGE


@pytest.mark.parametrize("parser", ["h11", "httptools"])
def test_who_does_not_read_is_cut_off(static: Embedder, parser: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also in the middle of a large answer."""
    pytest.importorskip(parser)
    monkeypatch.setattr(protocol, "READ_SECONDS", 0.2)
    limits = Limits(held_bytes=1_000_000)
    with (
        running(Service({"m": static}, limits=limits), modules=[routes()], parser=parser) as service,
        connected(service.port, "GET /large HTTP/1.1\nHOST\n\n") as unread,
    ):
        assert unread.recv(12) == b"HTTP/1.1 200"
        while service.ask("GET", "/large").status == 429:
            pass
        got = 0
        with contextlib.suppress(ConnectionResetError):
            while part := unread.recv(2**20):
                got += len(part)
        assert got < len(LARGE)


def test_slow_clients_hold_up_nobody(tmp_path: Path) -> None:
    """64 clients that send a byte now and then, and one that streams a gigabyte, take under 10 MB, and no other's
    time."""
    with started(tmp_path, "--bundle", "static") as service, contextlib.ExitStack() as opened:
        request: dict[str, Any] = {"input": "a text", "model": "static-minilm-l6-v2"}
        for _ in range(20):
            assert service.ask("POST", "/v1/embeddings", request).status == 200
        before = service.resident
        heads = [
            "POST /v1/embeddings HTTP/1.1\nHOST\nX: ",
            "POST /v1/embeddings HTTP/1.1\nHOST\nContent-Length: 999\n\n{",
        ]
        slow = [opened.enter_context(connected(service.port, heads[i % 2])) for i in range(64)]
        stop = threading.Event()
        sender = threading.Thread(target=_send_much, args=(service.port, stop))
        sender.start()
        for number in range(100):
            slow[number % 64].sendall(b"y")
            assert service.ask("POST", "/v1/embeddings", request).status == 200
        grown = service.resident - before
        stop.set()
        sender.join()
        assert grown < 10e6
        assert service.ask("GET", "/health").status == 200


def _send_much(port: int, stop: threading.Event) -> None:
    """A gigabyte in JSON without a length, again and again where it is cut off."""
    head = "POST /v1/embeddings HTTP/1.1\nHOST\nContent-Type: application/json\nTransfer-Encoding: chunked\n\n"
    chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    while not stop.is_set():
        with contextlib.suppress(OSError), connected(port, head) as made:
            for _ in range(16_000):
                if stop.is_set():
                    break
                made.sendall(chunk)


def test_token_is_unused(service: Running) -> None:
    """A token that no route asks for does no harm: clients of other services send keys of their own."""
    for token in ("sk-anything", TOKEN):
        assert service.ask("POST", "/echo", {"a": 1}, token=token).status == 200
