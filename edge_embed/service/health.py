"""`GET /health`: whether the service runs and is ready."""

from starlette.responses import Response

from edge_embed.service.endpoints import Call, Endpoint, json_response
from edge_embed.service.schemas import TEXT, TEXTS, fields


async def health(call: Call) -> Response:
    return json_response({"status": "ok", "models": list(call.service.embedders)})


GIVES = fields({"status": TEXT, "models": TEXTS})
ROUTES = [Endpoint("GET", "/health", health, summary="Whether the service runs", gives=GIVES)]
