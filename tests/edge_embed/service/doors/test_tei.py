"""The API of text-embeddings-inference, as raw HTTP."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders.asking import Ask, asking
from builders.served import reranker_bundle
from builders.services import running

from edge_embed import Embedder, Reranker
from edge_embed.service.service import Service
from edge_embed_runtime.embed.reranker import sigmoid

TEXTS = ["the cat", "a dog in the garden"]


@pytest.mark.parametrize("path", ["/embed", "/"])
def test_vectors_are_those_of_encode(ask: Ask, embedder: Embedder, path: str) -> None:
    """A list of vectors; a text alone is a list of one."""
    body = {"inputs": TEXTS, "normalize": True, "truncate": None, "truncation_direction": "left", "prompt_name": None}
    for given in (body, {"inputs": TEXTS}):
        status, answer = ask(path, given)
        assert status == 200
        assert np.array_equal(np.array(answer, np.float32), embedder.encode(TEXTS))
    _, answer = ask(path, {"inputs": "the cat", "prompt_name": "query", "dimensions": 384})
    assert np.array_equal(np.array(answer, np.float32), embedder.encode(["the cat"]))


def test_long_texts_are_cut_unless_told_otherwise(ask: Ask, embedder: Embedder) -> None:
    """As a server of today's release does; never on the left, where only texts that fit are taken."""
    long = "x " * 300
    for truncate in ({}, {"truncate": True}, {"truncate": None}):
        _, answer = ask("/embed", {"inputs": long, **truncate})
        assert np.array_equal(np.array(answer, np.float32), embedder.encode([long]))
    for refused in ({"truncate": False}, {"truncate": True, "truncation_direction": "Left"}):
        status, answer = ask("/embed", {"inputs": ["x", long], **refused})
        assert (status, answer["error_type"]) == (422, "Validation")
        assert answer["error"].startswith("inputs[1] has 302 tokens; ")


@pytest.mark.parametrize(
    ("body", "status", "kind", "message"),
    [
        ({"inputs": []}, 400, "Empty", "inputs is empty"),
        ({}, 422, "Validation", "inputs is missing"),
        ({"inputs": [1, 2]}, 422, "Validation", "inputs holds token ids, .*"),
        ({"inputs": [[1, 2]]}, 422, "Validation", "inputs holds token ids, .*"),
        ({"inputs": ["x", None]}, 422, "Validation", r"inputs\[1\] is None, expected a string"),
        ({"inputs": "x", "normalize": False}, 422, "Validation", "normalize is False: .*"),
        ({"inputs": "x", "normalize": 1}, 422, "Validation", "normalize is 1, expected true or false"),
        ({"inputs": "x", "prompt_name": "poem"}, 422, "Validation", "prompt_name is 'poem', .* document, query"),
        ({"inputs": "x", "dimensions": 7}, 422, "Validation", "dimensions is 7, expected one of 384, which .*"),
        ({"inputs": "x", "truncation_direction": "up"}, 422, "Validation", "truncation_direction is 'up', .*"),
        ({"inputs": "x", "pooling": "cls"}, 422, "Validation", "'pooling' is unknown: known are inputs, .*"),
    ],
)
def test_what_cannot_be_used_is_named(ask: Ask, body: Any, status: int, kind: str, message: str) -> None:
    """With the status and the type of error that this API has for it."""
    got, answer = ask("/embed", body)
    assert (got, answer["error_type"]) == (status, kind)
    assert re.fullmatch(message, answer["error"])


def test_no_json(ask: Ask) -> None:
    """What is no JSON is an error in the same format."""
    status, answer = ask("/embed", b'{"inputs": ')
    assert (status, answer["error_type"]) == (400, "Validation")


def test_info(ask: Ask, embedder: Embedder) -> None:
    """The first model, and what one request may hold."""
    status, answer = ask("/info")
    assert status == 200
    assert (answer["model_id"], answer["model_sha"]) == ("minilm", embedder.manifest.fingerprint)
    assert (answer["max_input_length"], answer["model_type"]) == (256, {"embedding": {"pooling": "mean"}})
    assert answer["auto_truncate"] is True


