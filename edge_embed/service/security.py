"""Who is let in: checked before anything of a request is read."""

from starlette.types import ASGIApp, Receive, Scope, Send


class Guard:
    """The outermost layer."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)
