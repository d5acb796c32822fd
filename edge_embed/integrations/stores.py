"""The index behind a framework's store: whose vectors it holds, opened in turns with all others that write to it."""

import os
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from edge_embed.embedder import own_embedder
from edge_embed_runtime.checks import check_path, listed
from edge_embed_runtime.embed.encoder import Encoder, is_encoder
from edge_embed_runtime.errors import BundleMismatchError, DuplicateKeyError, FilterError, IndexFileError, InputError
from edge_embed_runtime.index.index import Index
from edge_embed_runtime.index.stats import read_stats
from edge_embed_runtime.storage.documents import Document, Hit
from edge_embed_runtime.storage.filters import compile_where
from edge_embed_runtime.vectors.normalize import check_vectors
from edge_embed_runtime.vectors.types import Vectors

T = TypeVar("T")
Where = Mapping[str, Any]

# The condition that every document fits.
EVERY: Where = {"$key": {"$prefix": ""}}

# Of `Index.open`; of those, what `Index.create` takes.
OPTIONS = ("fields", "late_chunking", "max_rss_mb", "multi", "read_only", "secure_delete", "sparse", "timeout", "words")
NEW_OPTIONS = ("fields", "words", "max_rss_mb")
# Seconds that the first vectors wait for another process that makes the same file.
CREATE_SECONDS = 60.0
# Characters of the name of a space, and attributes by which embeddings of frameworks name their model.
SPACE_CHARACTERS = 200
MODEL_NAMES = ("model", "model_name", "model_id", "repo_id")


def space_of(embedding: object) -> str:
    """Names what vectors of another library's embeddings come from: "OpenAIEmbeddings text-embedding-3-small".

    A model that is a folder of this machine goes by its name alone: the index may be moved to another one.
    """
    models = (getattr(embedding, name, None) for name in MODEL_NAMES)
    model = next((found for found in models if isinstance(found, str)), "")
    model = Path(model).name if Path(model).is_absolute() else model
    name = f"{type(embedding).__name__} {model}".strip()
    return "".join(character for character in name if character.isprintable())[:SPACE_CHARACTERS]


def check_options(options: Mapping[str, Any]) -> None:
    """Raise InputError for what is no option of an index that a store opens: see OPTIONS."""
    if unknown := sorted(options.keys() - set(OPTIONS)):
        raise InputError(f"unknown options: {listed(unknown)}; known: {listed(OPTIONS)}", option=unknown[0])


