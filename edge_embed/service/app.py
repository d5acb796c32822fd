"""The ASGI application: routes of all modules, each request with its errors in the format of its API."""

import logging
from collections.abc import Iterable

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from edge_embed.service import collection, health, openapi, pages
from edge_embed.service.doors import cohere, ollama, openai, tei
from edge_embed.service.endpoints import Call, Endpoint, json_response
from edge_embed.service.refusals import ErrorFormat, Problem, plain, problem_of
from edge_embed.service.security import Guard
from edge_embed.service.service import Service

log = logging.getLogger("edge_embed.service")
# The modules whose ROUTES are served.
MODULES = [health, openai, ollama, tei, cohere, collection, pages]


def make_app(service: Service) -> Starlette:
    """The application for one service."""
    endpoints = [endpoint for module in MODULES for endpoint in module.ROUTES]
    endpoints.append(openapi.endpoint(endpoints))
    return Starlette(
        routes=list(_routes(service, endpoints)),
        middleware=[Middleware(Guard)],
        exception_handlers={HTTPException: _unrouted},
    )


def _routes(service: Service, endpoints: Iterable[Endpoint]) -> Iterable[Route]:
    for endpoint in endpoints:
        yield Route(endpoint.path, _Handled(service, endpoint), methods=[endpoint.method], name=endpoint.path)


class _Handled:
    """One endpoint as an ASGI application."""

    def __init__(self, service: Service, endpoint: Endpoint) -> None:
        self.service, self.endpoint = service, endpoint

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            body = await request.body() if self.endpoint.body else b""
            response = await self.endpoint.handle(Call(self.service, request, body))
        except Exception as error:
            problem = problem_of(error)
            if problem.status == 500:
                log.exception("%s %s failed", self.endpoint.method, self.endpoint.path)
            response = error_response(problem, self.endpoint.errors)
        await response(scope, receive, send)


def error_response(problem: Problem, errors: ErrorFormat) -> Response:
    response = json_response(errors(problem), problem.status)
    if problem.retry_after is not None:
        response.headers["retry-after"] = str(problem.retry_after)
    if problem.close:
        response.headers["connection"] = "close"
    return response


def _unrouted(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    code, message = {
        404: ("not_found", "there is nothing at this path"),
        405: ("method_not_allowed", f"{request.method} is not possible here"),
    }.get(status, ("refused", "this request cannot be answered"))
    response = error_response(Problem(status, code, message), plain)
    response.headers.update(getattr(error, "headers", None) or {})
    return response
