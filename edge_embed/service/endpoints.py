"""What a module of routes declares, and what its functions get."""

import json
import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from starlette.requests import Request
from starlette.responses import Response

from edge_embed.schemas import TEXT, Schema, fields
from edge_embed.service.memory import Share
from edge_embed.service.refusals import ErrorFormat, Refusal, plain
from edge_embed_runtime.checks import unique_names

if TYPE_CHECKING:
    from edge_embed.service.service import Service

# Values in the JSON of one request, counted by their commas and brackets: each becomes an object in memory.
MOST_VALUES = 200_000


@dataclass(slots=True)
class Call:
    """One request that was let in, with its whole body.

    share: of the memory for large bodies and answers
    """

    service: "Service"
    request: Request
    body: bytes
    share: Share

    def json(self) -> dict[str, Any]:
        """The body as a JSON object. Raises Refusal for anything else: NaN, a name twice, too deep."""
        return parsed(self.body)


def parsed(text: bytes, name: str = "the body") -> dict[str, Any]:
    """A JSON object. Raises Refusal for anything else: NaN, a name twice, too deep."""
    if sum(map(text.count, (b",", b"[", b"{"))) > MOST_VALUES:
        raise Refusal(413, "too_many_values", f"{name} holds more than {MOST_VALUES:,} values")
    try:
        read = json.loads(text, object_pairs_hook=unique_names, parse_constant=_no_number, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise Refusal(400, "invalid_json", f"{name} is not JSON that can be read: {_reason(error)}") from None
    if not isinstance(read, dict):
        raise Refusal(400, "invalid_json", f"{name} is not a JSON object")
    return read


# What `plain` makes of an error; it may say more than that.
PLAIN: Schema = fields(
    {"error": {"type": "object", "properties": {"code": TEXT, "message": TEXT}, "required": ["code", "message"]}}
)
Handler = Callable[[Call], Awaitable[Response]]


@dataclass(frozen=True)
class Endpoint:
    """One route.

    handle: async function of a Call that gives a starlette Response, or raises Refusal or an EdgeEmbedError
    errors: how errors look in this API
    writes: whether it changes an index, which takes the token in any case
    body:   "json" (the client says application/json), "any" (JSON, whatever type the client says), "raw" (bytes of
            any type), or None

    What /openapi.json says of it:

    summary: in a few words
    tag:     the API that it is part of
    takes:   the schema of the body in JSON
    query:   the schemas of what stands behind "?" in the URL, by name
    gives:   the schema of the answer; None where it is no JSON
    kind:    the type of an answer that is no JSON; "" where that is not said
    error:   the schema of an answer that is an error
    """

    method: Literal["GET", "POST", "DELETE", "PUT"]
    path: str
    handle: Handler
    errors: ErrorFormat = plain
    writes: bool = False
    body: Literal["json", "any", "raw"] | None = None
    summary: str = ""
    tag: str = "edge_embed"
    takes: Schema | None = None
    query: Mapping[str, Schema] = field(default_factory=dict)
    gives: Schema | None = None
    kind: str = ""
    error: Schema = field(default_factory=lambda: PLAIN)


def json_response(value: Any, status: int = 200) -> Response:
    """An answer in JSON."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return Response(text.encode(), status, media_type="application/json")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("a number is too large")
    return number


def _reason(error: Exception) -> str:
    """In a few words, without what the body holds."""
    if isinstance(error, RecursionError):
        return "it is nested too deep"
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8"
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at character {error.pos}"
    return "a number has too many digits" if "digits" in str(error) else str(error)


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")
