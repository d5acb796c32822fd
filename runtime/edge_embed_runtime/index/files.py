"""What an index knows of the files that its documents come from, so that those as they were need not be read again."""

from collections.abc import Iterable, Sequence

from edge_embed_runtime.index.connections import Connections
from edge_embed_runtime.storage.documents import Document, check_documents, check_key
from edge_embed_runtime.storage.filerecords import FileRecord, read_records, records_with_hash, write_records


class IndexedFiles:
    """`Index.files`."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    def records(self, keys: Iterable[str]) -> dict[str, FileRecord]:
        """Records by the keys of files; unknown ones are left out."""
        with self._connections.reading() as store:
            return read_records(store, keys)

    def with_hash(self, hash_: bytes, limit: int = 100) -> list[FileRecord]:
        """Records of files that had this content."""
        with self._connections.reading() as store:
            return records_with_hash(store, hash_, limit)

    def record(self, records: Sequence[FileRecord]) -> None:
        """Store records, once all documents of their files are stored."""
        with self._connections.writing() as store, store.transaction(deletes=False):
            write_records(store, records)

    def move(self, moves: Sequence[tuple[str, Document]]) -> set[str]:
        """Give stored documents a new key and metadata; vectors stay, so it needs no embedder.

        moves: the old key, and the document as it is to be. Where the text is another, or the new key belongs to
        another document, nothing happens. Returns the new keys of the others.
        """
        from edge_embed_runtime.index.additions import placed_records
        from edge_embed_runtime.storage.writing import move

        old = [check_key(key) for key, _ in moves]
        records = check_documents([document for _, document in moves], room=self._connections.room)
        with self._connections.writing() as store:
            return move(store, list(zip(old, placed_records(store, records), strict=True)))
