"""How much one request, and all of them together, may ask for."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """What the service takes at most.

    body_bytes:      of a request in JSON
    upload_bytes:    of a request that is a file
    held_bytes:      of large bodies and answers of all requests together, until they are read and sent
    texts:           in one request
    characters:      of one text
    pixels:          of one picture
    hits:            that a search gives
    waiting:         texts that wait for one model
    calls:           that wait for the index
    seconds:         from a request's last byte to its answer
    head_seconds:    for a client to send the head of a request
    body_seconds:    and its body
    idle_seconds:    that a connection may stay open between requests
    connections:     open at a time
    stop_seconds:    for what runs when the service is stopped
    """

    body_bytes: int = 4_000_000
    upload_bytes: int = 32_000_000
    held_bytes: int = 64_000_000
    texts: int = 2048
    characters: int = 200_000
    pixels: int = 50_000_000
    hits: int = 1000
    waiting: int = 8192
    calls: int = 256
    seconds: float = 120.0
    head_seconds: float = 10.0
    body_seconds: float = 30.0
    idle_seconds: float = 30.0
    connections: int = 512
    stop_seconds: float = 10.0
