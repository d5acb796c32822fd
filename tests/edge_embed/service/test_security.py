"""Who is let in: Host, Origin, token and method, over real sockets."""

import base64
import http.client
import itertools
from collections.abc import Iterator
from types import ModuleType

import pytest
from builders.services import TOKEN, Running, running
from starlette.responses import Response

from edge_embed import Embedder
from edge_embed.service import health
from edge_embed.service.endpoints import Call, Endpoint, json_response
from edge_embed.service.security import Access, hosts_of
from edge_embed.service.service import Service

HOSTS = ["localhost:PORT", "127.0.0.1:PORT", "[::1]:PORT", "LOCALHOST:PORT"]
FOREIGN_HOSTS = [
    "evil.example",
    "evil.example:PORT",
    "localhost:1",
    "localhost",
    "localhost.evil.example:PORT",
    "",
    "127.0.0.2:PORT",
    "localhost:PORT,evil.example",
    "evil.example@localhost:PORT",
]
FOREIGN_ORIGINS = [
    "http://evil.example",
    "null",
    "http://localhost:1",
    "http://evil.example:PORT",
    "file://",
    "http://localhost:PORT.evil.example",
    "",
]
METHODS = ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE"]
TOKENS = [
    None,
    "Bearer wrong-token-of-some-length",
    "Basic dTp3cm9uZw==",
    "Basic !",
    "Bearer",
    f"Token {TOKEN}",
    f"Bearer {TOKEN[:-1]}",
    f"Bearer {TOKEN}x",
]
SIMPLE = ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""]


class Written:
    """How often something was written."""

    count = 0


def doors(written: Written) -> ModuleType:
    """A route that gives, one that takes, and one that writes."""

    async def take(call: Call) -> Response:
        return json_response(call.json())

    async def write(call: Call) -> Response:
        written.count += 1
        return json_response(call.json())

    module = ModuleType("doors")
    module.ROUTES = [  # type: ignore[attr-defined]
        *health.ROUTES,
        Endpoint("POST", "/take", take, body="any"),
        Endpoint("POST", "/write", write, body="json", writes=True),
        Endpoint("PUT", "/write", write, body="raw", writes=True),
    ]
    return module


@pytest.fixture(scope="module")
def written() -> Written:
    return Written()


@pytest.fixture(scope="module")
def loopback(embedder: Embedder, written: Written) -> Iterator[Running]:
    """As on loopback without a given token: writes alone need it."""
    with running(Service({"m": embedder}), modules=[doors(written)]) as found:
        yield found


@pytest.fixture(scope="module")
def guarded(embedder: Embedder, written: Written) -> Iterator[Running]:
    """As where a token is given, which is needed to listen beyond loopback."""
    with running(Service({"m": embedder}), always=True, names=["box.lan"], modules=[doors(written)]) as found:
        yield found


def status(running: Running, method: str, path: str, *headers: tuple[str, str], body: bytes = b"{}") -> int:
    """The status of one request with exactly these headers."""
    connection = http.client.HTTPConnection(running.host, running.port, timeout=30)
    try:
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        for name, value in headers:
            connection.putheader(name, value.replace("PORT", str(running.port)))
        connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        return connection.getresponse().status
    finally:
        connection.close()


PATHS = ["/health", "/take", "/write", "/metrics", "/nothing", "/openapi.json"]


@pytest.mark.parametrize("host", FOREIGN_HOSTS)
def test_no_foreign_host(loopback: Running, guarded: Running, written: Written, host: str) -> None:
    """Under no name but its own the service answers, with the token or without, whatever the method."""
    before = written.count
    for service, path, method in itertools.product((loopback, guarded), PATHS, METHODS):
        for token in ((), (("Authorization", f"Bearer {TOKEN}"),)):
            assert status(service, method, path, ("Host", host), *token) >= 400
    assert written.count == before


@pytest.mark.parametrize("origin", FOREIGN_ORIGINS)
def test_no_foreign_origin(loopback: Running, guarded: Running, written: Written, origin: str) -> None:
    """A page of another site gets nothing, not even a preflight's answer, and no CORS header."""
    before = written.count
    for service, path, method in itertools.product((loopback, guarded), PATHS, METHODS):
        for token in ((), (("Authorization", f"Bearer {TOKEN}"),)):
            assert status(service, method, path, ("Host", HOSTS[0]), ("Origin", origin), *token) >= 400
    assert written.count == before


@pytest.mark.parametrize("token", TOKENS)
def test_no_wrong_token(loopback: Running, guarded: Running, written: Written, token: str | None) -> None:
    """Without the token nothing is written, and where it is needed nothing is answered at all."""
    before = written.count
    given = [] if token is None else [("Authorization", token)]
    for path, method in itertools.product(PATHS, METHODS):
        assert status(guarded, method, path, ("Host", HOSTS[0]), *given) >= 400
        if path == "/write":
            content = ("Content-Type", "application/json")
            assert status(loopback, method, path, ("Host", HOSTS[0]), content, *given) in (401, 405)
    twice = [("Authorization", f"Bearer {TOKEN}")] * 2
    assert status(guarded, "GET", "/health", ("Host", HOSTS[0]), *twice) == 401
    assert written.count == before


