"""A session: what one user liked and searched, as a vector that fades, and searches that it moves.

Each document that is liked counts 1, each that is disliked -0.2, the vector of each search 0.2; after `half_life`
seconds half of that. The session's vector is the mean of them: their sum, divided by the sum of their weights without
signs, or by 1 where that is less, so that it fades away. A search looks for

    query + weight * session's vector, brought to length 1

so with the default weight, what three fresh likes do is what `search(query, like=[...])` does (search/feedback.py).
"""

import base64
import math
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge_embed_runtime.checks import unusable
from edge_embed_runtime.errors import BundleMismatchError, InputError
from edge_embed_runtime.index.connections import Connections
from edge_embed_runtime.index.embedders import Models, with_reranker
from edge_embed_runtime.search.feedback import LIKED, UNLIKED, check_dense, document_vectors
from edge_embed_runtime.search.query import RECALL, Mode, Wanted, check_examples
from edge_embed_runtime.storage.documents import MAX_KEY_CHARACTERS, Hits
from edge_embed_runtime.storage.store import Store
from edge_embed_runtime.vectors.types import Vectors

if TYPE_CHECKING:
    from edge_embed_runtime.embed.reranker import Reranker
    from edge_embed_runtime.storage.media import Kind, MediaKind

DAY = 86400.0
# A dislike weighs to a like as Rocchio's weights do; five searches weigh as much as one like.
DISLIKE, SEARCHED = -UNLIKED / LIKED, 0.2
MOST_WEIGHT = 100.0
# Keys that are remembered, the last ones: a search without a query leaves these documents out.
REMEMBERED = 100
# A vector that has faded to this length says nothing any more.
FADED = 1e-3
VERSION = 1


@dataclass
class _Taste:
    """The sum [dim] of weighted vectors, and of weights without signs, as they stood at a time; and the last keys."""

    total: Vectors
    mass: float = 0.0
    time: float = 0.0
    keys: dict[str, None] = field(default_factory=dict)

    def add(self, vectors: Iterable[NDArray[Any]], weight: float, now: float, half_life: float) -> None:
        part = self._left(now, half_life)
        total, mass = self.total * part, self.mass * part
        for vector in vectors:
            total = total + weight * vector
            mass += abs(weight)
        # as `Session.state` keeps it, so that a session that is restored is the same to the last digit
        self.total, self.mass, self.time = total.astype(np.float32), mass, max(now, self.time)

    def remember(self, keys: Iterable[str]) -> None:
        for key in keys:
            self.keys.pop(key, None)
            self.keys[key] = None
        for key in list(self.keys)[:-REMEMBERED]:
            del self.keys[key]

    def vector(self, now: float, half_life: float) -> Vectors | None:
        part = self._left(now, half_life)
        vector: Vectors = (self.total * part / max(1.0, self.mass * part)).astype(np.float32)
        return vector if float(np.linalg.norm(vector)) > FADED else None

    def _left(self, now: float, half_life: float) -> float:
        """What part is left; a clock that was set back counts as one that stands still."""
        return float(0.5 ** (max(0.0, now - self.time) / half_life))


