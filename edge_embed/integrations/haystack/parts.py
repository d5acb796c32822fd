"""What the components share: texts of documents, and calls in a thread."""

import asyncio
import functools
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Concatenate, ParamSpec, TypeVar

from haystack import Document

P = ParamSpec("P")
T = TypeVar("T")
Self = TypeVar("Self")


def in_thread(
    method: Callable[Concatenate[Self, P], T],
) -> Callable[Concatenate[Self, P], Coroutine[Any, Any, T]]:
    """The method of the same arguments and errors to be awaited: `run` -> `run_async`."""

    @functools.wraps(method)
    async def call(self: Self, *args: P.args, **options: P.kwargs) -> T:
        return await asyncio.to_thread(method, self, *args, **options)

    call.__name__, call.__qualname__ = f"{method.__name__}_async", f"{method.__qualname__}_async"
    call.__doc__ = f"`{method.__name__}` in a thread, to be awaited."
    return call


def text_of(document: Document, fields: Sequence[str], separator: str) -> str:
    """The values of some fields of a document's meta, then its content: "1998\\nThe text."."""
    values = [str(document.meta[field]) for field in fields if document.meta.get(field) is not None]
    return separator.join([*values, document.content or ""])


def check_documents(documents: object, who: str) -> None:
    """Raise TypeError for anything that is no list of Documents."""
    if not isinstance(documents, list) or not all(isinstance(document, Document) for document in documents):
        raise TypeError(f"{who} takes a list of Documents, got {type(documents).__name__}")
