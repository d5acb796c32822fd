"""Documents by the words of a question: BM25 of SQLite's full-text search (FTS5)."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import accumulate, islice
from math import log

from edge_embed_runtime.inputs.words import NORMAL, UNSPACED, in_word, normal
from edge_embed_runtime.search.query import PASSAGES_PER_HIT, SPARE, Question, Ranking, Retriever
from edge_embed_runtime.storage.store import Store

# A query longer than this is a document; its first words must do.
MAX_CHARACTERS = 8192
MAX_TERMS = 64

TRIGRAM = 3

# FTS5's BM25: a passage gets at most (K1 + 1) times the weight of each word that it holds, and never less than LEAST.
K1 = 1.2
LEAST = 1e-6
# What part of the weights of all words the last passage that is wanted is taken to reach, before one is known.
REACHED = 0.4


class Keywords(Retriever):
    """Finds passages that hold words of the question. Holds nothing in memory."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def cost(self, question: Question, passages: int) -> int:
        return question.ranked_bytes(passages)

    def rank(self, question: Question) -> Ranking:
        """Documents by BM25."""
        count, condition = question.depth + SPARE, question.condition
        self._store.counters()  # the facts of what is committed now
        facts = self._store.facts
        words = split_query(question.query.text or "", facts.normal)
        asked = phrases(words, facts.words)
        if words and not asked:
            return _documents(partial(self._store.words.holding, words, condition), count)
        frequencies, passages = self._store.words.frequencies(asked)
        if not frequencies:
            return {}
        ranked = Ranked(frequencies, passages)
        needed = ranked.needed()
        while True:
            expression, times = ranked.expression(needed)
            ranking = _documents(partial(self._store.words.match, expression, condition), count, times)
            if needed == len(frequencies):
                return ranking
            if len(ranking) < count:
                needed = min(2 * needed, len(frequencies))
                continue
            least = next(islice(ranking.values(), count - 1, None))[0]
            if ranked.needed(least) <= needed:
                return ranking
            needed = ranked.needed(least)


def _documents(find: Callable[[int], Iterable[tuple[int, int, float]]], count: int, times: int = 1) -> Ranking:
    """Passages (passage, document, score) as documents; `find(limit)` is asked for more until there are `count`.

    times: what scores are divided by
    """
    limit = PASSAGES_PER_HIT * count
    while True:
        ranking: Ranking = {}
        rows = 0
        for passage, doc, score in find(limit):
            rows += 1
            # words of a passage that was deleted while it was damaged lead nowhere
            if isinstance(passage, int) and isinstance(doc, int) and doc not in ranking:
                ranking[doc] = (score / times, passage)
        if len(ranking) >= count or rows < limit:
            return ranking
        limit *= 4


def split_query(query: str, form: str = NORMAL) -> list[str]:
    """Its words, each once: 'Is "this" a test? Is it' -> ['Is', 'this', 'a', 'test', 'it'].

    form: of the table of words; the words of one without are asked for in NFC, which most texts are in

    Case and accents are left to FTS5, which treats queries as it treated the documents.
    """
    text = normal(query[:MAX_CHARACTERS], form or "NFC")
    return _each_once("".join(character if in_word(character) else " " for character in text).split())


def phrases(words: Sequence[str], kind: str) -> list[str]:
    """Words as FTS5 looks them up, in quotes, so that nothing typed by a user is an operator: ['is'] -> ['"is"'].

    kind: a key of schema.WORDS. With "trigram" a word of a script with spaces is found within other words too; in
    others, any three characters in a row: ['自然语言'] -> ['"自然语"', '"然语言"']. Shorter words give no phrase.
    """
    if kind == "trigram":
        words = _each_once(part for word in words for part in _trigrams(word))
    return [f'"{word}"' for word in words[:MAX_TERMS]]


def _trigrams(word: str) -> list[str]:
    if UNSPACED.search(word):
        return [word[i : i + TRIGRAM] for i in range(len(word) - TRIGRAM + 1)]
    return [word] if len(word) >= TRIGRAM else []


def _each_once(words: Iterable[str]) -> list[str]:
    first: dict[str, str] = {}
    for word in words:
        first.setdefault(word.lower(), word)
    return list(first.values())


class Ranked:
    """The phrases of a query, the rarest first, and which of them a passage must hold to be among the best.

    Ranking takes about a microsecond for each passage that holds a word of the query, and most hold one such as "the".
    A passage without the rare words scores less than all the other words can give (MaxScore: Turtle and Flood, 1995):
    where enough passages with a rare word score more than that, the others need no ranking.
    """

    def __init__(self, found: Sequence[tuple[int, str]], passages: int) -> None:
        """found: phrases with the number of passages that hold them; passages: number of all"""
        ordered = sorted(found, key=lambda entry: entry[0])
        passages = max(passages, ordered[-1][0])  # where tables are damaged they may not fit each other
        self.phrases = [phrase for _, phrase in ordered]
        self._weights = [max(LEAST, log((passages - n + 0.5) / (n + 0.5))) for n, _ in ordered]
        # _rest[i]: a passage without the first i phrases scores less
        self._rest = [*accumulate(reversed(self._weights), lambda rest, w: rest + (K1 + 1) * w, initial=0.0)][::-1]

    def needed(self, score: float | None = None) -> int:
        """The number of the rarest phrases without which a passage has less than this score."""
        reached = REACHED * sum(self._weights) if score is None else score
        return max(1, next(i for i, rest in enumerate(self._rest) if rest <= reached))

    def expression(self, needed: int) -> tuple[str, int]:
        """FTS5 query for passages with one of the first `needed` phrases, ranked by all, and what to divide scores by.

        ['"a"', '"b"', '"c"'], 1 -> ('("a") AND ("a" OR "b" OR "c" OR "b" OR "c")', 2): each phrase counts twice
        """
        must = self.phrases[:needed]
        # a word of more than half of the passages weighs nothing
        others = [p for p, w in zip(self.phrases[needed:], self._weights[needed:], strict=True) if w > LEAST]
        if not others:
            return " OR ".join(must), 1
        return f"({' OR '.join(must)}) AND ({' OR '.join(must + others + others)})", 2
