"""What the components share: options of an Embedder that YAML can hold, texts of documents, calls in a thread."""

import asyncio
import functools
import inspect
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Concatenate, ParamSpec, TypeVar

from haystack import Document

from edge_embed.embedder import Embedder

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


def checked_options(options: Mapping[str, Any] | None) -> dict[str, Any]:
    """Options of `edge_embed.Embedder` but its bundle, such as {"threads": 1}. Raises TypeError for any other."""
    given = dict(options or {})
    known = [name for name in inspect.signature(Embedder.__init__).parameters if name not in ("self", "bundle")]
    if unknown := sorted(set(given) - set(known)):
        raise TypeError(f"Embedder has no option {', '.join(unknown)}; it has {', '.join(known)}")
    return given


def text_of(document: Document, fields: Sequence[str], separator: str) -> str:
    """The values of some fields of a document's meta, then its content: "1998\\nThe text."."""
    values = [str(document.meta[field]) for field in fields if document.meta.get(field) is not None]
    return separator.join([*values, document.content or ""])


def check_documents(documents: object, who: str) -> None:
    """Raise TypeError for anything that is no list of Documents."""
    if not isinstance(documents, list) or not all(isinstance(document, Document) for document in documents):
        raise TypeError(f"{who} takes a list of Documents, got {type(documents).__name__}")
