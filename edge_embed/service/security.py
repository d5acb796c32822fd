"""Who is let in: checked before anything of a request is read.

Host     must be a name of this service, or a foreign page could ask it through a name of its own (DNS rebinding).
Origin   and Sec-Fetch-Site, where a browser sends them, must say that the page comes from here.
token    for every route where one was given, or where others than this machine can connect; else for writes only.
"""

import base64
import binascii
import hmac
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from edge_embed.service.refusals import Refusal

LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
WATCHED = (b"host", b"origin", b"authorization", b"sec-fetch-site", b"sec-fetch-mode", b"sec-fetch-dest")
# Where Guard leaves whether a request brought the token.
TRUSTED = "edge_embed.trusted"


@dataclass(frozen=True)
class Access:
    """Who is let in.

    token:  the secret, None where there is none (then nobody writes)
    always: whether every route needs it, not only writes
    hosts:  what Host may say: "localhost:8080", or a name without port for any port
    """

    token: str | None
    always: bool
    hosts: frozenset[str]

    def knows(self, host: str) -> bool:
        name = host.lower()
        return name in self.hosts or _without_port(name) in self.hosts

    def trusts(self, authorization: bytes) -> bool:
        """Whether an Authorization header brings the token: "Bearer TOKEN", or "Basic" with it as the password."""
        if self.token is None:
            return False
        scheme, _, given = authorization.partition(b" ")
        given = given.strip()
        if scheme.lower() == b"basic":
            try:
                given = base64.b64decode(given, validate=True).partition(b":")[2]
            except binascii.Error:
                return False
        elif scheme.lower() != b"bearer":
            return False
        return hmac.compare_digest(given, self.token.encode())


def hosts_of(port: int | None, names: Iterable[str]) -> frozenset[str]:
    """What Host may say where one listens on a port, or on a unix socket (None), and is also called by these names."""
    own = LOOPBACK if port in (None, 80) else [f"{name}:{port}" for name in LOOPBACK]
    return frozenset([*own, *(name.lower().rstrip(".") for name in names)])


class Guard:
    """The outermost layer of the application.

    refuse: answers with an error in the format of the route
    direct: what answers a method and a path without parameters, which spares the search for a route
    """

    def __init__(
        self,
        app: ASGIApp,
        access: Access,
        refuse: Callable[[Refusal, Scope], Response],
        direct: Mapping[tuple[str, str], ASGIApp],
    ) -> None:
        self._app, self._access, self._refuse, self._direct = app, access, refuse, direct

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":  # the application starts and ends
            await self._app(scope, receive, send)
            return
        try:
            scope[TRUSTED] = self._check(scope)
        except Refusal as refusal:
            await self._refuse(refusal, scope)(scope, receive, send)
            return
        app = self._direct.get((scope["method"], scope["path"]), self._app)
        await app(scope, receive, send)

    def _check(self, scope: Scope) -> bool:
        """Whether the request brought the token. Raises Refusal where it is not let in."""
        given: dict[bytes, list[bytes]] = {name: [] for name in WATCHED}
        for name, value in scope["headers"]:
            if name in WATCHED:
                given[name].append(value)
        hosts, authorization = given[b"host"], given[b"authorization"]
        host = hosts[0].decode("latin-1").lower() if len(hosts) == 1 else ""
        if not self._access.knows(host):
            raise Refusal(403, "unknown_host", "Host is no name of this service: start it with --allow-host NAME")
        own = {f"http://{host}".encode("latin-1"), f"https://{host}".encode("latin-1")}
        foreign = any(origin.lower() not in own for origin in given[b"origin"])
        if foreign or (given[b"sec-fetch-site"] and not _from_here(given, scope["method"])):
            raise Refusal(403, "foreign_origin", "pages of other sites cannot use this service")
        trusted = len(authorization) == 1 and self._access.trusts(authorization[0])
        if self._access.always and not trusted:
            raise no_token()
        return trusted


def _from_here(given: dict[bytes, list[bytes]], method: str) -> bool:
    """Whether a browser asks for a page of ours, or for its user, who may also follow a link from elsewhere."""
    if given[b"sec-fetch-site"] in ([b"same-origin"], [b"none"]):
        return True
    opens = (given[b"sec-fetch-mode"], given[b"sec-fetch-dest"]) == ([b"navigate"], [b"document"])
    return opens and method in ("GET", "HEAD")


def no_token() -> Refusal:
    return Refusal(401, "unauthorized", "this needs the token: Authorization: Bearer TOKEN")


def check_write(scope: Scope) -> None:
    """Raises Refusal where a request that changes something did not bring the token."""
    if not scope.get(TRUSTED):
        raise no_token()


def _without_port(host: str) -> str:
    """ "[::1]:80" -> "[::1]", "a.example:80" -> "a.example"."""
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdigit() and not (":" in name and not name.endswith("]")) else host
