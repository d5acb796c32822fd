"""Cohere's API, version 2, as raw HTTP."""

import base64
import re
from typing import Any

import numpy as np
import pytest
from builders.asking import Ask

from edge_embed import Embedder, Reranker
from edge_embed_runtime.embed.reranker import sigmoid

TEXTS = ["the cat", "a dog in the garden"]


def embed(ask: Ask, **body: Any) -> tuple[int, Any]:
    return ask("/v2/embed", {"model": "tiny", "input_type": "search_document", "texts": TEXTS, **body})


@pytest.mark.parametrize(
    ("input_type", "role"), [("search_query", "query"), ("search_document", "document"), ("clustering", "clustering")]
)
def test_vectors_are_those_of_encode(ask: Ask, prompted: Embedder, input_type: str, role: str) -> None:
    """`input_type` names the role; vectors come as numbers, as bytes, or both."""
    status, answer = embed(ask, input_type=input_type, embedding_types=["float", "base64"])
    wanted = prompted.encode(TEXTS, role=role)
    assert (status, answer["texts"], answer["response_type"]) == (200, TEXTS, "embeddings_by_type")
    assert np.array_equal(np.array(answer["embeddings"]["float"], np.float32), wanted)
    rows = [np.frombuffer(base64.b64decode(row), "<f4") for row in answer["embeddings"]["base64"]]
    assert np.array_equal(np.stack(rows), wanted)


def test_numbers_are_the_default(ask: Ask, prompted: Embedder) -> None:
    """And dimensions those that the model was trained for."""
    _, answer = embed(ask, output_dimension=8)
    assert list(answer["embeddings"]) == ["float"]
    wanted = prompted.encode(TEXTS, role="document", truncate_dim=8)
    assert np.array_equal(np.array(answer["embeddings"]["float"], np.float32), wanted)


def test_long_texts(ask: Ask) -> None:
    """Cut at the end unless NONE says otherwise; never at the start."""
    long = ["the cat " * 40]
    assert embed(ask, texts=long)[0] == embed(ask, texts=long, truncate="END")[0] == 200
    for truncate in ("NONE", "START"):
        status, answer = embed(ask, texts=long, truncate=truncate)
        assert status == 400
        assert answer["message"].startswith("texts[0] has 82 tokens; ")


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({"texts": []}, 400, "texts has 0 entries, expected at least 1"),
        ({"input_type": "classification"}, 400, "input_type is 'classification', .* clustering, document, query"),
        ({"input_type": "image"}, 400, "input_type is 'image', expected one of search_document, .*"),
        ({"input_type": "photo"}, 400, "input_type is 'photo', expected one of search_document, .*"),
        ({"embedding_types": ["int8"]}, 400, r"embedding_types\[0\] is 'int8', expected one of float, base64"),
        ({"output_dimension": 5}, 400, "output_dimension is 5, expected one of 8, 16, 32, which .*"),
        ({"inputs": []}, 400, "'inputs' is unknown: known are model, .*"),
        ({"model": "embed-v4.0"}, 404, "there is no model 'embed-v4.0' here"),
    ],
)
def test_what_cannot_be_used_is_named(ask: Ask, body: dict[str, Any], status: int, message: str) -> None:
    """{"message": SENTENCE} with an id of the request."""
    got, answer = embed(ask, **body)
    assert got == status
    assert list(answer) == ["id", "message"]
    assert re.fullmatch(message, answer["message"])


QUERY = "the cat"
DOCUMENTS = ["a dog in the garden", "the bank", "", "money at the river and a house"]


def rank(ask: Ask, **body: Any) -> tuple[int, Any]:
    return ask("/v2/rerank", {"model": "judge", "query": QUERY, "documents": DOCUMENTS, **body})


def test_documents_by_score(ask: Ask, reranker: Reranker) -> None:
    """From 0 to 1, best first, as many as asked for."""
    status, answer = rank(ask)
    scores = sigmoid(reranker.scores([(QUERY, text) for text in DOCUMENTS], raw=True))
    assert status == 200
    assert [one["index"] for one in answer["results"]] == np.argsort(-scores, kind="stable").tolist()
    assert all(np.float32(one["relevance_score"]) == scores[one["index"]] for one in answer["results"])
    for most in (1, 3, 9):
        assert rank(ask, top_n=most)[1]["results"] == answer["results"][:most]
    for one in rank(ask, return_documents=True, max_tokens_per_doc=1)[1]["results"]:
        assert one["document"] == {"text": DOCUMENTS[one["index"]]}


def test_first_tokens_of_documents(ask: Ask, reranker: Reranker) -> None:
    """`max_tokens_per_doc` leaves out what comes behind, in whole tokens."""
    _, answer = rank(ask, documents=["a dog in the garden", "the"], max_tokens_per_doc=2)
    scores = sigmoid(reranker.scores([(QUERY, "a dog"), (QUERY, "the")], raw=True))
    assert {one["index"]: np.float32(one["relevance_score"]) for one in answer["results"]} == dict(enumerate(scores))
    assert rank(ask, max_tokens_per_doc=4096)[1]["results"] == rank(ask)[1]["results"]


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({"documents": []}, 400, "documents has 0 entries, expected at least 1"),
        ({"documents": [{"text": "x"}]}, 400, r"documents\[0\] is .*, expected a string"),
        ({"top_n": 0}, 400, "top_n is 0, expected at least 1"),
        ({"relevant_spans": {}}, 400, "'relevant_spans' is unknown: known are model, .*"),
        ({"model": "rerank-v3.5"}, 404, "there is no reranker 'rerank-v3.5' here.*"),
        ({"model": "minilm"}, 404, "there is no reranker 'minilm' here.*"),
    ],
)
def test_what_cannot_be_ranked_is_named(ask: Ask, body: dict[str, Any], status: int, message: str) -> None:
    """As for vectors."""
    got, answer = rank(ask, **body)
    assert got == status
    assert re.fullmatch(message, answer["message"])
