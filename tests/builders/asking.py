"""Requests in JSON to a service that runs."""

from collections.abc import Callable
from typing import Any

from builders.services import Running

# ask(path) is GET; ask(path, body) is POST, the body sent as JSON unless it is bytes. Gives status and answer.
Ask = Callable[..., tuple[int, Any]]


def asking(running: Running) -> Ask:
    """Asks this service."""

    def ask(path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        kind = {"Content_Type": "application/json"} if body is not None else {}
        answer = running.ask("GET" if body is None else "POST", path, body, **{**kind, **headers})
        return answer.status, answer.json()

    return ask
