"""pairs.py: two texts as one row of tokens."""

import json
from typing import Any

import numpy as np
import pytest
import tokenizers
from builders.bert import word_tokenizer

from edge_embed.errors import BundleFormatError
from edge_embed_runtime.inputs.pairs import PairTokenizer, longest_first
from edge_embed_runtime.inputs.tokenizer import Tokenizer, sanitize


def made(limit: int, **parts: Any) -> PairTokenizer:
    return PairTokenizer(Tokenizer(sanitize({**word_tokenizer(), **parts}), limit))


def library(limit: int) -> tokenizers.Tokenizer:
    own = tokenizers.Tokenizer.from_str(json.dumps({**word_tokenizer(), "padding": None, "truncation": None}))
    own.enable_truncation(limit, strategy="longest_first")
    return own


def test_longest_first_is_what_the_library_does() -> None:
    """For every two lengths and every room."""
    own = tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0, "?": 1}, unk_token="?"))  # noqa: S106 - a token of text
    own.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    for room in range(2, 12):
        own.enable_truncation(room, strategy="longest_first")
        for first in range(10):
            for second in range(10):
                sides = own.encode("a " * first, "a " * second).sequence_ids
                assert longest_first(first, second, room) == (sides.count(0), sides.count(1))


@pytest.mark.parametrize("limit", [7, 8, 9, 24])
def test_rows_are_those_of_the_library(limit: int) -> None:
    """Ids and types, of texts that fit and of such that do not."""
    texts = [
        "",
        "the cat",
        "a river",
        "the dog is in the garden at night",
        "the river bank and the house",
        "money " * 99,
    ]
    pairs, own = made(limit), library(limit)
    for first in texts:
        for second in texts:
            row, expected = pairs.row(first, second), own.encode(first, second)
            assert row.tolist() == np.array([expected.ids, expected.type_ids]).T.tolist(), (first, second)


def test_of_two_texts_that_are_too_long_the_longer_one_keeps_more() -> None:
    """Of an odd number of places: which one is longer is counted in whole."""
    pairs, own = made(8), library(8)
    for first, second in [("the " * 30, "cat " * 20), ("the " * 20, "cat " * 30), ("the " * 20, "cat " * 20)]:
        assert pairs.row(first, second)[:, 0].tolist() == own.encode(first, second).ids


def test_special_tokens_that_are_typed_are_text() -> None:
    row = made(24).row("the [SEP] cat", "a dog [CLS]")
    assert (row[:, 0] == 3).sum() == 2
    assert (row[:, 0] == 2).sum() == 1


TEXT_A, TEXT_B = {"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}
SEP = {"SpecialToken": {"id": "[SEP]", "type_id": 0}}


@pytest.mark.parametrize("pair", [[TEXT_A, TEXT_B, SEP], [TEXT_B, SEP, TEXT_A], [SEP, TEXT_A, SEP]])
def test_templates_that_are_no_pairs_are_refused(pair: list[Any]) -> None:
    template = {**word_tokenizer()["post_processor"], "pair": pair}
    with pytest.raises(BundleFormatError, match=r"template|between"):
        made(24, post_processor=template)


def test_a_limit_without_room_is_refused() -> None:
    with pytest.raises(BundleFormatError, match="no room for two texts"):
        made(4)


def test_huge_texts_are_cut() -> None:
    assert len(made(24).row("the cat " * 10**6, "a " * 10**6)) == 24
