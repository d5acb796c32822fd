"""An index with pictures: half of the documents have one, half of these with their text as the caption."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from builders.mediaembedders import MediaEmbedder, picture
from workload import Operation, State, Store, Verdict, check

from edge_embed import Document, Embedder
from edge_embed_runtime.storage.media import Media


class Pictured(Store):
    """Drives an index whose embedder reads such pictures."""

    def __init__(self, folder: Path, embedder: Embedder) -> None:
        super().__init__(folder, MediaEmbedder(str(embedder.path), threads=1))

    def apply(self, operation: Operation) -> None:
        if operation.name in ("add", "upsert"):
            operation = operation._replace(content=[pictured(document) for document in operation.content])
        super().apply(operation)

    @staticmethod
    def check(folder: Path, allowed: Sequence[State], embedder: Embedder, *, deep: bool = True) -> Verdict:
        expected = [{key: kept(document) for key, document in state.items()} for state in allowed]
        verdict = check(folder, expected, MediaEmbedder(str(embedder.path), threads=1), deep=deep)
        if verdict.state is None:
            return verdict
        return verdict._replace(state=allowed[expected.index(verdict.state)])


def pictured(document: Document) -> Document:
    """A document of the workload as it is stored."""
    return _with_picture(document, lambda content: content)


def kept(document: Document) -> Document:
    """What the index gives back of it."""
    return _with_picture(document, lambda content: Media("image", "", hashlib.sha256(content).hexdigest()))


def _with_picture(document: Document, made: Any) -> Document:
    number = document.metadata["n"]
    if number % 2 or number < 0:
        return document
    text = document.text if number % 4 else ""
    return replace(document, text=text, image=made(picture(document.text[:20])))
