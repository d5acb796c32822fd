"""Documents into an index under a memory budget: how many at a time, and which are too large."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from edge_embed_runtime.errors import MemoryBudgetError
from edge_embed_runtime.index.index import Index
from edge_embed_runtime.storage.documents import Document, document_bytes
from edge_embed_runtime.system.headroom import Bounds

T = TypeVar("T")


def batches(
    items: Iterable[T], document: Callable[[T], Document], most: int, characters: int, bounds: Bounds | None
) -> Iterator[list[T]]:
    """Items in lists of at most `most`, and of about so many characters of text; fewer where bounds say so.

    document: what is stored of an item
    """
    batch: list[T] = []
    pending = held = 0
    for item in items:
        batch.append(item)
        pending += len(document(item).text)
        held += 0 if bounds is None else document_bytes(document(item))
        del item  # or the last of a batch would be there while the next is read
        if len(batch) == most or pending >= characters or (bounds is not None and held >= bounds.batch):
            yield batch
            batch, pending, held = [], 0, 0
    if batch:
        yield batch


def upsert(index: Index, documents: Sequence[Document]) -> tuple[int, list[tuple[Document, str]]]:
    """`Index.upsert`; where a memory budget has no room for all, one by one. Gives the number that changed, and those
    for which there is no room, each with the reason."""
    try:
        return index.upsert(documents), []
    except MemoryBudgetError as error:
        if len(documents) == 1:
            return 0, [(documents[0], str(error))]
    changed, refused = 0, list[tuple[Document, str]]()
    for document in documents:
        stored, without = upsert(index, [document])
        changed += stored
        refused += without
    return changed, refused
