from itertools import pairwise

import numpy as np
import pytest

from edge_embed import Embedder
from edge_embed_runtime.inputs import blocks
from edge_embed_runtime.inputs.tokenizer import Tokenizer
from edge_embed_runtime.inputs.words import Span
from edge_embed_runtime.passages.borders import OTHER, PARAGRAPH, border_kind
from edge_embed_runtime.passages.borders import SENTENCE as SENTENCE_BORDER
from edge_embed_runtime.passages.split import split

# A word that is cut at a border can have other tokens than it had whole.
MARGIN = 6

WORDS = ["the", "bank", "of", "a", "river", "unbelievable", "tokenization", "money", "is", "quiet"]


def words(count: int) -> str:
    return " ".join(np.random.default_rng(0).choice(WORDS, count))


LONG = {
    "words": words(2000),
    "lines": "\n\n" + words(900).replace("river", "river.\r\n\t") + "  \n",
    "punctuation": "Well -- (it's) 3.14, isn't it?! " * 100,
    "chinese": "我们在河边的银行存钱。" * 100,
    "accents and emoji": "naïve cafe\u0301 Ünïcödé 😀👩‍👩‍👧 ज्ञान\u200b " * 60,
    "control characters": "red \x01blue\x00\ufffd " * 400,
    "long word": words(300) + " " + "x" * 50_000 + " " + words(300),
    "long word of many tokens": "0!" * 20_000,
}


@pytest.fixture(scope="module")
def tokenizer(embedder: Embedder) -> Tokenizer:
    return embedder.tokenizer


def assert_covered(text: str, spans: list[Span], tokenizer: Tokenizer) -> None:
    """Every character that is part of a token is in a passage, and passages are in order."""
    said = np.zeros(len(text), bool)
    for start, end in spans:
        said[start:end] = True
    missed = [text[start:end] for start, end in tokenizer.offsets(text) if not said[start:end].all()]
    assert missed == []
    assert all(0 <= start < end <= len(text) for start, end in spans)
    assert spans == sorted(set(spans))


@pytest.mark.parametrize("name", LONG)
def test_passages_cover_every_token_and_fit_the_model(name: str, tokenizer: Tokenizer) -> None:
    """No part of a long text is left out, and each passage fits the model when it is tokenized alone."""
    text = LONG[name]
    spans = split(text, tokenizer)
    assert len(spans) > 1
    assert_covered(text, spans, tokenizer)
    assert max(len(tokenizer.offsets(text[a:b])) for a, b in spans) <= tokenizer.max_content + MARGIN


@pytest.mark.parametrize("reserved", [10, 200, 10_000])
def test_reserved_tokens_stay_free(reserved: int, tokenizer: Tokenizer) -> None:
    """Passages leave room for a prompt; a prompt longer than the model leaves passages of one token."""
    text = "river " * 600
    spans = split(text, tokenizer, reserved)
    sizes = [len(tokenizer.offsets(text[a:b])) for a, b in spans]
    assert max(sizes) == max(1, tokenizer.max_content - reserved)
    assert_covered(text, spans, tokenizer)


