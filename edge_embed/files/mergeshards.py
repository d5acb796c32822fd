"""Files of vectors as parts of a merge: shards that `edge-embed bulk` wrote, and what `edge-embed dump` wrote.

A row of a shard is a document with one passage, all of its text. A row of a dump is a passage: only documents of one
passage can be told whole from it.
"""

import json
from collections.abc import Iterator
from contextlib import closing
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np

from edge_embed.files.arrays import check_rows
from edge_embed.files.arrow import ArrowFile
from edge_embed.files.columns import Names
from edge_embed.files.shards import FACTS, ShardFacts
from edge_embed_runtime.checks import shown
from edge_embed_runtime.errors import EdgeEmbedError, SourceError
from edge_embed_runtime.index.opening import space_fingerprint
from edge_embed_runtime.maintenance.mergeparts import Passage, Whole
from edge_embed_runtime.storage.documents import Document, check_document
from edge_embed_runtime.storage.filerecords import FileRecord
from edge_embed_runtime.storage.root import Root
from edge_embed_runtime.storage.rows import NO_VECTOR, packed
from edge_embed_runtime.storage.schema import Facts
from edge_embed_runtime.vectors.int8 import quantize_int8
from edge_embed_runtime.vectors.normalize import check_vectors
from edge_embed_runtime.vectors.types import Vectors

# Vectors that are made int8 at once.
READ_ROWS = 1024
# The role in which documents are embedded.
DOCUMENT = "document"


class ShardPart:
    """A .parquet or .arrow file as a part of a merge. Raises SourceError for one that says nothing of its vectors."""

    root: Root | None = None

    def __init__(self, path: Path) -> None:
        self.path = path
        with closing(ArrowFile(path, Names())) as file:
            self.count = file.count
            self.facts, self.prompt = _facts(file)
            if not file.keyed:
                raise SourceError(f"{path} has no keys: `edge-embed load` numbers its rows", path=path)

    def documents(self) -> Iterator[Whole]:
        row = 0
        with closing(ArrowFile(self.path, Names())) as file:
            spans = file.spans() if file.dumped else repeat((0, None))
            documents = zip(file.documents(), spans, strict=False)
            while row < self.count:
                rows = min(READ_ROWS, self.count - row)
                vectors, gaps = file.take(rows), file.gaps(rows)
                codes = self._codes(vectors, gaps, row)
                for code in codes:
                    document, span = next(documents)
                    yield self._whole(row, document, span, code)
                    row += 1

    def _codes(self, vectors: Vectors, gaps: Any, first: int) -> list[bytes]:
        """Vectors [n, dim] as an index stores them."""
        if gaps is not None:
            vectors = np.where(gaps[:, None], np.float32(1), vectors)
        check_rows(vectors, self.path, first)
        made = list(map(packed, *quantize_int8(check_vectors(vectors, self.facts.dim, "vectors"))))
        return made if gaps is None else [NO_VECTOR if gap else code for code, gap in zip(made, gaps, strict=True)]

    def _whole(self, row: int, document: Document, span: tuple[Any, Any], code: bytes) -> Whole:
        start, stop = span
        if document.image is not None or document.audio is not None:
            raise SourceError(
                f"{self.path}: row {row} is of a picture or sound, of which files have a part: merge the index itself",
                path=self.path,
                row=row,
            )
        if start != 0 or stop not in (None, len(document.text)):
            raise SourceError(
                f"{self.path}: row {row} is a passage of the document {shown(document.key)}, whose text the file does "
                "not have: merge the index itself",
                path=self.path,
                row=row,
            )
        try:
            record = check_document(document, f"row {row}", blank=self.facts.space)
        except EdgeEmbedError as error:
            raise SourceError(f"{self.path}: row {row}: {error}", path=self.path, row=row, keys=error.keys) from error
        return Whole(record, [Passage(0, len(record.text), code)])

    def check_unchanged(self) -> None:
        """A file that was replaced since has other documents, or as many: the merge counts them."""

    def records(self) -> Iterator[FileRecord]:
        return iter(())


def _facts(file: ArrowFile) -> tuple[Facts, str | None]:
    """What the vectors of a file are, and the prompt they were made with; None for that of their bundle."""
    said = file.facts
    if FACTS.decode() in said:
        try:
            facts = ShardFacts.of(json.loads(said[FACTS.decode()]))
        except (ValueError, TypeError) as error:
            raise SourceError(
                f"{file.path} is not a shard that `edge-embed bulk` wrote: {error}", path=file.path
            ) from error
        if facts.prompt is None and facts.role not in (None, DOCUMENT):
            raise SourceError(
                f"{file.path} has vectors of the role {facts.role!r}; an index holds those of {DOCUMENT!r}",
                path=file.path,
            )
        prompt = facts.prompt if facts.role == DOCUMENT else facts.prompt or ""
        return Facts(facts.fingerprint, facts.bundle, file.dim, words=""), prompt
    bundle, fingerprint = said.get("bundle"), said.get("fingerprint")
    if bundle is None or fingerprint is None:
        raise SourceError(
            f"{file.path} does not say which model its vectors are of; `edge-embed load --space NAME` stores such",
            path=file.path,
        )
    space = fingerprint == space_fingerprint(bundle)
    return Facts(fingerprint, bundle, file.dim, space=space, words=""), None
