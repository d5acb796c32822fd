"""Files of vectors as parts of a merge: shards that `edge-embed bulk` wrote, and dumps of given vectors.

A row is a document with one passage, all of its text. Other dumps are refused: their rows are passages, and do not say
all of their documents.
"""

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from edge_embed.files.arrays import check_rows
from edge_embed.files.arrow import ArrowFile
from edge_embed.files.columns import Names
from edge_embed.files.shards import FACTS, ShardFacts
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
            documents = file.documents()
            while row < self.count:
                rows = min(READ_ROWS, self.count - row)
                vectors, gaps = file.take(rows), file.gaps(rows)
                codes = self._codes(vectors, gaps, row)
                for code in codes:
                    yield self._whole(row, next(documents), code)
                    row += 1

    def _codes(self, vectors: Vectors, gaps: Any, first: int) -> list[bytes]:
        """Vectors [n, dim] as an index stores them."""
        if gaps is not None:
            vectors = np.where(gaps[:, None], np.float32(1), vectors)
        check_rows(vectors, self.path, first)
        made = list(map(packed, *quantize_int8(check_vectors(vectors, self.facts.dim, "vectors"))))
        return made if gaps is None else [NO_VECTOR if gap else code for code, gap in zip(made, gaps, strict=True)]

    def _whole(self, row: int, document: Document, code: bytes) -> Whole:
        try:
            record = check_document(document, f"row {row}", blank=self.facts.space)
        except EdgeEmbedError as error:
            said = str(error).removeprefix(f"row {row}: ")
            raise SourceError(f"{self.path}: row {row}: {said}", path=self.path, row=row, keys=error.keys) from error
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
        if file.count and facts.dim != file.dim:
            raise SourceError(
                f"{file.path} has vectors of {file.dim} numbers, and says {facts.dim}: it was changed", path=file.path
            )
        if facts.prompt is None and facts.role not in (None, DOCUMENT):
            raise SourceError(
                f"{file.path} has vectors of the role {facts.role!r}; an index holds those of {DOCUMENT!r}",
                path=file.path,
            )
        prompt = facts.prompt if facts.role == DOCUMENT else facts.prompt or ""
        return Facts(facts.fingerprint, facts.bundle, facts.dim, words=""), prompt
    return _facts_of_dump(file), None


def _facts_of_dump(file: ArrowFile) -> Facts:
    bundle, fingerprint = file.facts.get("bundle"), file.facts.get("fingerprint")
    if bundle is None or fingerprint is None:
        raise SourceError(
            f"{file.path} does not say which model its vectors are of; `edge-embed load --space NAME` stores such",
            path=file.path,
        )
    given = fingerprint == space_fingerprint(bundle)
    if not given or file.more_columns:
        lacks = "the texts between passages" if not given else "all that is known of places, pictures and sounds"
        raise SourceError(
            f"{file.path} is a dump of an index of {bundle!r}, and dumps do not have {lacks}: merge the index itself, "
            "as in `edge-embed merge OUT INDEX`",
            path=file.path,
        )
    return Facts(fingerprint, bundle, file.dim, space=True, words="")