def test_neighbours_share_an_eighth(tokenizer: Tokenizer) -> None:
    """Each passage begins with the last eighth of the one before it."""
    text = "river " * 1000
    spans = split(text, tokenizer)
    shared = [len(tokenizer.offsets(text[start:end])) for (_, end), (start, _) in pairwise(spans)]
    assert set(shared) == {tokenizer.max_content // 8}


def test_no_passage_is_overlap_alone(tokenizer: Tokenizer) -> None:
    """A text that two passages hold exactly has no third one."""
    size = tokenizer.max_content
    assert len(split("river " * (2 * size - size // 8), tokenizer)) == 2
    assert len(split("river " * (2 * size - size // 8 + 1), tokenizer)) == 3


def test_a_text_within_the_limit_is_one_passage(tokenizer: Tokenizer) -> None:
    """The passage of a short text is all of it, white space included; one token more makes two passages."""
    full = "river " * tokenizer.max_content
    assert split(full, tokenizer) == [(0, len(full))]
    assert len(split(full + "bank", tokenizer)) == 2


@pytest.mark.parametrize(
    "text",
    ["", "river", " \n river bank\t ", "\x00\x01\x02" * 30_000, "x" * 8_000],
    ids=["empty", "word", "white space around", "control characters", "very long word"],
)
def test_a_text_of_few_tokens_is_one_passage(text: str, tokenizer: Tokenizer) -> None:
    """Tokens are counted, not characters: control characters are none, and a very long word is a few."""
    assert split(text, tokenizer) == [(0, len(text))]


@pytest.mark.parametrize("block", [64, 100, 1000])
@pytest.mark.parametrize("name", ["words", "chinese"])
def test_block_borders_change_nothing(
    block: int, name: str, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Text that is tokenized block by block has the same passages as in one go, with white space in it or without."""
    whole = split(LONG[name], tokenizer)
    monkeypatch.setattr(blocks, "BLOCK", block)
    assert split(LONG[name], tokenizer) == whole


def test_words_longer_than_a_block_are_covered(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A word without white space for several blocks is cut between characters, and none of it is lost."""
    monkeypatch.setattr(blocks, "BLOCK", 50)
    text = words(100) + " " + "abc123" * 500 + " " + words(100)
    spans = split(text, tokenizer)
    assert spans[0][0] == 0
    assert spans[-1][1] == len(text)
    assert all(start <= end for (_, end), (start, _) in pairwise(spans))


SENTENCE = "The river bank is quiet. "


def test_passages_end_and_begin_with_sentences(tokenizer: Tokenizer) -> None:
    """Each passage ends with a sentence, and the next begins with one that was said before; none is lost."""
    text = SENTENCE * 300
    spans = split(text, tokenizer)
    assert len(spans) > 3
    for start, end in spans:
        assert text[start:end].startswith("The river")
        assert text[start:end].endswith("quiet.")
    for (_, end), (start, _) in pairwise(spans):
        assert tokenizer.max_content // 8 <= len(tokenizer.offsets(text[start:end])) <= tokenizer.max_content // 4
    assert_covered(text, spans, tokenizer)


def test_a_paragraph_goes_before_a_sentence(tokenizer: Tokenizer) -> None:
    """Where a paragraph ends in the last quarter, the passage ends there, though sentences end behind it."""
    words_of_sentence = len(tokenizer.offsets(SENTENCE))
    most = tokenizer.max_content // words_of_sentence
    before = max(1, most - most // 8)
    text = SENTENCE * before + "\n\n" + SENTENCE * 100
    (_, end), *_ = split(text, tokenizer)
    assert end == len(text[: len(SENTENCE) * before].rstrip())


def test_a_heading_stays_with_its_text(tokenizer: Tokenizer) -> None:
    """No passage ends with a heading."""
    chapter = "\n\nChapter about the river\n\n" + SENTENCE * 2
    text = chapter * 60
    spans = split(text, tokenizer)
    assert len(spans) > 3
    assert not [text[start:end][-30:] for start, end in spans if text[start:end].endswith("river")]


@pytest.mark.parametrize("end", ["。", "!", "?", "…", "؟", "।", "."])
def test_sentences_of_many_scripts(end: str, tokenizer: Tokenizer) -> None:
    """What ends a sentence elsewhere ends a passage, too."""
    space = "" if end == "。" else " "
    text = f"River bank money{end}{space}" * 300
    assert all(text[start:stop].endswith(end) for start, stop in split(text, tokenizer))


@pytest.mark.parametrize(
    ("before", "after", "kind"),
    [
        ("It rained.", " We stayed.", SENTENCE_BORDER),
        ("It rained.", "  we stayed.", OTHER),
        ("About 3.", "14 rivers.", OTHER),
        ("He said: “It rained.”", " We stayed.", SENTENCE_BORDER),
        ("It rained", "\nWe stayed.", OTHER),
        ("It rained.", "\n \nwe stayed.", PARAGRAPH),
        ("## It rained", "\n\nWe stayed.", OTHER),
        ("Text.\n\nIt rained", "\n\nWe stayed.", OTHER),
        ("下雨了。", "我们没有走。", SENTENCE_BORDER),
        ("", "We stayed.", PARAGRAPH),
    ],
)
def test_what_begins_at_a_place(before: str, after: str, kind: int) -> None:
    """Points in numbers and before small letters end nothing; a heading is no end either. The kind is the same on both
    sides of the white space."""
    text = before + after
    spaces = len(after) - len(after.lstrip())
    assert {border_kind(text, len(before)), border_kind(text, len(before) + spaces)} == {kind}


def test_long_white_space_costs_little(tokenizer: Tokenizer) -> None:
    """A text that is mostly white space is cut in the time that its length takes."""
    text = ("river " + " " * 20_000 + "\n" * 20_000) * 12
    assert_covered(text, split(text, tokenizer), tokenizer)
