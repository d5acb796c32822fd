"""marks.py: where words of a query lie in passages."""

from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path

import numpy as np
import pytest

from edge_embed import Document, Index

Marks = Callable[..., list[str]]


@pytest.fixture
def marked(tmp_path: Path) -> Marks:
    """The marked parts of a text, in an index of it and other texts."""

    numbers = count()

    def find(text: str, query: str, words: str = "english", others: Sequence[str] = ()) -> list[str]:
        texts = [text, *others]
        with Index.create(tmp_path / f"{next(numbers)}.db", space="given", dim=4, words=words) as index:
            documents = [Document(str(number), each) for number, each in enumerate(texts)]
            index.add_vectors(documents, np.ones((len(texts), 4)))
            (spans,) = index.marks(query, [text])
        assert spans == sorted(spans)
        return [text[start:end] for start, end in spans]

    return find


@pytest.mark.parametrize(
    ("text", "query", "expected"),
    [
        ("The cats were sleeping.", "cat sleeps", ["cats", "sleeping"]),
        ("concatenate", "cat", []),
        ("A Café in CAFE street", "café", ["Café", "CAFE"]),
        ("cafe\u0301", "café", ["cafe\u0301"]),
        ("The ﬁeld of ＡＢＣ", "field abc", ["ﬁeld", "ＡＢＣ"]),
        ("snake_case", "snake", ["snake"]),
        ("हिन्दी में लिखा", "हिन्दी", ["हिन्दी"]),
        ("القطة تنام", "القطة", ["القطة"]),
        ("自然语言 处理", "自然语言", ["自然语言"]),
        ("a 😀 cat 😀", "cat", ["cat"]),
        ("AND OR NOT", '"NOT" AND', ["AND", "NOT"]),
        ("words", "!?", []),
        ("words", "other", []),
    ],
)
def test_words(marked: Marks, text: str, query: str, expected: list[str]) -> None:
    """What mode "text" finds is marked, in the characters of the passage as it is stored."""
    assert marked(text, query) == expected


@pytest.mark.parametrize(
    ("text", "query", "expected"),
    [
        ("Concatenate", "cat", ["cat"]),
        ("我们学习自然语言处理。", "自然语言", ["自然语言"]),
        ("我们学习自然语言处理。", "语言", ["语言"]),
        ("The ﬁeld", "field", ["ﬁeld"]),
        ("İstanbul", "istanbul", []),
    ],
)
def test_trigrams(marked: Marks, text: str, query: str, expected: list[str]) -> None:
    """With three characters in a row, parts of words are marked."""
    assert marked(text, query, "trigram") == expected


def test_common_words_are_left_out_where_there_are_others(marked: Marks) -> None:
    """English words such as "the", and in any language words of half of the passages; alone, they are marked."""
    others = [f"a garden number {number}" for number in range(20)]
    assert marked("the ferry and the garden", "how is the ferry", others=others) == ["ferry"]
    assert marked("the ferry and the garden", "is the", others=others) == ["the", "the"]
    assert marked("the ferry and the garden", "garden ferry", others=others) == ["ferry"]
    assert marked("der Kahn im garden", "garden Kahn", "plain", others=others) == ["Kahn"]
    assert marked("der Kahn im garden", "garden boat", "plain", others=others) == ["garden"]


def test_marked_words_are_those_that_are_found(tmp_path: Path) -> None:
    """A passage has marks if and only if mode "text" finds it, whatever the words."""
    texts = ["Größe der Äpfel", "running runners ran", "e-mail at 9:30", "naïve façade", "日本語 テキスト", "x² + y²"]
    queries = ["grosse", "größe", "run", "runner", "mail", "9", "30", "naive", "facade", "日本語", "ﾃｷｽﾄ", "x2", "y"]
    with Index.create(tmp_path / "a.db", space="given", dim=4) as index:
        index.add_vectors([Document(text, text) for text in texts], np.ones((len(texts), 4)))
        for query in queries:
            found = {hit.key for hit in index.search(query, mode="text")}
            spans = index.marks(query, texts)
            assert {text for text, marks in zip(texts, spans, strict=True) if marks} == found, query
