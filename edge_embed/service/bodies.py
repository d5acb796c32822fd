"""Bodies of requests: read within limits of size, of each and of all of them together."""

from starlette.types import Message, Receive, Scope

from edge_embed.service.endpoints import Endpoint
from edge_embed.service.limits import Limits
from edge_embed.service.memory import Share
from edge_embed.service.refusals import ClientGone, Refusal


async def read_body(endpoint: Endpoint, limits: Limits, share: Share, scope: Scope, receive: Receive) -> bytes:
    """The whole body. Raises Refusal: 413 and 415 before anything is read, 413 and 429 meanwhile.

    share: of the memory; a body that arrives at once is not counted
    """
    most = limits.upload_bytes if endpoint.body == "raw" else limits.body_bytes
    _check_head(endpoint, scope, most)
    message = await receive()
    if _is_last(message):  # as most are: nothing has to be put together
        return bytes(_within(message["body"], most))
    body = bytearray(message["body"])
    while True:
        share.resize(len(_within(body, most)))
        message = await receive()
        last = _is_last(message)
        body += message["body"]
        if last:
            return bytes(_within(body, most))


def _is_last(message: Message) -> bool:
    if message["type"] != "http.request":
        raise ClientGone
    return not message.get("more_body", False)


def _within(body: bytes | bytearray, most: int) -> bytes | bytearray:
    if len(body) > most:
        raise _too_large(most)
    return body


def _too_large(most: int) -> Refusal:
    return Refusal(413, "body_too_large", f"the body is larger than {most:,} bytes")


def _check_head(endpoint: Endpoint, scope: Scope, most: int) -> None:
    """What the head says of the body."""
    kind = b""
    for name, value in scope["headers"]:
        if name == b"content-length" and int(value) > most:
            raise _too_large(most)
        if name == b"content-encoding" and value.lower() != b"identity":
            raise Refusal(415, "unsupported_encoding", "the body is compressed: send it as it is")
        if name == b"content-type":
            kind = value.partition(b";")[0].strip().lower()
    if endpoint.body == "json" and kind != b"application/json":
        raise Refusal(415, "unsupported_type", "the body must be sent as Content-Type: application/json")
