"""`GET /health`: whether the service runs and is ready."""

from starlette.responses import Response

from edge_embed.service.endpoints import Call, Endpoint, json_response


async def health(call: Call) -> Response:
    return json_response({"status": "ok", "models": list(call.service.embedders)})


ROUTES = [Endpoint("GET", "/health", health)]
