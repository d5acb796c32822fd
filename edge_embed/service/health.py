"""`GET /health` and `GET /metrics`: for whoever looks after the service."""

import asyncio

from starlette.responses import Response

from edge_embed.schemas import ANYTHING, TEXT, TEXTS, fields
from edge_embed.service.endpoints import Call, Endpoint, json_response
from edge_embed.service.refusals import Refusal, problem_of
from edge_embed_runtime.errors import EdgeEmbedError

# Seconds that /health and /metrics wait for the index.
PATIENCE = 2.0


async def health(call: Call) -> Response:
    """200 where the service can answer, 503 where it stops or its index cannot be used."""
    service = call.service
    state = {"status": "ok", "models": list(service.embedders), "rerankers": list(service.rerankers)}
    if service.stopping:
        return json_response({**state, "status": "stopping"}, 503)
    if service.index is None:
        return json_response(state)
    try:
        async with asyncio.timeout(PATIENCE):
            documents = await service.read(len)
    except (TimeoutError, Refusal):  # it works, on much
        return json_response({**state, "index": {"busy": True}})
    except EdgeEmbedError as error:
        problem = problem_of(error)
        why = {"code": problem.code, "message": problem.message}
        return json_response({**state, "status": "failed", "index": why}, 503)
    return json_response({**state, "index": {"documents": documents}})


async def metrics(call: Call) -> Response:
    """Prometheus's text format."""
    service = call.service
    if service.index is not None:
        try:
            async with asyncio.timeout(PATIENCE):
                service.metrics.documents(await service.read(len))
        except (TimeoutError, Refusal, EdgeEmbedError):
            service.metrics.documents(None)
    return Response(service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


GIVES = fields({"status": TEXT, "models": TEXTS, "rerankers": TEXTS}, {"index": ANYTHING})
ROUTES = [
    Endpoint("GET", "/health", health, summary="Whether the service can answer", gives=GIVES),
    Endpoint("GET", "/metrics", metrics, summary="What it did, for Prometheus"),
]
