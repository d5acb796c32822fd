"""Errors of every status look as the door's own schema says."""

from types import ModuleType

import pytest

from edge_embed.service.doors import cohere, ollama, openai, tei
from edge_embed.service.refusals import Problem
from edge_embed.service.schemas import check

STATUSES = (400, 401, 403, 404, 405, 408, 409, 413, 415, 422, 424, 429, 500, 503, 507)


@pytest.mark.parametrize("door", [cohere, ollama, openai, tei])
@pytest.mark.parametrize("status", STATUSES)
def test_every_status(door: ModuleType, status: int) -> None:
    """With the sentence in it."""
    for more in ({}, {"option": "input"}):
        found = door.errors(Problem(status, "some_code", "a sentence", more=more))
        check(found, door.ERROR)
        assert "a sentence" in str(found)


def test_types_that_clients_look_at() -> None:
    """OpenAI's and TEI's clients tell by them whether to try again."""
    found = {status: openai.errors(Problem(status, "ours", "x"))["error"] for status in (400, 401, 429, 503)}
    assert {status: (error["type"], error["code"]) for status, error in found.items()} == {
        400: ("invalid_request_error", "ours"),
        401: ("invalid_request_error", "invalid_api_key"),
        429: ("requests", "rate_limit_exceeded"),
        503: ("server_error", None),
    }
    kinds = {
        status: tei.errors(Problem(status, "ours", "x"))["error_type"] for status in (413, 422, 424, 429, 500, 503)
    }
    assert kinds == {
        413: "Validation", 422: "Validation", 424: "Backend", 429: "Overloaded", 500: "Backend", 503: "Unhealthy"
    }  # fmt: skip
