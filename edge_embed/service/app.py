"""The ASGI application: the routes of all modules behind the guard."""

import time
from collections.abc import Sequence
from types import ModuleType

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Scope

from edge_embed.service import collection, health, openapi, pages
from edge_embed.service.answering import Answering, add_headers, count, error_response
from edge_embed.service.doors import cohere, ollama, openai, tei
from edge_embed.service.endpoints import Endpoint
from edge_embed.service.memory import Memory
from edge_embed.service.metrics import OTHER
from edge_embed.service.refusals import Problem, Refusal, plain, problem_of
from edge_embed.service.security import Access, Guard
from edge_embed.service.service import Service

# The modules whose ROUTES are served.
MODULES: list[ModuleType] = [health, openai, ollama, tei, cohere, collection, pages]


def make_app(service: Service, access: Access, modules: Sequence[ModuleType] | None = None) -> Starlette:
    """The application for one service. modules: whose ROUTES are served, by default MODULES"""
    memory = Memory(service.limits.held_bytes)
    endpoints: list[Endpoint] = [one for module in modules or MODULES for one in module.ROUTES]
    endpoints.append(openapi.endpoint(endpoints))
    answering: dict[tuple[str, str], ASGIApp] = {
        (one.method, one.path): Answering(service, one, memory) for one in endpoints
    }
    served = [(Route(one.path, answering[one.method, one.path], methods=[one.method]), one) for one in endpoints]
    refused = _Refused(service, served)
    app = Starlette(
        routes=[route for route, _ in served],
        middleware=[Middleware(Guard, access, refused.by_guard, answering)],
        exception_handlers={HTTPException: refused.by_router},
    )
    app.router.redirect_slashes = False
    return app


class _Refused:
    """Answers to requests that reach no endpoint."""

    def __init__(self, service: Service, served: list[tuple[Route, Endpoint]]) -> None:
        self._service, self._served = service, served

    def by_guard(self, refusal: Refusal, scope: Scope) -> Response:
        """In the format of the endpoint that was asked for."""
        started, endpoint = time.perf_counter(), self._asked(scope)
        response = error_response(problem_of(refusal), endpoint.errors if endpoint else plain, scope)
        return self._counted(response, scope, endpoint, started)

    def by_router(self, request: Request, error: Exception) -> Response:
        """There is no such path, or it has no such method."""
        started, endpoint = time.perf_counter(), self._asked(request.scope)
        status = error.status_code if isinstance(error, HTTPException) else 500
        problem = {
            404: Problem(404, "not_found", "there is nothing at this path"),
            405: Problem(405, "method_not_allowed", "this path has no such method"),
        }.get(status, Problem(status, "refused", "this request cannot be answered"))
        response = error_response(problem, endpoint.errors if endpoint else plain)
        if status == 405:
            response.headers["allow"] = ", ".join(sorted(self._methods(request.scope)))
        return self._counted(response, request.scope, endpoint, started)

    def _counted(self, response: Response, scope: Scope, endpoint: Endpoint | None, started: float) -> Response:
        add_headers(response)
        route = endpoint.path if endpoint else OTHER
        count(self._service, scope["method"], route, response.status_code, started)
        return response

    def _asked(self, scope: Scope) -> Endpoint | None:
        found = {route.matches(scope)[0]: endpoint for route, endpoint in reversed(self._served)}
        return found.get(Match.FULL) or found.get(Match.PARTIAL)

    def _methods(self, scope: Scope) -> set[str]:
        fitting = (route for route, _ in self._served if route.matches(scope)[0] is not Match.NONE)
        return {method for route in fitting for method in route.methods or ()}
