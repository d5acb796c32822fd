"""One endpoint as an ASGI application: its body read, its function called, its errors said in the format of its API."""

import asyncio
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from edge_embed.service.answers import PIECE, send_in_pieces
from edge_embed.service.bodies import read_body
from edge_embed.service.endpoints import Call, Endpoint, json_response
from edge_embed.service.memory import Memory, Share
from edge_embed.service.protocol import LOST, RUNNING
from edge_embed.service.refusals import ClientGone, ErrorFormat, Problem, Refusal, problem_of
from edge_embed.service.security import check_write
from edge_embed.service.service import Service

log = logging.getLogger("edge_embed.service")
access_log = logging.getLogger("edge_embed.service.access")
# What every answer says to browsers.
HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
]
NO_STORE = (b"cache-control", b"no-store")
# The status under which a request is counted whose client went away.
GONE = 499


class Answering:
    """What answers the requests of one endpoint."""

    def __init__(self, service: Service, endpoint: Endpoint, memory: Memory) -> None:
        self._service, self._endpoint, self._memory = service, endpoint, memory

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started, endpoint = time.perf_counter(), self._endpoint
        with Share(self._memory) as share, suppress(asyncio.CancelledError):
            try:
                response = await self._answer(scope, receive, share)
                share.resize(len(response.body) if len(response.body) > PIECE else 0)
            except ClientGone:
                count(self._service, scope["method"], endpoint.path, GONE, started)
                return
            except asyncio.CancelledError:  # the service was stopped, and its time is over
                response = error_response(_STOPPED, endpoint.errors)
            except Exception as error:  # noqa: BLE001 - answered, and logged where it is a fault
                response = self._failed(error, scope)
            add_headers(response)
            count(self._service, scope["method"], endpoint.path, response.status_code, started)
            if len(response.body) > PIECE:
                await send_in_pieces(response, send)
            else:
                await response(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, share: Share) -> Response:
        """Raises ClientGone, and whatever is to be said as an error."""
        endpoint, limits = self._endpoint, self._service.limits
        if endpoint.writes:
            check_write(scope)
        late = Refusal(408, "too_slow", f"the body did not arrive within {limits.body_seconds:g} seconds")
        try:
            async with asyncio.timeout(limits.body_seconds if endpoint.body else limits.seconds) as deadline:
                body = await read_body(endpoint, limits, share, scope, receive) if endpoint.body else b""
                deadline.reschedule(asyncio.get_running_loop().time() + limits.seconds)
                late = Refusal(503, "deadline", f"this took longer than {limits.seconds:g} seconds")
                call = Call(self._service, Request(scope, receive), body, share)
                with _dropped_when_gone(scope):
                    return await endpoint.handle(call)
        except TimeoutError:
            if deadline.expired():
                raise late from None
            raise

    def _failed(self, error: Exception, scope: Scope) -> Response:
        problem = problem_of(error)
        if problem.status == 500:  # its message may hold what a client sent, and is not logged
            log.error("%s %s failed", self._endpoint.method, self._endpoint.path, exc_info=error)
        elif problem.status > 500:
            log.warning("%s %s: %s", self._endpoint.method, self._endpoint.path, problem.code)
        return error_response(problem, self._endpoint.errors, scope)


_STOPPED = Problem(503, "stopping", "the service is being stopped")


@contextmanager
def _dropped_when_gone(scope: Scope) -> Iterator[None]:
    """Where the connection is lost meanwhile, the protocol cancels what runs inside; raise ClientGone then."""
    if LOST in scope:
        raise ClientGone
    scope[RUNNING] = asyncio.current_task()
    try:
        yield
    except asyncio.CancelledError:
        if LOST in scope:
            raise ClientGone from None
        raise
    finally:
        del scope[RUNNING]


def error_response(problem: Problem, errors: ErrorFormat, scope: Scope | None = None) -> Response:
    response = json_response(errors(problem), problem.status)
    if problem.retry_after is not None:
        response.headers["retry-after"] = str(problem.retry_after)
    if problem.status == 401 and scope is not None:
        response.headers["www-authenticate"] = _challenge(scope)
    return response


def add_headers(response: Response) -> None:
    raw = response.raw_headers
    if all(name != b"cache-control" for name, _ in raw):
        raw.append(NO_STORE)
    raw += HEADERS


def count(service: Service, method: str, route: str, status: int, started: float) -> None:
    """Count an answer, and write its line to the access log: of the route, not of what the client asked for."""
    seconds = time.perf_counter() - started
    service.metrics.answered(route, status, seconds)
    if access_log.isEnabledFor(logging.INFO):
        access_log.info("%s %s %d %.1f ms", method if method.isalpha() else "?", route, status, seconds * 1000)


def _challenge(scope: Scope) -> str:
    """A browser asks its user for the token where a whole page needs it, as the password."""
    opens = any(name == b"accept" and b"text/html" in value for name, value in scope["headers"])
    return 'Basic realm="edge-embed", charset="UTF-8"' if opens else 'Bearer realm="edge-embed"'
