"""OpenAI's API for embeddings, as raw HTTP."""

import base64
import re
from typing import Any

import numpy as np
import pytest
from builders.asking import Ask

from edge_embed import Embedder

TEXTS = ["the cat sits on the mat", "ein Satz mit Umlauten: äöü", "東京", ""]
MODEL = "minilm"


def embed(ask: Ask, **body: Any) -> tuple[int, Any]:
    return ask("/v1/embeddings", {"model": MODEL, **body})


@pytest.mark.parametrize("encoding", ["float", "base64", None])
def test_vectors_are_those_of_encode(ask: Ask, embedder: Embedder, encoding: str | None) -> None:
    """Each encoding holds the very bits of `encode`; without one they are numbers."""
    status, answer = embed(ask, input=TEXTS, encoding_format=encoding)
    assert status == 200
    rows = [one["embedding"] for one in answer["data"]]
    if encoding == "base64":
        vectors = np.stack([np.frombuffer(base64.b64decode(row), "<f4") for row in rows])
    else:
        assert all(row == np.array(row, np.float32).tolist() for row in rows)
        vectors = np.array(rows, np.float32)
    assert np.array_equal(vectors, embedder.encode(TEXTS))
    assert [(one["object"], one["index"]) for one in answer["data"]] == [("embedding", i) for i in range(4)]
    tokens = sum(len(embedder.tokenizer.encode(text)) for text in TEXTS)
    assert answer["usage"] == {"prompt_tokens": tokens, "total_tokens": tokens}
    assert (answer["object"], answer["model"]) == ("list", MODEL)


def test_one_text(ask: Ask, embedder: Embedder) -> None:
    """A text alone is a list of one."""
    status, answer = embed(ask, input="x", user="me", dimensions=embedder.dim)
    assert (status, len(answer["data"])) == (200, 1)
    assert np.array_equal(np.array(answer["data"][0]["embedding"], np.float32), embedder.encode(["x"])[0])


@pytest.mark.parametrize("ids", [[1, 2], [[1, 2], [3]], [[]]])
def test_token_ids_are_refused(ask: Ask, ids: Any) -> None:
    """The sentence says what to write with LangChain, which sends ids unless told otherwise."""
    status, answer = embed(ask, input=ids)
    assert status == 400
    assert "check_embedding_ctx_length=False" in answer["error"]["message"]
    assert (answer["error"]["type"], answer["error"]["param"]) == ("invalid_request_error", "input")


@pytest.mark.parametrize(
    ("body", "param", "message"),
    [
        ({}, "input", "input is missing"),
        ({"input": []}, "input", "input has 0 entries, expected at least 1"),
        ({"input": ["x", None]}, "input[1]", r"input\[1\] is None, expected a string"),
        ({"input": [True]}, "input[0]", r"input\[0\] is True, expected a string"),
        ({"input": "x", "dimensions": 100}, "dimensions", "dimensions is 100, expected one of 384, which .*"),
        ({"input": "x", "dimensions": 0}, "dimensions", "dimensions is 0, expected at least 1"),
        ({"input": "x", "encoding_format": "int8"}, "encoding_format", ".* expected one of float, base64"),
        ({"input": "x", "input_type": "poem"}, "input_type", ".* expected one of document, query"),
        ({"input": "x", "temperature": 0}, "temperature", "'temperature' is unknown: known are input, .*"),
        ({"input": "x " * 300}, "input", r"input\[0\] has 302 tokens; the model reads 256: .*truncate.*"),
        ({"input": "\ud800"}, None, "text 0 holds a lone surrogate .*"),
    ],
)
def test_what_cannot_be_used_is_named(ask: Ask, body: dict[str, Any], param: str | None, message: str) -> None:
    """400 in OpenAI's format, with the parameter it is about."""
    status, answer = embed(ask, **body)
    assert status == 400
    assert re.fullmatch(message, answer["error"]["message"])
    assert (answer["error"]["type"], answer["error"]["param"]) == ("invalid_request_error", param)


def test_long_texts_are_cut_where_asked(ask: Ask, embedder: Embedder) -> None:
    """`truncate` leaves out what the model does not read; what was read is counted."""
    status, answer = embed(ask, input="x " * 300, truncate=True)
    assert (status, answer["usage"]["prompt_tokens"]) == (200, 256)
    assert np.array_equal(np.array(answer["data"][0]["embedding"], np.float32), embedder.encode(["x " * 300])[0])


@pytest.mark.parametrize(
    ("asked", "role"),
    [("query", "query"), ("document", "document"), ("passage", "document"), ("clustering", "clustering")],
)
def test_input_type_says_whose_prompt_is_put_before_a_text(ask: Ask, prompted: Embedder, asked: str, role: str) -> None:
    """`input_type` is a role of the bundle; a document may be called a passage, as NVIDIA's clients do."""
    _, answer = embed(ask, model="tiny", input=["the cat"], input_type=asked)
    assert np.array_equal(
        np.array(answer["data"][0]["embedding"], np.float32), prompted.encode(["the cat"], role=role)[0]
    )
    before = len(prompted.prompts[role].split())
    assert answer["usage"]["total_tokens"] == before + 4


@pytest.mark.parametrize("dim", [8, 16, 32])
def test_dimensions_that_the_model_was_trained_for(ask: Ask, prompted: Embedder, dim: int) -> None:
    """Vectors are cut and have length 1 again."""
    _, answer = embed(ask, model="tiny", input=["the cat"], dimensions=dim)
    vector = np.array(answer["data"][0]["embedding"], np.float32)
    assert np.array_equal(vector, prompted.encode(["the cat"], truncate_dim=dim)[0])
    assert vector.shape == (dim,)
    assert abs(np.linalg.norm(vector) - 1) < 1e-6


@pytest.mark.parametrize("count", [2049, 900_000])
def test_too_many_texts(ask: Ask, count: int) -> None:
    """A body within its limit may hold a million texts: 413, in OpenAI's format."""
    status, answer = ask("/v1/embeddings", b'{"model": "minilm", "input": [%s]}' % b",".join([b'"a"'] * count))
    assert (status, answer["error"]["type"]) == (413, "invalid_request_error")
    assert answer["error"]["code"] in ("too_many_texts", "too_many_values")


def test_unknown_models(ask: Ask) -> None:
    """404 with the code that OpenAI's clients look for."""
    for status, answer in (embed(ask, input="x", model="gpt"), ask("/v1/models/gpt")):
        assert (status, answer["error"]["code"]) == (404, "model_not_found")
        assert "'gpt'" in answer["error"]["message"]


def test_models(ask: Ask) -> None:
    """Models are listed, and each is found by its name."""
    status, answer = ask("/v1/models")
    assert (status, answer["object"]) == (200, "list")
    found = [(one["id"], one["object"], one["owned_by"]) for one in answer["data"]]
    assert found == [(name, "model", "edge-embed") for name in ("minilm", "tiny", "judge")]
    assert ask(f"/v1/models/{MODEL}") == (200, answer["data"][0])


def test_many_vectors(ask: Ask, embedder: Embedder) -> None:
    """An answer that is written in another thread is the same."""
    texts = [f"text {i}" for i in range(64)]
    _, answer = embed(ask, input=texts)
    vectors = np.array([one["embedding"] for one in answer["data"]], np.float32)
    assert np.array_equal(vectors, embedder.encode(texts))
