"""The API of text-embeddings-inference, as raw HTTP."""

import re
from typing import Any

import numpy as np
import pytest
from builders.asking import Ask

from edge_embed import Embedder

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
        ({"inputs": "x", "dimensions": 7}, 422, "Validation", "dimensions is 7, expected one of 384: .*"),
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
