"""Requests that get no answer but a reason: the status, the code and one sentence."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge_embed_runtime.errors import EdgeEmbedError

# The status of an error of the runtime, by its code. What is not here is a fault of ours or of the machine: 500.
STATUS = {
    "invalid_input": 400,
    "invalid_document": 400,
    "invalid_filter": 400,
    "invalid_source": 400,
    "bad_media": 400,
    "bad_image": 400,
    "bad_audio": 400,
    "memory_budget": 400,
    "missing_extra": 400,
    "index_read_only": 403,
    "key_not_found": 404,
    "duplicate_key": 409,
    "index_locked": 503,
    "index_busy": 503,
    "index_missing": 503,
    "index_moved": 503,
    "index_damaged": 503,
    "index_format": 503,
    "index_incomplete": 503,
    "index_closed": 503,
    "index_unusable": 503,
    "bundle_mismatch": 503,
    "deadline": 503,
    "storage_failed": 503,
    "disk_full": 507,
}
# Errors that the same request may not meet a moment later; their answers say Retry-After.
FOR_A_MOMENT = {"index_locked", "index_busy", "index_closed"}


class Refusal(Exception):
    """Raised where a request is not answered.

    status:      of HTTP
    code:        a name that does not change
    retry_after: seconds after which the client may try again
    """

    def __init__(self, status: int, code: str, message: str, *, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.retry_after = status, code, retry_after


class ClientGone(Exception):
    """The client went away before it had its answer; what it asked for is dropped."""


@dataclass(frozen=True)
class Problem:
    """What a door writes into the body of an answer that is an error.

    more: what else is known, as `EdgeEmbedError.as_dict` gives it, without paths of this machine
    """

    status: int
    code: str
    message: str
    retry_after: int | None = None
    more: dict[str, Any] = field(default_factory=dict)


ErrorFormat = Callable[[Problem], dict[str, Any]]


def plain(problem: Problem) -> dict[str, Any]:
    """The format of our own routes: {"error": {"code": "invalid_input", "message": "..."}}."""
    return {"error": {**problem.more, "code": problem.code, "message": problem.message}}


def problem_of(error: Exception) -> Problem:
    """What an error means to a client. Errors that nobody raised on purpose say nothing of what happened."""
    if isinstance(error, Refusal):
        return Problem(error.status, error.code, str(error), error.retry_after)
    if isinstance(error, EdgeEmbedError):
        more = {name: value for name, value in error.as_dict().items() if name not in ("path", "pid", "files")}
        retry = 1 if error.code in FOR_A_MOMENT else None
        return Problem(STATUS.get(error.code, 500), error.code, _said(error), retry, more=more)
    if isinstance(error, MemoryError):
        return Problem(503, "out_of_memory", "there is not enough memory for this request", 1)
    return Problem(500, "internal", "the service failed at this request; its log says where")


def _said(error: EdgeEmbedError) -> str:
    """Its message, with names in place of paths of this machine: "bundle /srv/m: broken" -> "bundle m: broken"."""
    return str(error).replace(error.path, Path(error.path).name) if error.path else str(error)
