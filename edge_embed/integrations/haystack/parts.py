"""What the components share: texts of documents, and calls in a thread."""

import asyncio
import functools
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, ParamSpec, TypeVar

from haystack import Document

P = ParamSpec("P")
T = TypeVar("T")


class Restored:
    """Copied and pickled, an object is the parameters that it was made with: locks, models and files stay where they
    are."""

    to_dict: Callable[[], dict[str, Any]]
    from_dict: Callable[[dict[str, Any]], Any]

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self).from_dict, (self.to_dict(),)


def in_thread(method: Callable[P, T]) -> Callable[P, Coroutine[Any, Any, T]]:
    """The method of the same arguments and errors to be awaited: `run` -> `run_async`."""

    @functools.wraps(method)
    async def call(*args: P.args, **options: P.kwargs) -> T:
        of_object: Callable[..., T] = getattr(args[0], name)
        return await asyncio.to_thread(of_object, *args[1:], **options)

    name = method.__name__
    call.__name__, call.__qualname__ = f"{name}_async", f"{method.__qualname__}_async"
    call.__doc__ = f"`{name}` in a thread, to be awaited."
    return call


def text_of(document: Document, fields: Sequence[str], separator: str) -> str:
    """The values of some fields of a document's meta, then its content: "1998\\nThe text."."""
    values = [str(document.meta[field]) for field in fields if document.meta.get(field) is not None]
    return separator.join([*values, document.content or ""])


def check_documents(documents: object, who: str) -> None:
    """Raise TypeError for anything that is no list of Documents."""
    if not isinstance(documents, list) or not all(isinstance(document, Document) for document in documents):
        raise TypeError(f"{who} takes a list of Documents, got {type(documents).__name__}")
