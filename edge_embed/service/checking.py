"""Ask a service that runs whether it is ready, as a container's health check does."""

import http.client
import json
import socket

from edge_embed_runtime.errors import EdgeEmbedError

SECONDS = 5.0


class NotReadyError(EdgeEmbedError):
    """The service does not answer, or says that it is not ready."""


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(SECONDS)
        self.sock.connect(self._path)


def check_ready(host: str, port: int, unix: str | None, token: str | None) -> None:
    """Raises NotReadyError."""
    where = f"unix:{unix}" if unix is not None else f"{host}:{port}"
    asking = _UnixConnection(unix) if unix is not None else http.client.HTTPConnection(host, port, timeout=SECONDS)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    if host in ("0.0.0.0", "::"):  # noqa: S104 - asked, not bound: the service answers to the names of this machine
        headers["Host"] = f"localhost:{port}"
    try:
        asking.request("GET", "/health", headers=headers)
        answer = asking.getresponse()
        said = answer.read(100_000)
    except (OSError, http.client.HTTPException) as error:
        raise NotReadyError(f"nothing answers at {where}: {getattr(error, 'strerror', None) or error}") from None
    finally:
        asking.close()
    if answer.status != http.client.OK:
        try:
            status = json.loads(said)
            reason = status.get("status") or status["error"]["message"]
        except (ValueError, KeyError, TypeError, AttributeError):
            reason = "that is no edge-embed service"
        raise NotReadyError(f"the service at {where} is not ready: {reason} ({answer.status})")
