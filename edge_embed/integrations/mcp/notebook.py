"""An index as programs with a language model use it: each call opens the file, and lets others write in between.

numpy and what needs it is imported by the first call: a client waits for the server's first answer.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from edge_embed.integrations.mcp.fitting import Fitting
from edge_embed.integrations.mcp.limits import Limits
from edge_embed_runtime.checks import check_path, listed, shown
from edge_embed_runtime.errors import (
    BundleMismatchError,
    DuplicateKeyError,
    IndexFileError,
    IndexLockedError,
    IndexReadOnlyError,
    InputError,
)
from edge_embed_runtime.storage.documents import Document, Hit

if TYPE_CHECKING:
    from edge_embed_runtime.index.index import Index

# Characters of each document that are listed.
BEGINNING = 200
# Fields of metadata that are listed, their commonest values, and characters of one.
FIELDS, VALUES, SHOWN = 50, 5, 60
# How often a call that only reads begins again because the file changed below it.
TRIES = 5
EMPTY = "there are no documents yet"

Found = TypeVar("Found")


class Notebook:
    """The documents of one index file.

    models: makes the embedders, as arguments of `Index.open`; called by the first call that needs them, and again where
            the index has become one of another bundle. It takes the path, since an index that is there says which
            bundle its vectors come from
    """

    def __init__(
        self,
        path: str | Path,
        models: Callable[[Path], dict[str, Any]],
        *,
        limits: Limits | None = None,
        read_only: bool = False,
        max_rss_mb: float | None = None,
    ) -> None:
        """Raises IndexFileError where there is no index, and none can be made."""
        self.path = check_path(path, "INDEX")
        self.limits, self.read_only = limits or Limits(), read_only
        self._make_models, self._max_rss_mb = models, max_rss_mb
        self._loading = threading.Lock()
        self._models: dict[str, Any] | None = None
        self._seen = self.path.exists()
        if read_only and not self._seen:
            raise IndexFileError(
                f"{self.path} does not exist; without --read-only the first document makes it",
                path=self.path, code="index_missing",
            )  # fmt: skip
        if not self.path.parent.is_dir():
            raise IndexFileError(f"{self.path}: the folder {self.path.parent} does not exist", path=self.path)
        if self.path.is_dir():
            raise IndexFileError(f"{self.path} is a folder; an index is a file", path=self.path)

    def search(self, query: str, k: int, where: Mapping[str, Any] | None, mode: Any) -> dict[str, Any]:
        """The best passages, and why there are fewer than k."""
        given = self._reading(lambda index: self._search(index, query, k, where, mode), embeds=mode != "text")
        return {"hits": [], "note": EMPTY} if given is None else given

    def _search(self, index: "Index", query: str, k: int, where: Mapping[str, Any] | None, mode: Any) -> dict[str, Any]:
        if mode is None and "hybrid" not in index.modes:
            mode = "text"  # an index of given vectors, or one whose bundle embeds no texts
        found = index.search(query, k, where, mode)
        fitting, hits = Fitting(self.limits.characters, self.limits.field), []
        for hit in found:
            whole = fitting.document(hit.key, hit.text, hit.metadata, begins=BEGINNING)
            if whole is not None:
                hits.append(_hit(hit, whole))
        notes = [found.shortfall, fitting.note(), _damage(index)]
        return {"hits": hits, **_noted(notes)}

    def read(self, key: str, start: int, characters: int) -> dict[str, Any]:
        """A part of one document. Raises InputError where there is none of this key."""
        found = self._reading(lambda index: index.get(key))
        if found is None:
            raise InputError(f"there is no document {shown(key, 200)}: see list and search", code="key_not_found")
        about = Fitting(self.limits.metadata, self.limits.metadata).document("", "", found.metadata, begins=0) or {}
        start = min(start, len(found.text))
        text = found.text[start : start + characters]
        end = start + len(text)
        more = {"next": end} if end < len(found.text) else {}
        return {
            "key": found.key, "start": start, "end": end, "characters": len(found.text),
            "kind": kind_of(found), **more, **_source(found), **about, "text": text,
        }  # fmt: skip

    def find(self, where: Mapping[str, Any] | None, limit: int, offset: int, fields: bool) -> dict[str, Any]:
        """Documents in the order of their keys, and how many fit."""
        given = self._reading(lambda index: self._find(index, where, limit, offset, fields))
        return {"documents": [], "total": 0, "note": EMPTY} if given is None else given

    def _find(
        self, index: "Index", where: Mapping[str, Any] | None, limit: int, offset: int, fields: bool
    ) -> dict[str, Any]:
        fitting, documents = Fitting(self.limits.characters, self.limits.field), []
        for found in index.find(where, limit=limit, offset=offset):
            whole = fitting.document(found.key, found.text[:BEGINNING], found.metadata, begins=BEGINNING)
            if whole is not None:
                beginning = whole.pop("text")
                documents.append({
                    "key": found.key, "beginning": beginning, "characters": len(found.text), "kind": kind_of(found),
                    **whole,
                })  # fmt: skip
        total, reached = index.count(where), offset + len(documents)
        more = {"next": reached} if documents and reached < total else {}
        about = {"fields": [_field(one) for one in index.fields()[:FIELDS]]} if fields else {}
        notes = [fitting.note(), _damage(index)]
        return {"documents": documents, "total": total, **more, **about, **_noted(notes)}

    def add(self, documents: Sequence[Mapping[str, Any]], replace: bool) -> dict[str, Any]:
        """Store documents, all of them or none; those that are there just so are left alone. Raises DuplicateKeyError
        where another one has a key, and is not to be replaced."""
        given = [Document(one["key"], one["text"], one["metadata"]) for one in documents]
        with self._writing(embeds=True) as index:
            stored = index.upsert(given) if replace else _add_new(index, given)
            return {"stored": stored, "unchanged": len(given) - stored, "documents": len(index)}

    def forget(self, keys: Sequence[str]) -> dict[str, Any]:
        """Delete documents by key."""
        asked = list(dict.fromkeys(keys))
        if not self._exists():
            return {"forgotten": 0, "unknown": asked, "documents": 0, "note": EMPTY}
        with self._writing(embeds=False) as index:
            unknown = [key for key in asked if key not in index]
            return {"forgotten": index.delete(asked), "unknown": unknown, "documents": len(index)}

    def page(self, after: str) -> tuple[list[Document], bool]:
        """Documents whose keys come behind `after`, in their order, and whether there are more."""

        def look(index: "Index") -> tuple[list[Document], bool]:
            where = {"$key": {"$gt": after}} if after else None
            found = list(islice(index.find(where, limit=self.limits.resources + 1), self.limits.resources + 1))
            return found[: self.limits.resources], len(found) > self.limits.resources

        return self._reading(look) or ([], False)

    def document(self, key: str) -> tuple[Document, bytes | None] | None:
        """The document of a key, and the small copy of its picture where one is stored; None for neither."""

        def look(index: "Index") -> tuple[Document, bytes | None] | None:
            found = index.get(key)
            return None if found is None else (found, index.thumbnail(key) if found.image is not None else None)

        return self._reading(look)

    def keys(self, prefix: str, most: int) -> list[str]:
        """The first keys that begin so."""
        return self._reading(lambda index: list(islice(index.keys(prefix), most))) or []

    def _reading(self, look: Callable[["Index"], Found], *, embeds: bool = False) -> Found | None:
        """What `look` finds; None where no index was made yet. Begins again where the file changes meanwhile."""
        if not self._exists():
            return None
        for left in reversed(range(TRIES)):
            try:
                with self._open(embeds=embeds, read_only=True) as index:
                    return look(index)
            except IndexLockedError as error:
                if error.code != "index_busy" or not left:
                    raise
        return None

    @contextmanager
    def _writing(self, *, embeds: bool) -> Iterator["Index"]:
        """The index, which others write to in turns; made where there was none, unless it was there before."""
        if self.read_only:
            raise IndexReadOnlyError(f"{self.path} is served with --read-only", path=self.path)
        self._exists()
        with self._open(embeds=embeds, shared=True, timeout=self.limits.seconds) as index:
            self._seen = True
            yield index

    def _open(self, *, embeds: bool, **options: Any) -> "Index":
        from edge_embed_runtime.index.index import Index

        options["max_rss_mb"] = self._max_rss_mb
        if not embeds:
            return Index.open(self.path, **options)
        try:
            return Index.open(self.path, **self._embedders(), **options)
        except BundleMismatchError:  # another index may have been put in the place of that whose models are loaded
            self._models = None
            return Index.open(self.path, **self._embedders(), **options)

    def _exists(self) -> bool:
        """Whether there is an index. Raises IndexFileError where there was one before."""
        there = self.path.exists()
        if self._seen and not there:
            raise IndexFileError(
                f"{self.path} was moved or deleted: put it back, or start the server again",
                path=self.path, code="index_missing",
            )  # fmt: skip
        self._seen = there
        return there

    def _embedders(self) -> dict[str, Any]:
        with self._loading:
            if self._models is None:
                self._models = self._make_models(self.path)
            return self._models


def _add_new(index: "Index", documents: Sequence[Document]) -> int:
    """Store those that are not there just so. Returns their number. Raises DuplicateKeyError where another document has
    the key of one."""
    known = index.unchanged(documents)
    try:
        return index.add([one for one in documents if one.key not in known])
    except DuplicateKeyError as error:
        raise DuplicateKeyError(
            f"there are other documents with the keys {listed(error.keys, 5, quoted=True)}; nothing was stored. Read "
            "them first; replace=true stores these in their place",
            path=error.path, keys=error.keys,
        ) from None  # fmt: skip


def kind_of(document: Document) -> str:
    return next((name for name in ("image", "audio") if getattr(document, name) is not None), "text")


def _source(document: Document) -> dict[str, str]:
    """The name of the file of a picture or sound: not where it lies on this machine."""
    media = document.image if document.audio is None else document.audio
    source = getattr(media, "source", "")
    return {"source": Path(source).name} if source else {}


def _hit(hit: Hit, whole: Mapping[str, Any]) -> dict[str, Any]:
    place = {} if hit.place is None else {"place": hit.place}
    source = {"source": Path(hit.source).name} if hit.source else {}
    found = {"key": hit.key, "score": round(hit.score, 4), "start": hit.start, "end": hit.end, "kind": hit.kind}
    return {**found, **place, **source, **whole}


def _field(found: Any) -> dict[str, Any]:
    values = [value[:SHOWN] if isinstance(value, str) else value for value, _ in found.values[:VALUES]]
    return {"name": found.name[:SHOWN], "documents": found.documents, "values": values}


def _damage(index: "Index") -> str | None:
    return f"{len(index.damaged)} damaged passages were left out: edge-embed verify" if index.damaged else None


def _noted(notes: Sequence[str | None]) -> dict[str, str]:
    """{"note": ...} of those that say something."""
    said = "; ".join(note for note in notes if note)
    return {"note": said} if said else {}