QUERY = "the cat"
DOCUMENTS = ["a dog in the garden", "the bank", "", "the bank", "money at the river and a house"]


@pytest.mark.parametrize("raw", [False, True])
def test_texts_by_score(ask: Ask, reranker: Reranker, raw: bool) -> None:
    """Best first, of equal ones the first before the others; from 0 to 1, or as the model gives them."""
    status, answer = ask("/rerank", {"query": QUERY, "texts": DOCUMENTS, "raw_scores": raw, "return_text": raw})
    scores = reranker.scores([(QUERY, text) for text in DOCUMENTS], raw=True)
    scores = scores if raw else sigmoid(scores)
    assert status == 200
    assert [one["index"] for one in answer] == np.argsort(-scores, kind="stable").tolist()
    assert all(np.float32(one["score"]) == scores[one["index"]] for one in answer)
    assert [one.get("text") for one in answer] == [DOCUMENTS[one["index"]] if raw else None for one in answer]
    body = {"query": QUERY, "texts": DOCUMENTS, "raw_scores": raw, "return_text": raw, "top_n": 2}
    assert ask("/rerank", body) == (200, answer[:2])


def test_long_pairs_are_cut_unless_told_otherwise(ask: Ask, reranker: Reranker) -> None:
    """A pair is as long as its tokens and the special ones around them."""
    fits, long = "the bank " * 17 + "the", "the bank " * 18
    assert len(reranker.row(QUERY, fits)) == len(reranker.row(QUERY, long)) == reranker.max_tokens == 40
    for cut in ({}, {"truncate": True}, {"truncate": None}):
        assert ask("/rerank", {"query": QUERY, "texts": [long], **cut})[0] == 200
    for refused in ({"truncate": False}, {"truncation_direction": "left"}):
        assert ask("/rerank", {"query": QUERY, "texts": [fits], **refused})[0] == 200
        status, answer = ask("/rerank", {"query": QUERY, "texts": [fits, long], **refused})
        assert (status, answer["error_type"]) == (422, "Validation")
        assert answer["error"].startswith("texts[1] has 41 tokens together with the query; the model reads 40")


@pytest.mark.parametrize(
    ("body", "status", "kind", "message"),
    [
        ({"query": "x", "texts": []}, 400, "Empty", "texts is empty"),
        ({"query": "x", "texts": "x"}, 422, "Validation", "texts is 'x', expected a list"),
        ({"query": ["x"], "texts": ["x"]}, 422, "Validation", r"query is \['x'\], expected a string"),
        ({"texts": ["x"]}, 422, "Validation", "query is missing"),
        ({"query": "x", "texts": ["x"], "labels": 1}, 422, "Validation", "'labels' is unknown: known are query, .*"),
    ],
)
def test_what_cannot_be_ranked_is_named(ask: Ask, body: Any, status: int, kind: str, message: str) -> None:
    """As for vectors."""
    got, answer = ask("/rerank", body)
    assert (got, answer["error_type"]) == (status, kind)
    assert re.fullmatch(message, answer["error"])


def test_without_such_a_model(embedder: Embedder, reranker: Reranker) -> None:
    """424: this API says that the model is of another kind."""
    with running(Service({"minilm": embedder})) as service:
        status, answer = asking(service)("/rerank", {"query": "x", "texts": ["x"]})
        assert (status, answer["error_type"]) == (424, "Backend")
    with running(Service({}, {"judge": reranker})) as service:
        status, answer = asking(service)("/embed", {"inputs": "x"})
        assert (status, answer["error_type"]) == (424, "Backend")
        _, answer = asking(service)("/info")
        assert list(answer["model_type"]) == ["reranker"]


def test_several_numbers_for_a_pair(tmp_path: Path) -> None:
    """A model that gives them ranks nothing."""
    classifier = Reranker(reranker_bundle(tmp_path, labels=3), threads=1)
    with running(Service({}, {"classes": classifier})) as service:
        status, answer = asking(service)("/rerank", {"query": "x", "texts": ["x"]})
    assert (status, answer["error"]) == (422, "the model gives 3 numbers for a pair, not one")