@pytest.mark.parametrize("host", HOSTS)
def test_friends_are_let_in(loopback: Running, guarded: Running, written: Written, host: str) -> None:
    """By each of its names, from its own pages, and with the token where one is needed."""
    before = written.count
    own = [("Host", host), ("Content-Type", "application/json")]
    bearer, basic = ("Authorization", f"bearer {TOKEN}"), ("Authorization", f"Basic {_basic(TOKEN)}")
    for origin in ((), (("Origin", f"http://{host}"),)):
        assert status(loopback, "GET", "/health", *own, *origin) == 200
        assert status(loopback, "POST", "/take", *own, *origin) == 200
        for token in (bearer, basic):
            assert status(loopback, "POST", "/write", *own, *origin, token) == 200
            assert status(guarded, "POST", "/write", *own, *origin, token) == 200
            assert status(guarded, "GET", "/health", *own, *origin, token) == 200
    assert written.count == before + 8
    assert status(guarded, "GET", "/health", ("Host", "box.lan:PORT"), bearer) == 200
    assert status(guarded, "GET", "/health", ("Host", "box.lan"), bearer) == 200


def _basic(token: str) -> str:
    return base64.b64encode(f"user:{token}".encode()).decode()


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""]
)
def test_simple_cross_site_posts_cannot_write(loopback: Running, written: Written, kind: str) -> None:
    """What a form of another site can send without asking: refused by its Origin, and by its type, and for want of the
    token."""
    before = written.count
    own, content = ("Host", HOSTS[0]), ("Content-Type", kind)
    token = ("Authorization", f"Bearer {TOKEN}")
    assert status(loopback, "POST", "/write", own, content, ("Origin", "http://evil.example")) == 403
    assert status(loopback, "POST", "/write", own, content) == 401
    assert status(loopback, "POST", "/write", own, content, token) == 415
    assert written.count == before


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "none"}, 200),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}, 200),
    ],
)
def test_fetch_metadata(loopback: Running, headers: dict[str, str], expected: int) -> None:
    """What browsers say of a request: pages of other sites may link to the service, not embed or ask it."""
    assert status(loopback, "GET", "/health", ("Host", HOSTS[0]), *headers.items()) == expected
    asked = 200 if headers["Sec-Fetch-Site"] in ("same-origin", "none") else 403
    assert status(loopback, "POST", "/take", ("Host", HOSTS[0]), *headers.items()) == asked


def test_answers_say_what_browsers_may_do(loopback: Running, guarded: Running) -> None:
    """No CORS header ever; no sniffing, framing or storing; a page asks for the token, a program is told its scheme."""
    for answer in (loopback.ask("GET", "/health"), loopback.ask("GET", "/nothing"), guarded.ask("GET", "/health")):
        names = {name.lower(): value for name, value in answer.headers.items()}
        assert not [name for name in names if name.startswith("access-control")]
        assert names["x-content-type-options"] == "nosniff"
        assert names["x-frame-options"] == "DENY"
        assert names["cross-origin-resource-policy"] == "same-origin"
        assert names["cache-control"] == "no-store"
        assert "server" not in names
    assert guarded.ask("GET", "/health").headers["www-authenticate"].startswith("Bearer ")
    page = guarded.ask("GET", "/", Accept="text/html,*/*")
    assert (page.status, page.headers["www-authenticate"].partition(" ")[0]) == (401, "Basic")


def test_refusals_say_why(loopback: Running, guarded: Running) -> None:
    """Each in one sentence with a code, as any other error."""
    host = loopback.ask("GET", "/health", Host="evil.example")
    origin = loopback.ask("POST", "/write", {}, Origin="http://evil.example", token=TOKEN)
    token = guarded.ask("GET", "/health")
    assert [(one.status, one.json()["error"]["code"]) for one in (host, origin, token)] == [
        (403, "unknown_host"),
        (403, "foreign_origin"),
        (401, "unauthorized"),
    ]
    assert "--allow-host" in host.json()["error"]["message"]
    missing, method = loopback.ask("GET", "/nothing"), loopback.ask("DELETE", "/take")
    assert (missing.status, missing.json()["error"]["code"]) == (404, "not_found")
    assert (method.status, method.json()["error"]["code"], method.headers["allow"]) == (
        405,
        "method_not_allowed",
        "POST",
    )


def test_names() -> None:
    """A name without a port fits any port, one with a port only that; unix sockets have none."""
    access = Access(None, False, hosts_of(8080, ["Box.lan.", "far:9000"]))
    known = ["localhost:8080", "box.lan", "box.lan:1", "BOX.LAN:8080", "far:9000", "[::1]:8080"]
    assert [access.knows(name) for name in known] == [True] * len(known)
    unknown = ["localhost", "localhost:80", "far", "far:8080", "x.box.lan", "", ":8080", "[::1]", "::1:8080"]
    assert [access.knows(name) for name in unknown] == [False] * len(unknown)
    unix = Access(None, False, hosts_of(None, []))
    assert unix.knows("localhost")
    assert unix.knows("localhost:1")
    assert not unix.knows("evil.example")
