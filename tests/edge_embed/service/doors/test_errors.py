"""Errors of every status look as the door's own schema says."""

from pathlib import Path
from types import ModuleType

import pytest
from builders.asking import asking
from builders.bert import bert_folder
from builders.heads import sparse_folder
from builders.services import running

from edge_embed import BundleError, Embedder
from edge_embed.schemas import check
from edge_embed.service.doors import cohere, ollama, openai, tei
from edge_embed.service.refusals import Problem, problem_of
from edge_embed.service.service import Service
from edge_embed_export import export_model

STATUSES = (400, 401, 403, 404, 405, 408, 409, 413, 415, 422, 424, 429, 500, 503, 507)


@pytest.mark.parametrize("door", [cohere, ollama, openai, tei])
@pytest.mark.parametrize("status", STATUSES)
def test_every_status(door: ModuleType, status: int) -> None:
    """With the sentence in it."""
    for more in ({}, {"option": "input"}):
        found = door.errors(Problem(status, "some_code", "a sentence", more=more))
        check(found, door.ERROR)
        assert "a sentence" in str(found)


def test_paths_of_this_machine_are_not_said() -> None:
    """A client gets the name of the file."""
    problem = problem_of(BundleError("bundle /srv/models/m is damaged: export it again", path="/srv/models/m"))
    assert problem.message == "bundle m is damaged: export it again"
    assert "path" not in problem.more


@pytest.mark.usefixtures("short_receipt")
def test_a_model_that_gives_no_vectors_for_texts(tmp_path: Path) -> None:
    """The sentence says what it gives, in no door the path of its bundle."""
    export_model(sparse_folder(bert_folder(tmp_path / "checkpoint")), tmp_path / "splade")
    with running(Service({"splade": Embedder(tmp_path / "splade", threads=1)})) as service:
        ask = asking(service)
        for path, body, status in (
            ("/v1/embeddings", {"model": "splade", "input": "x"}, 400),
            ("/api/embed", {"model": "splade", "input": "x"}, 400),
            ("/v2/embed", {"model": "splade", "input_type": "search_query", "texts": ["x"]}, 400),
            ("/embed", {"inputs": "x"}, 422),
        ):
            got, answer = ask(path, body)
            assert got == status
            assert "the model gives weights of tokens" in str(answer)
            assert str(tmp_path) not in str(answer)


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