class Session:
    """Made by `Index.session`. Threads may share one; several of one index know nothing of each other."""

    def __init__(
        self,
        connections: Connections,
        models: Models,
        half_life: float | None,
        weight: float | None,
        state: Mapping[str, Any] | None,
        clock: Callable[[], float] | None,
    ) -> None:
        self._connections, self._models = connections, models
        self._clock = clock or time.time
        self._lock = threading.Lock()
        with connections.reading() as store, store.snapshot():
            check_dense(store)
            self._space, self._named = (store.facts.fingerprint, store.dim), store.facts.bundle
        read = _State.empty(self._space) if state is None else _State.read(state)
        if read.space != self._space:
            raise BundleMismatchError(
                f"the session's state is of other vectors ({read.space[0][:8]}, dim {read.space[1]}) than "
                f"{connections.reader.path} holds ({self._named!r}, {self._space[0][:8]}, dim {self._space[1]}): begin "
                "a new session",
                path=connections.reader.path,
                bundle=self._named,
            )
        self._taste = read.taste
        self.half_life = _number(half_life, "half_life", read.half_life, math.ulp(0.0), 1e12)
        self.weight = _number(weight, "weight", read.weight, 0.0, MOST_WEIGHT)

    def __reduce__(self) -> NoReturn:
        raise InputError("a Session cannot be pickled or copied: keep its state(), and give it to Index.session")

    @property
    def vector(self) -> Vectors | None:
        """[dim], of length 1 at most: what the session stands for now. None before anything happened, and when all of
        it has faded away."""
        with self._lock:
            return self._taste.vector(self._now(), self.half_life)

    def search(
        self,
        query: str | None = None,
        k: int = 10,
        where: Mapping[str, Any] | None = None,
        mode: Mode | None = None,
        *,
        vector: ArrayLike | None = None,
        recall: float = RECALL,
        like: str | Iterable[str] = (),
        unlike: str | Iterable[str] = (),
        mmr: float | None = None,
        rerank: "Reranker | None" = None,
        rerank_depth: int | None = None,
        image: Any = None,
        audio: Any = None,
        kind: "Kind | None" = None,
        remember: bool = True,
    ) -> Hits:
        """`Index.search`, by a query that the session moves; without one, what fits the session alone, less the last
        100 documents that were liked or disliked. Modes "vector" and "hybrid".

        remember: whether the query becomes a part of the session; False where one is searched for while it is typed

        Raises what `Index.search` raises; InputError without a query where the session is empty or has faded away.
        """
        wanted = Wanted.checked(k, where, recall, like, unlike, mmr, kind)
        self._connections.check_process()
        with self._lock:
            own = self._taste.vector(self._now(), self.half_life)
            seen = tuple(self._taste.keys)
        if own is not None and self.weight:
            wanted = replace(wanted, shift=np.float32(self.weight) * own)
        media: dict[MediaKind, Any] = {"image": image, "audio": audio}
        if query is None and vector is None and image is None and audio is None:
            wanted = replace(wanted, without=seen)
        wanted, reranking = with_reranker(rerank, rerank_depth, query, wanted)
        asked, mode = self._models.query(self._connections.reader, query, mode, vector, wanted, media)
        if mode not in ("vector", "hybrid"):
            raise InputError(
                f"a session moves a dense vector, which mode {mode!r} does not compare; use 'vector' or 'hybrid'",
                option="mode",
            )
        with self._connections.reading() as store:
            self._check_space(store)
            hits = self._connections.search.search(asked, mode, wanted)
        if remember and asked.vector is not None:
            with self._lock:
                self._taste.add([asked.vector, *asked.others], SEARCHED, self._now(), self.half_life)
        return hits if reranking is None else reranking.order(hits)

    def liked(self, keys: str | Iterable[str]) -> None:
        """The user likes these documents. Raises InputError for keys that are not there and documents without
        vectors; the session is then as it was."""
        self._judged(check_examples(keys, "liked"), "liked", 1.0)

    def disliked(self, keys: str | Iterable[str]) -> None:
        """The user dislikes these documents. Raises as `liked`."""
        self._judged(check_examples(keys, "disliked"), "disliked", DISLIKE)

    def _judged(self, keys: tuple[str, ...], what: str, weight: float) -> None:
        with self._connections.reading() as store, store.snapshot():
            self._check_space(store)
            vectors = document_vectors(store, store.known_ids(keys, what))
        with self._lock:
            self._taste.add(vectors.values(), weight, self._now(), self.half_life)
            self._taste.remember(keys)

    def state(self) -> dict[str, Any]:
        """What `Index.session(state=...)` takes, for JSON: the vector, the last keys and the settings; about 2 KB for
        384 dimensions. It says what the user likes: keep it as such."""
        with self._lock:
            taste = self._taste
            return {
                "version": VERSION,
                "fingerprint": self._space[0],
                "dim": self._space[1],
                "half_life": self.half_life,
                "weight": self.weight,
                "time": taste.time,
                "mass": taste.mass,
                "total": base64.b64encode(taste.total.astype("<f4").tobytes()).decode("ascii"),
                "keys": list(taste.keys),
            }

    def _now(self) -> float:
        now = self._clock()
        if isinstance(now, bool) or not isinstance(now, int | float) or not math.isfinite(now):
            raise unusable("the session's clock", now, "a number of seconds")
        return float(now)

    def _check_space(self, store: Store) -> None:
        store.counters()  # the facts of what is committed now
        if (store.facts.fingerprint, store.dim) != self._space:
            raise BundleMismatchError(
                f"{store.path} was embedded again with the bundle {store.facts.bundle!r}: open it again, with that "
                "bundle, and begin a new session",
                path=store.path,
                bundle=store.facts.bundle,
            )


@dataclass(frozen=True)
class _State:
    """What `Session.state` says, checked."""

    space: tuple[str, int]
    half_life: float
    weight: float
    taste: _Taste

    @staticmethod
    def empty(space: tuple[str, int]) -> "_State":
        return _State(space, DAY, LIKED, _Taste(np.zeros(space[1], np.float32)))

    @staticmethod
    def read(state: object) -> "_State":
        """Raises InputError for what `Session.state` does not give."""
        try:
            return _State._read(state)
        except (KeyError, TypeError, ValueError, OverflowError):
            raise InputError("state is not what Session.state() gives, or of another release", option="state") from None

    @staticmethod
    def _read(state: Any) -> "_State":
        numbers = [float(state[name]) for name in ("half_life", "weight", "time", "mass")]
        half_life, weight, when, mass = numbers
        space = str(state["fingerprint"]), int(state["dim"])
        total = np.frombuffer(base64.b64decode(state["total"], validate=True), "<f4").astype(np.float32)
        keys = dict.fromkeys(state["keys"])
        good = (
            state["version"] == VERSION,
            isinstance(state["keys"], list) and len(keys) <= REMEMBERED,
            all(isinstance(key, str) and len(key) <= MAX_KEY_CHARACTERS for key in keys),
            np.isfinite([*numbers, *total]).all(),
            total.shape == (space[1],),
            float(np.linalg.norm(total)) <= 1.001 * mass + FADED,
        )
        if not all(good):
            raise ValueError
        return _State(space, half_life, weight, _Taste(total, mass, when, keys))


def _number(given: object, name: str, default: float, least: float, most: float) -> float:
    value = default if given is None else given
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise unusable(name, value, "a number over 0" if least else f"a number from 0 to {most:.0f}")
    return float(value)
