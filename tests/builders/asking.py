"""Requests to a service of ours, as plain as HTTP is."""

import json
import urllib.error
import urllib.request
from typing import Any


def ask(
    url: str, body: Any = None, headers: dict[str, str] | None = None, method: str | None = None
) -> tuple[int, Any]:
    """The status and the answer in JSON. body: sent as JSON by POST; bytes as they stand; None means GET"""
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    about = {} if data is None else {"Content-Type": "application/json"}
    request = urllib.request.Request(url, data, {**about, **(headers or {})}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())
