"""The index: documents in, hits out."""

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self, get_args

from edge_embed_runtime.checks import check_count, unusable
from edge_embed_runtime.embed.embedder import Embedder
from edge_embed_runtime.embed.encoder import Encoder, is_encoder
from edge_embed_runtime.errors import InputError
from edge_embed_runtime.index.embedders import Models
from edge_embed_runtime.index.opening import MAX_DIM, OpenOptions, connected, facts_of_models, facts_of_space
from edge_embed_runtime.index.reading import IndexReader
from edge_embed_runtime.storage.documents import Document, Refused
from edge_embed_runtime.system.waiting import awaitable

if TYPE_CHECKING:  # imported where they are used: most processes search, and are smaller without them
    from edge_embed_runtime.index.additions import Additions, GivenVectors
    from edge_embed_runtime.index.files import IndexedFiles
    from edge_embed_runtime.maintenance.compact import Compaction
    from edge_embed_runtime.maintenance.rebuild import GraphChoice, Rebuilt
    from edge_embed_runtime.maintenance.repair import Repair
    from edge_embed_runtime.storage.root import Root


class Index(IndexReader):
    """Documents, their vectors and their words in one file. Made by `Index.open` or, for vectors from elsewhere, by
    `Index.create`; close it, or use it with `with`.

    Threads may share one object. One object may write at a time, over all processes; any number may read, and what is
    read is one committed state. Writing holds up neither searches of other processes nor those of other threads.

    In asyncio, `asearch`, `aget`, `aadd`, `aupsert` and `adelete` are awaited: they do the same in a thread.
    """

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        embedder: Encoder | None = None,
        *,
        sparse: Embedder | None = None,
        multi: Embedder | None = None,
        read_only: bool = False,
        shared: bool = False,
        timeout: float | None = None,
        words: str | None = None,
        fields: Sequence[str] | None = None,
        late_chunking: bool | None = None,
        max_rss_mb: float | None = None,
        secure_delete: bool = False,
    ) -> Self:
        """Open an index, made when missing, with the embedder that its vectors come from.

        embedder:  an Embedder or a ComposedEmbedder; None for an index of given vectors (see `create`); an index of a
                   bundle can be searched by words or with `vector`, and deleted from, without it
        sparse:    an Embedder of a bundle of kind "sparse": its vectors are stored with the others, for mode "sparse"
                   and as a part of mode "hybrid"; or give it as `embedder`, where there are no others
        multi:     likewise one of kind "multi", for mode "multi". An index that was made with either can be searched
                   and deleted from without it, but not added to
        read_only: search only: works while another process writes, and on read-only storage
        shared:    write in turns with other objects and processes that open it so: each call that writes holds the lock
                   while it runs, embedding included, so add many documents in several calls
        timeout:   seconds to wait for another process that has it open for writing: when it is opened, by default 0;
                   with `shared` in every call that writes, by default 60
        words:     for a new index, how texts are split into words: "english" (stems; the default), "plain"
                   (whole words) or "trigram" (three characters in a row, for languages without spaces)
        fields:    for a new index, metadata fields that `where` often asks for: each gets an index
        late_chunking: for a new index, whether passages' vectors are cut out of one long pass of their document through
                   the model, of which each then knows something (see help(edge_embed_runtime.passages.late))

        max_rss_mb: megabytes that searching and storing are not to bring the resident set of the process over. Where
                    binary codes do not fit, they stay in the file, and searches read them: some 8 ms for each 100,000
                    passages. Give the same to the Embedder. Raises MemoryBudgetError, now or later, before more is
                    taken: for a k that is too large it says which works. Hits that a program keeps are its own
        secure_delete: overwrite what this object deletes or replaces, in the file, in the table of words and in the
                    log, in the call itself, which takes longer the more words there are. Without it deleted text stays
                    in the file until it is written over, or until `compact`

        Raises IndexLockedError when it is open for writing elsewhere, BundleMismatchError when its vectors come from
        another bundle, IndexFormatError or IndexDamagedError when the file is not a whole index.
        """
        if embedder is not None and not is_encoder(embedder):
            raise InputError(
                f"Index.open takes an Embedder, got {type(embedder).__name__}: Index.open(path, Embedder())",
                option="embedder",
            )
        if read_only and shared:
            raise InputError("shared=True is for writing; read_only=True needs no turns", option="shared")
        options = OpenOptions(read_only, shared, timeout, words, fields, late_chunking, max_rss_mb, secure_delete)
        models = Models.of(embedder, sparse, multi)
        with connected(path, facts_of_models(models, options), models, options) as connections:
            return cls(connections, models)

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        *,
        space: str,
        dim: int,
        words: str = "english",
        fields: Sequence[str] = (),
        timeout: float = 0.0,
        max_rss_mb: float | None = None,
    ) -> Self:
        """Make an index of vectors that come from elsewhere, such as an API; `add_vectors` takes them.

        space: names the model that all of them come from; the same name is one space
        dim:   numbers in a vector
        words, fields, timeout, max_rss_mb: see `Index.open`

        Vectors are brought to length 1 and compared by cosine. Of a model that is made for dot products of vectors of
        other lengths this gives another order.

        `Index.open(path)` opens it later. Raises InputError where the path exists.
        """
        options = OpenOptions(timeout=timeout, words=words, fields=fields, max_rss_mb=max_rss_mb)
        with connected(path, facts_of_space(space, dim, options), Models(), options, new=True) as connections:
            return cls(connections, Models())

    @property
    def root(self) -> "Root | None":
        """The folder that keys of files are relative to, see storage/root.py; None where none is recorded."""
        from edge_embed_runtime.storage.root import find_root

        with self._connections.reading() as store:
            return find_root(store)

    @root.setter
    def root(self, root: "Root") -> None:
        from edge_embed_runtime.storage.root import write_root

        with self._connections.writing() as store, store.transaction(deletes=False):
            write_root(store, root)

    @property
    def files(self) -> "IndexedFiles":
        """What is known of the files that documents come from: index/files.py."""
        from edge_embed_runtime.index.files import IndexedFiles

        return IndexedFiles(self._connections)

    def add(
        self,
        documents: Iterable[Document],
        *,
        show_progress: bool = False,
        thumbnails: bool = False,
        refused: Refused | None = None,
    ) -> int:
        """Store new documents, all of them or none: they are on disk when this returns. Returns their number.

        thumbnails: store a small picture (WebP of at most 160 pixels and 12 KB) of each picture, for `thumbnail`
        refused:    called with each document whose picture or sound cannot be read, and the MediaError: all others are
                    stored then; without it nothing is

        Raises DuplicateKeyError for a key that is there already (see `upsert`), DocumentError for a document that
        cannot be stored, MediaError for a picture or sound that cannot be read, StorageError when the disk fails.
        """
        return self._additions.add(documents, show_progress, thumbnails, refused)

    def upsert(
        self,
        documents: Iterable[Document],
        *,
        show_progress: bool = False,
        thumbnails: bool = False,
        refused: Refused | None = None,
    ) -> int:
        """Store documents, in place of those with the same keys, all of them or none. Returns the number that changed.

        A document that is stored already with the same text, metadata, places, and picture or sound costs nothing. A
        picture or sound that the index has under another key is not embedded again. One that is refused leaves the
        document with its key as it was. thumbnails, refused: see `add`
        """
        return self._additions.upsert(documents, show_progress, thumbnails, refused)

    def add_vectors(self, documents: Iterable[Document], vectors: "GivenVectors") -> int:
        """Store new documents with their vectors [n, dim], all of them or none, in an index made by `create`.

        vectors: None in the place of a vector, or of all of them, stores a document without one: searches find it by
                 its words, `find` and the like as any other, searches by vector never

        A document is one passage; its text may be empty. Of one with a picture or sound the vector is that of these,
        and its text is found by its words alone. Vectors are brought to length 1 and compared by cosine.
        Raises InputError for vectors of another shape, or with NaN, infinite or no other numbers than 0, and what
        `add` raises.
        """
        return self._additions.add_vectors(documents, vectors)

    def upsert_vectors(self, documents: Iterable[Document], vectors: "GivenVectors") -> int:
        """`add_vectors`, in place of documents with the same keys. Returns the number that changed."""
        return self._additions.upsert_vectors(documents, vectors)

    def set_dim(self, dim: int) -> None:
        """Change the numbers in a vector of an index that `create` made, as long as no document has a vector.

        Raises InputError where one has, and for an index of a bundle.
        """
        from edge_embed_runtime.storage.writing import set_dim

        with self._connections.writing() as store:
            set_dim(store, check_count(dim, "dim", 1, MAX_DIM))

    def delete(self, keys: str | Iterable[str] | None = None, *, where: Mapping[str, Any] | None = None) -> int:
        """Delete documents by key, or those that fit a condition; all of them or none. Returns how many were deleted.

        where: as for `search`, instead of keys. An empty one is refused: {"$key": {"$prefix": ""}} fits every document.
               Damaged documents stay, since whether they fit is not known; their keys delete them
        """
        return self._collection.delete(keys, where)

    def update_metadata(
        self,
        chosen: str | Iterable[str] | Mapping[str, Any],
        changes: Mapping[str, Any],
        *,
        remove: Iterable[str] = (),
    ) -> int:
        """Change fields of the metadata of documents, of all chosen ones or none. Returns how many have changed.

        chosen:  keys, or a condition as for `search`
        changes: the new values, by field: each takes the place of the old one as a whole; other fields stay. None is
                 JSON's null, a value like others
        remove:  fields to take away, where they are there

        Texts and vectors stay, nothing is embedded. Raises InputError for a key that is not there, DocumentError for
        what JSON cannot hold, FilterError as `search` does, IndexDamagedError for a key of a damaged document; those
        that are damaged and may fit a condition stay as they are.
        """
        return self._collection.update_metadata(chosen, changes, remove)

    asearch, aget = awaitable(IndexReader.search), awaitable(IndexReader.get)
    aadd, aupsert, adelete = awaitable(add), awaitable(upsert), awaitable(delete)

    def repair(
        self, *, drop: bool = False, backup: str | os.PathLike[str] | None = None, show_progress: bool = False
    ) -> "Repair":
        """Restore what the stored texts allow: look-up tables, the table of words, binary codes, and passages,
        embedded again; pictures and sounds from their files, where these are as they were.

        drop:   delete the documents that cannot be restored, whose text, key or metadata is damaged
        backup: a file, not there yet, that gets a copy of the index as it was

        Each step is one transaction, so that an interruption loses nothing; what is left to do, the next call does.
        Given vectors cannot be made again: without an embedder, documents with damaged ones are lost.
        Raises IndexDamagedError when rows cannot even be read: such a file has to be restored from a copy.
        """
        from edge_embed_runtime.maintenance.repair import repair

        with self._connections.writing() as store:
            write = None if self._models.missing(store.facts) else self._additions.store_texts
            try:
                embeds = self._models.modalities
                return repair(store, write, embeds=embeds, drop=drop, backup=backup, show_progress=show_progress)
            finally:
                with self._connections.read_turn:
                    self._search.reset()

    def compact(self) -> "Compaction":
        """Give the space of deleted documents back to the file system. Searches wait for it.

        Raises StorageError when there is too little free space for SQLite's copy; the index stays as it is.
        """
        from edge_embed_runtime.maintenance.compact import compact

        with self._connections.writing() as store, self._connections.read_turn:
            return compact(store)

    def rebuild(self, graph: "GraphChoice" = "auto", *, show_progress: bool = False) -> "Rebuilt":
        """Make again what is derived from the stored texts and vectors: the frame in which binary codes are made,
        learned from what is stored now; these; the table of words; and a graph over the codes, in a file of its own.

        graph: "auto" builds one for two million passages and more, measures searches with and without it on this
               device, and keeps it where it is faster and finds as much; "always" keeps it in any case; "never"
               removes it

        Searches go on at the same time. Each step is one transaction, and the graph a file that appears whole or not
        at all: an interruption loses nothing. Raises StorageError when the disk fails, IndexFileError when memory is
        too small for a graph; the index is whole then, and searches compare all codes.
        """
        from edge_embed_runtime.maintenance.rebuild import GraphChoice, rebuild

        if graph not in get_args(GraphChoice):
            raise unusable("graph", graph, f"one of {get_args(GraphChoice)}")
        with self._connections.writing() as store:
            return rebuild(store, graph, show_progress=show_progress)

    @property
    def _additions(self) -> "Additions":
        from edge_embed_runtime.index.additions import Additions

        return Additions(self._connections, self._models)
