"""What an index is asked: documents by key, hits, and what it holds. `Index` adds what writes."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Self, get_args

from numpy.typing import ArrayLike

from edge_embed_runtime.checks import check_text
from edge_embed_runtime.errors import InputError
from edge_embed_runtime.index.connections import Connections
from edge_embed_runtime.index.embedders import Models, with_reranker
from edge_embed_runtime.search.query import RECALL, Mode, Wanted
from edge_embed_runtime.storage.documents import Document, Hits, check_documents, check_key

if TYPE_CHECKING:  # imported where they are used: most processes search, and are smaller without them
    from edge_embed_runtime.embed.reranker import Reranker
    from edge_embed_runtime.index.collection import Collection
    from edge_embed_runtime.index.session import Session
    from edge_embed_runtime.inputs.words import Span
    from edge_embed_runtime.maintenance.backup import Backup
    from edge_embed_runtime.maintenance.verify import Report
    from edge_embed_runtime.storage.fields import Value, ValueCount
    from edge_embed_runtime.storage.fieldsummary import FieldSummary
    from edge_embed_runtime.storage.media import Kind, MediaKind
    from edge_embed_runtime.storage.pages import Order
    from edge_embed_runtime.system.headroom import Bounds
    from edge_embed_runtime.vectors.types import Vectors

KEYS_AT_ONCE = 1024


class IndexReader:
    """The methods of `Index` that change nothing."""

    def __init__(self, connections: Connections, models: Models) -> None:
        self._connections = connections
        self._models = models
        self._store, self._search = connections.reader, connections.search

    @property
    def path(self) -> Path:
        return self._store.path

    def close(self) -> None:
        """Let go of the file. What was added is on disk already."""
        self._connections.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> NoReturn:
        raise InputError(
            f"an Index cannot be pickled or copied: give the other process the path, and open {self.path} there "
            "(read_only=True where one writes already)"
        )

    @property
    def bounds(self) -> "Bounds | None":
        """What of files can be read and stored under `max_rss_mb`, None without. Raises MemoryBudgetError."""
        room = self._connections.room
        return None if room is None else room.bounds()

    def __len__(self) -> int:
        """Number of documents."""
        with self._connections.reading() as store:
            return store.counts()[0]

    def __contains__(self, key: object) -> bool:
        with self._connections.reading() as store:
            return isinstance(key, str) and bool(store.existing([key]))

    def get(self, key: str) -> Document | None:
        """The document under a key, or None."""
        check_key(key)
        with self._connections.reading() as store, store.snapshot():
            found = store.document(key)
            return store.with_places([found])[0] if found else None

    def get_many(self, keys: str | Iterable[str]) -> list[Document | None]:
        """The documents under keys, in their order; None for one that is not there.

        Raises IndexDamagedError where one is damaged, MemoryBudgetError where all of them take too much.
        """
        return self._collection.get_many(keys)

    def __iter__(self) -> Iterator[Document]:
        """Every document, in the order of the keys: see `find`."""
        return self.find()

    def find(
        self,
        where: Mapping[str, Any] | None = None,
        *,
        limit: int | None = None,
        offset: int = 0,
        order: "Order" = "key",
    ) -> Iterator[Document]:
        """Documents that fit a condition. Needs no embedder.

        where:  as for `search`; None for all documents
        limit:  the most documents to give, None for all that fit
        offset: how many to pass over first
        order:  "key", by code point; or "stored", as they came: one that is replaced comes last

        They are read some hundred at a time, so that any number fits in memory, and other threads and processes may
        write in between: a document that stays is given once, one that is written meanwhile may be or not. Damaged
        ones are left out, and `damaged` then says so. Raises what `search` raises for a `where`, in the call itself.
        """
        return self._collection.find(where, limit, offset, order)

    def count(self, where: Mapping[str, Any] | None = None) -> int:
        """The number of documents that fit a condition, all without one; damaged ones count too."""
        return self._collection.count(where)

    def vectors(self, keys: str | Iterable[str]) -> dict[str, "Vectors"]:
        """The vectors of documents by key, float32 [passages, dim] each, of length 1, in the order of the text.

        That of a picture or sound comes first, before those of its caption. They are what the stored int8 codes stand
        for: near the embedder's, not equal (a cosine of about 0.9999). A document without a vector has an array
        [0, dim]. Unknown keys are left out. Raises InputError for an index without dense vectors, IndexDamagedError
        where one is damaged.
        """
        return self._collection.vectors(keys)

    def field_values(
        self, field: str, where: Mapping[str, Any] | None = None, *, limit: int = 100
    ) -> list["ValueCount"]:
        """The values of a metadata field, each with the number of documents that have it: those that most have first.

        where: counts only documents that fit
        limit: the most values to give

        What stands in a list counts like a value of its own, once a document, as `$contains` finds it; objects and
        lists in lists are left out. 1 and 1.0 are one value; 1, True and "1" are three. Raises FilterError for a field
        that no document has. Without `where`, a field that was declared when the index was made is read from its index.
        """
        return self._collection.field_values(field, where, limit)

    def field_range(self, field: str, where: Mapping[str, Any] | None = None) -> tuple["Value", "Value"] | None:
        """The least and the greatest number that a metadata field has; where it has none, text, by code point; None
        where it has neither. Otherwise as `field_values`."""
        return self._collection.field_range(field, where)

    def keys(self, prefix: str = "", after: str = "") -> Iterator[str]:
        """Keys of the documents in order: those that begin with `prefix` and come behind `after`; what is written
        at the same time may be among them."""
        check_text(prefix, "prefix")
        last = check_text(after, "after")
        while True:  # other threads may read and write in between
            with self._connections.reading() as store:
                block = store.keys(prefix, last, KEYS_AT_ONCE)
            yield from block
            if len(block) < KEYS_AT_ONCE:
                return
            last = block[-1]

    def unchanged(self, documents: Iterable[Document]) -> set[str]:
        """Keys of the documents that are stored as they are: `upsert` would pass over them. Needs no embedder."""
        records = check_documents(documents, blank=True)
        with self._connections.reading() as store:
            if any(record.media is not None for record in records):
                from edge_embed_runtime.index.mediaentries import placed

                records = placed(store, records)
            return store.unchanged(records)

    def known_media(self, hashes: Iterable[bytes]) -> set[bytes]:
        """Those of some hashes (sha256, 32 bytes) that pictures or sounds of the index have: they are not embedded
        again, whatever their names are."""
        with self._connections.reading() as store, store.snapshot():
            return set() if store.media is None else store.media.hashes(hashes)

    def thumbnail(self, key: str) -> bytes | None:
        """The small picture of a document (WebP); None where none was stored. Raises IndexDamagedError."""
        from edge_embed_runtime.index.thumbnails import thumbnail_of

        check_key(key)
        with self._connections.reading() as store, store.snapshot():
            return thumbnail_of(store, key)

    def origins(self, keys: Iterable[str]) -> dict[str, str | None]:
        """The files that documents come from, by key; None for one that names none. Unknown keys are left out."""
        from edge_embed_runtime.storage.root import origins

        with self._connections.reading() as store:
            return origins(store, keys)

    def stats(self) -> dict[str, Any]:
        """Documents, passages, dim, bytes on disk, the bundle's name and fingerprint, generation (commits so far);
        graph: whether searches use one and what `rebuild` measured, None where it measured none; kinds: documents that
        are texts, pictures and sounds, where there were any but texts."""
        from edge_embed_runtime.index.stats import stats

        with self._connections.reading() as store:
            return stats(store, self._search.dense.graph)

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
    ) -> Hits:
        """The k documents that fit a query best, each with its best passage, best first.

        where:  conditions on metadata that a document must fit, such as {"lang": "en"} or {"year": {"$gte": 2000}};
                help(edge_embed_runtime.storage.filters) lists them
        mode:   "vector" compares meanings, "text" words (BM25), "sparse" weights of tokens, "multi" vectors of tokens
                (MaxSim); "hybrid" fuses the rankings of the first three that the index was opened for; None is
                "hybrid" where there is a text, else "vector"
        vector: [dim], of any length but 0, in place of the one that the embedder would make of the query
        recall: part of the k nearest by int8 codes that is to be found, on average; more takes longer, and 1.0 compares
                with every passage: 0.3 s for 100,000
        like:   keys of documents that hits are to be near to, with a query or without; unlike: far from. Modes
                "vector" and "hybrid"; these documents are no hits. What they weigh: edge_embed_runtime.search.feedback
        mmr:    diversity, by maximal marginal relevance: 1 is the order of the scores, 0 takes documents as different
                from those before them as can be, whatever they say (edge_embed_runtime.search.diversity)
        rerank: scores the best passages of the first `rerank_depth` documents again (50, or k where that is more), and
                the k best by its scores are the hits, with these scores. Not with mmr; of documents with pictures and
                sounds the texts alone count
        image:  a picture to look for, as Document takes it, alone or with a query: then both count alike
        audio:  likewise a sound
        kind:   compare with "text" (passages, captions of pictures and sounds included), "image" or "audio" alone. None
                compares with all; where an index has several, each is ranked by itself, a document counts by its best
                rank, and scores are 1 / (60 + rank) (edge_embed_runtime.search.kinds)

        Where there are fewer than k, `shortfall` of the result says why. Raises InputError for an empty query or a k
        under 1, FilterError for a field that no document has and for what is no condition.
        """
        wanted = Wanted.checked(k, where, recall, like, unlike, mmr, kind)
        self._connections.check_process()
        wanted, reranking = with_reranker(rerank, rerank_depth, query, wanted)
        media: dict[MediaKind, Any] = {"image": image, "audio": audio}
        if isinstance(vector, Sized) and getattr(vector, "ndim", 1) != 0 and len(vector) != self._store.dim:
            with self._connections.reading() as store:
                store.counters()  # another object may have called `set_dim`
        asked, mode = self._models.query(self._store, query, mode, vector, wanted, media)
        with self._connections.reading():
            hits = self._search.search(asked, mode, wanted)
        return hits if reranking is None else reranking.order(hits)

    def session(
        self,
        *,
        half_life: float | None = None,
        weight: float | None = None,
        state: Mapping[str, Any] | None = None,
        clock: Callable[[], float] | None = None,
    ) -> "Session":
        """Begin a session: searches that know what one user liked and searched before. It is kept in memory alone.

        half_life: seconds after which half of what happened is left; None is a day
        weight:    of the session's vector against the query's, 1; None is 0.75, 0 leaves queries as they are
        state:     of an earlier session, from `Session.state`; half_life and weight are its own, unless they are given
        clock:     gives the time in seconds; None for the time of day

        Raises InputError for an index without dense vectors and for what is no state, BundleMismatchError for a state
        of other vectors.
        """
        from edge_embed_runtime.index.session import Session

        return Session(self._connections, self._models, half_life, weight, state, clock)

    @property
    def modes(self) -> "list[Mode]":
        """The modes of `search` that a text can be asked in, the default first."""
        facts, every = self._store.facts, get_args(Mode)
        return [mode for mode in every if mode == "text" or self._models.cannot(mode, facts) is None]

    @property
    def modalities(self) -> tuple[str, ...]:
        """What the embedder that it was opened with can embed: "text", "image", "audio"; none of them without one."""
        return self._models.modalities

    @property
    def takes_texts(self) -> bool:
        """Whether it was opened with all embedders that adding texts needs."""
        facts = self._store.facts
        return not facts.space and self._models.missing(facts) is None and "text" in self._models.modalities

    def marks(self, query: str, texts: Sequence[str]) -> "list[list[Span]]":
        """Where words of a query lie in each of some passages, in characters: what mode "text" compares. Very
        common words are left out where the query has others."""
        from edge_embed_runtime.search.marks import find_marks

        with self._connections.reading() as store:
            return find_marks(store, check_text(query, "the query"), texts)

    def fields(self) -> "list[FieldSummary]":
        """The fields of the documents' metadata, with their commonest values: those of most documents first.

        All metadata is read, some documents at a time, so that other threads may search and write in between: about
        15 µs for each document.
        """
        from edge_embed_runtime.storage.fieldsummary import Summing

        summing = Summing()
        while not summing.ended:
            with self._connections.reading() as store:
                summing.read(store)
        return summing.fields()

    @property
    def damaged(self) -> list[int]:
        """Ids of passages that searches found damaged, or whose documents are; they are never returned."""
        return sorted(self._search.damaged)

    def verify(self, *, show_progress: bool = False) -> "Report":
        """Read everything and say what is wrong; neither searches nor another process that writes are held up.

        Without an embedder: `edge_embed.verify_index(path)`.
        """
        from edge_embed_runtime.maintenance.verify import verify_index

        with self._connections.reading() as store:
            path = store.path
        return verify_index(path, show_progress=show_progress)

    def backup(
        self,
        path: str | os.PathLike[str],
        *,
        compact: bool = False,
        overwrite: bool = False,
        show_progress: bool = False,
    ) -> "Backup":
        """Copy the index as it is now to another file, which is there whole and durable when this returns; neither
        searches nor another process that writes are held up.

        compact:   leave out the space of deleted documents
        overwrite: replace a file that is there

        Without an embedder: `edge_embed_runtime.maintenance.backup.backup_index(path, out)`.
        Raises InputError where the file is there, StorageError when the disk is too full or fails; nothing is
        changed then.
        """
        from edge_embed_runtime.maintenance.backup import backup_index

        with self._connections.reading() as store:
            source = store.path
        return backup_index(source, path, compact=compact, overwrite=overwrite, show_progress=show_progress)

    @property
    def _collection(self) -> "Collection":
        from edge_embed_runtime.index.collection import Collection

        return Collection(self._connections)
