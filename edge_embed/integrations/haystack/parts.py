"""What the components share: copies of them, and texts of documents."""

from collections.abc import Callable, Sequence
from typing import Any

from haystack import Document


class Restored:
    """Copied and pickled, an object is the parameters that it was made with: locks, models and files stay where they
    are."""

    to_dict: Callable[[], dict[str, Any]]
    from_dict: Callable[[dict[str, Any]], Any]

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self).from_dict, (self.to_dict(),)


def text_of(document: Document, fields: Sequence[str], separator: str) -> str:
    """The values of some fields of a document's meta, then its content: "1998\\nThe text."."""
    values = [str(document.meta[field]) for field in fields if document.meta.get(field) is not None]
    return separator.join([*values, document.content or ""])


def check_documents(documents: object, who: str) -> None:
    """Raise TypeError for anything that is no list of Documents."""
    if not isinstance(documents, list) or not all(isinstance(document, Document) for document in documents):
        raise TypeError(f"{who} takes a list of Documents, got {type(documents).__name__}")
