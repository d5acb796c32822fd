"""Where the words of a query lie in passages, as the table of words sees them: "sleeps" is a word of "sleeping"."""

import re
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing

from edge_embed_runtime.inputs.words import Span, folded, in_word, normal
from edge_embed_runtime.search.keywords import phrases, split_query
from edge_embed_runtime.storage.schema import WORDS
from edge_embed_runtime.storage.store import Store

# Passages of an index that is too small to tell common words from others.
FEW = 20
# English words that say little by themselves, however rare they are in an index.
SMALL = frozenset(
    re.findall(
        r"\w+",
        "a an and any are as at be but by can did do does for from had has have how i if in into is it its me my no "
        "not of on or our should so that the their them then there these they this to was we were what when where "
        "which who why will with would you your",
    )
)


def find_marks(store: Store, query: str, texts: Sequence[str]) -> list[list[Span]]:
    """Spans of the query's words, in order, for each text. Very common words are left out where there are others: a
    mark on each "the" says nothing."""
    facts = store.facts
    words = split_query(query, facts.normal)
    asked = phrases(words, facts.words)
    if words and not asked:  # too short for a table of trigrams
        return [_parts(text, [folded(word) for word in words]) for text in texts]
    telling = [phrase for phrase in asked if phrase[1:-1].lower() not in SMALL] if facts.words == "english" else []
    chosen = _weighty(*store.words.frequencies(telling or asked))
    if facts.words == "trigram":
        return [_parts(text, [folded(phrase[1:-1]) for phrase in chosen]) for text in texts]
    return _words(texts, chosen, facts.words, facts.normal)


def _weighty(frequencies: Sequence[tuple[int, str]], passages: int) -> list[str]:
    """Phrases that weigh something, as BM25 weighs them: those of less than half of the passages. All of them in a
    small index, and where none does."""
    everything = [phrase for _, phrase in frequencies]
    return [phrase for count, phrase in frequencies if 2 * count < passages or passages < FEW] or everything


def _words(texts: Sequence[str], asked: Sequence[str], kind: str, form: str) -> list[list[Span]]:
    """Words of the texts that a table of them alone finds by the phrases."""
    found = [[(span, normal(text[slice(*span)], form)) for span in _spans(text)] for text in texts]
    different = sorted({word for words in found for _, word in words})
    with closing(sqlite3.connect(":memory:")) as db:
        db.execute(f"CREATE VIRTUAL TABLE fts USING fts5(text, content='', tokenize='{WORDS[kind]}')")
        db.executemany("INSERT INTO fts (rowid, text) VALUES (?, ?)", enumerate(different))
        rows = db.execute("SELECT rowid FROM fts WHERE fts MATCH ?", (" OR ".join(asked),)) if asked else ()
        fitting = {different[row] for (row,) in rows}
    return [[span for span, word in words if word in fitting] for words in found]


def _spans(text: str) -> Iterator[Span]:
    """Words of a text: "I see." -> (0, 1), (2, 5)."""
    start = None
    for place, character in enumerate(text):
        if in_word(character):
            start = place if start is None else start
        elif start is not None:
            yield start, place
            start = None
    if start is not None:
        yield start, len(text)


def _parts(text: str, wanted: Sequence[str]) -> list[Span]:
    """Places of folded parts in a text; those that overlap or touch are one.

    "Concatenate", ["cat", "ate"] -> (3, 11)
    """
    letters, places = [], []
    for place, character in enumerate(text):
        for letter in folded(character):
            letters.append(letter)
            places.append(place)
    plain, spans = "".join(letters), list[Span]()
    for part in filter(None, wanted):
        place = plain.find(part)
        while place >= 0:
            spans.append((places[place], places[place + len(part) - 1] + 1))
            place = plain.find(part, place + 1)
    merged: list[Span] = []
    for start, stop in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(stop, merged[-1][1]))
        else:
            merged.append((start, stop))
    return merged
