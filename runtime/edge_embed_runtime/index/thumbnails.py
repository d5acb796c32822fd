"""The small pictures that an index keeps of pictures."""

from edge_embed_runtime.checks import shown
from edge_embed_runtime.errors import IndexDamagedError
from edge_embed_runtime.storage.store import Store


def thumbnail_of(store: Store, key: str) -> bytes | None:
    """The thumbnail of a document; None where there is none, or no such document. Raises IndexDamagedError."""
    doc, table = store.ids_of([key]).get(key), store.media
    if doc is None or table is None:
        return None
    thumbnail, whole = table.thumbnail(doc)
    if not whole:
        raise IndexDamagedError(f"{store.path}: the thumbnail of {shown(key)} is damaged", path=store.path, keys=[key])
    return thumbnail