class StoreIndex:
    """An index that a store of a framework keeps its documents in.

    path:     the file. Any number of stores, and processes, may have it open, and write in turns
    embedder: makes its vectors; None without `space` means the index's own, see `own_embedder`
    space:    names what vectors come from that the caller makes (see `Index.create`): the file is made when the first
              ones are there
    new_fields: metadata fields that a new file gets an index on, where the option `fields` does not name others
    options:  of `Index.open`: see OPTIONS

    Pickled, it is what it was made with. Raises what `Index.open` raises, InputError for an unknown option.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        embedder: Encoder | None = None,
        *,
        space: str | None = None,
        new_fields: Sequence[str] = (),
        **options: Any,
    ) -> None:
        check_options(options)
        self.path = check_path(path, "the path of the store")
        self.space = space
        self._given, self._new_fields, self._options = embedder, new_fields, options
        own = embedder is None and space is None
        self.embedder: Encoder | None = own_embedder(self.path) if own else embedder
        self._making = threading.Lock()
        self._index = self._open() if space is None or self.path.exists() else None

    def __reduce__(self) -> tuple[Any, ...]:
        made = partial(StoreIndex, space=self.space, new_fields=self._new_fields, **self._options)
        return made, (str(self.path), self._given)

    @property
    def index(self) -> Index | None:
        """The index; None where vectors are given, and none were yet. Another process may have made it meanwhile."""
        if self._index is None and self.path.exists():
            with self._making:
                self._index = self._index or self._open()
        return self._index

    def for_vectors(self, dim: int) -> Index:
        """The index for given vectors of so many numbers, made where there is none."""
        with self._making:
            if self._index is None:
                if not self.path.exists():
                    self._create(dim)
                self._index = self._open()
            return self._index

    def upsert(self, documents: Sequence[Document], vectors: ArrayLike | None = None) -> int:
        """Store documents in place of those with the same keys, all or none. Returns how many changed.

        vectors: [n, dim] of an index of given vectors; None where the embedder makes them
        """
        if self.space is None:
            index = self._index
            assert index is not None  # noqa: S101 - without a space it was opened at once
            if self.embedder is None and index.stats()["space"]:
                raise InputError(f"{self.path} holds given vectors: make the store with their embeddings")
            return index.upsert(documents)
        if vectors is None or not len(documents):
            if documents:
                raise InputError(f"{self.path} holds given vectors of {self.space!r}: give one for each document")
            return 0
        dim = np.shape(vectors)[-1]
        return self.for_vectors(dim).upsert_vectors(documents, vectors)

    def close(self) -> None:
        """Let go of the file; all that was stored is on disk already."""
        if self._index is not None:
            self._index.close()

    def _create(self, dim: int) -> None:
        if self._options.get("read_only"):
            raise IndexFileError(f"{self.path} does not exist", path=self.path, code="index_missing")
        options = self._with_fields()
        new = {name: options[name] for name in NEW_OPTIONS if options.get(name) is not None}
        try:
            Index.create(self.path, space=self.space or "", dim=dim, timeout=CREATE_SECONDS, **new).close()
        except InputError as error:
            if error.code != "output_exists":  # another process was first
                raise

    def _open(self) -> Index:
        if self.space is not None:
            self._check_space(self.space)
        options = self._options if self.path.exists() else self._with_fields()
        return Index.open(self.path, self.embedder, shared=not options.get("read_only", False), **options)

    def _with_fields(self) -> dict[str, Any]:
        """The options for a new file."""
        named = self._options.get("fields") is not None or not self._new_fields
        return self._options if named else self._options | {"fields": self._new_fields}

    def _check_space(self, space: str) -> None:
        stats = read_stats(self.path)
        if not stats["space"]:
            raise BundleMismatchError(
                f"{self.path} holds vectors of the bundle {stats['bundle']!r}, those given come from {space!r}: open "
                "it without embeddings of others",
                path=self.path,
                bundle=stats["bundle"],
            )
        if stats["bundle"] != space:
            raise BundleMismatchError(
                f"{self.path} holds vectors of {stats['bundle']!r}, those given come from {space!r}: where they are "
                f"the same model's, say so with space={stats['bundle']!r}",
                path=self.path,
                bundle=stats["bundle"],
            )


def store_for(
    path: str | os.PathLike[str],
    embedding: Any,
    own: type[Any],
    others: type[Any],
    *,
    space: str | None,
    options: Mapping[str, Any],
    new_fields: Sequence[str] = (),
) -> StoreIndex:
    """The index for an embedding as a framework gives it: None, an Embedder or one of ours means an index of a bundle,
    one of others an index of the vectors that they make.

    own:     the framework's class of our embeddings, which have an `embedder`
    others:  the framework's class of all embeddings
    space:   names what vectors of others come from; None for their class and model
    options, new_fields: of StoreIndex
    """
    check_options(options)
    if embedding is None or isinstance(embedding, own) or is_encoder(embedding):
        if space is not None:
            raise InputError("space= is for embeddings of others; those of a bundle name theirs", option="space")
        embedder = embedding.embedder if isinstance(embedding, own) else embedding
        return StoreIndex(path, embedder, new_fields=new_fields, **options)
    if not isinstance(embedding, others):
        raise InputError(
            f"embedding is {type(embedding).__name__}, expected {others.__name__}, such as {own.__name__}(bundle)",
            option="embedding",
        )
    return StoreIndex(path, space=space or space_of(embedding), new_fields=new_fields, **options)


def check_once(keys: Sequence[str]) -> None:
    """Raise DuplicateKeyError for keys of documents that come twice, before anything is stored."""
    if twice := [key for key, count in Counter(keys).items() if count > 1]:
        raise DuplicateKeyError(
            f"keys that come twice in one call: {listed(twice, 5, quoted=True)}; nothing was stored", keys=twice
        )


def unless_unknown(where: Where | None, call: Callable[[], T], nothing: T) -> T:
    """What a call with a condition gives; `nothing` where the condition names a field that no document has: for an
    index that is an error, for some frameworks a condition that nothing fits."""
    try:
        return call()
    except FilterError:
        if where is None:
            raise
        compile_where(where)  # raises the error where the condition itself is wrong
        return nothing


def with_documents(index: Index, hits: Sequence[Hit]) -> list[tuple[Hit, Document]]:
    """Hits with their whole documents; those deleted since are left out."""
    documents = index.get_many([hit.key for hit in hits])
    return [(hit, document) for hit, document in zip(hits, documents, strict=True) if document is not None]


def nearest_vectors(index: Index, keys: Sequence[str], vector: ArrayLike) -> tuple[Vectors, Vectors]:
    """Of each document the vector of the passage that is nearest to a vector, and its cosine: float32 [n, dim] and [n].

    Where a document has no vector, or is gone, there are zeros.
    """
    found = index.vectors(keys)
    dim = next((rows.shape[1] for rows in found.values()), np.shape(vector)[-1])
    asked = check_vectors([vector], dim, "vector")[0]
    nearest = np.zeros((len(keys), dim), np.float32)
    for place, key in enumerate(keys):
        rows = found.get(key)
        if rows is not None and len(rows):
            nearest[place] = rows[np.argmax(rows @ asked)]
    return nearest, nearest @ asked
