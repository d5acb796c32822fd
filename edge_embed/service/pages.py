"""`GET /`: the page, whose files lie in page/. It loads nothing from elsewhere and runs no inline script."""

import hashlib
from importlib.resources import files

from starlette.responses import Response

from edge_embed.service.endpoints import Call, Endpoint, Handler

TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
POLICY = "; ".join([
    "default-src 'none'", "script-src 'self'", "style-src 'self'", "img-src 'self' blob:", "connect-src 'self'",
    "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'", "require-trusted-types-for 'script'",
    "trusted-types 'none'",
])  # fmt: skip
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cache-Control": "no-cache",  # asked for each time, and answered by 304 where nothing changed
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


def _serve(content: bytes, kind: str) -> Handler:
    """A function that gives one file."""
    tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'

    async def give(call: Call) -> Response:
        same = tag in call.request.headers.get("if-none-match", "")
        headers = {**HEADERS, "ETag": tag}
        if same:
            return Response(status_code=304, headers=headers)
        return Response(content, headers={**headers, "Content-Type": kind})

    return give


def _routes() -> list[Endpoint]:
    found = []
    for file in sorted((files("edge_embed") / "service" / "page").iterdir(), key=lambda file: file.name):
        kind = TYPES.get(f".{file.name.rpartition('.')[2]}")
        if kind is not None:
            path = "/" if file.name == "index.html" else f"/page/{file.name}"
            found.append(Endpoint("GET", path, _serve(file.read_bytes(), kind), summary="The page", tag="page"))
    return found


ROUTES = _routes()
