"""Documents by the words of a question: BM25 of SQLite's full-text search (FTS5)."""

from collections.abc import Callable, Iterable
from functools import partial
from itertools import islice

from edge_embed_runtime.search.query import PASSAGES_PER_HIT, SPARE, Question, Ranking, Retriever
from edge_embed_runtime.storage.store import Store
from edge_embed_runtime.storage.textquery import Ranked, phrases, split_query


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
            return _documents(partial(self._store.holding, words, condition), count)
        frequencies, passages = self._store.frequencies(asked)
        if not frequencies:
            return {}
        ranked = Ranked(frequencies, passages)
        needed = ranked.needed()
        while True:
            expression, times = ranked.expression(needed)
            ranking = _documents(partial(self._store.match, expression, condition), count, times)
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
