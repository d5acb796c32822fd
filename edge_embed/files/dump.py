"""Vectors of an index into .npz, .parquet and .arrow files."""

import base64
import json
import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from edge_embed.files.arrays import MISSING
from edge_embed.files.arrow import SUFFIXES as ARROW_SUFFIXES
from edge_embed.files.arrow import ArrowWriter
from edge_embed.files.columns import BATCH_CHARACTERS, Form, rows_per_batch
from edge_embed.files.npzwriter import NpzWriter
from edge_embed_runtime.batches import batches
from edge_embed_runtime.checks import check_path
from edge_embed_runtime.errors import InputError
from edge_embed_runtime.progress import progress_bar
from edge_embed_runtime.storage.database import locate
from edge_embed_runtime.storage.mediatable import MediaTable
from edge_embed_runtime.storage.places import Places
from edge_embed_runtime.storage.root import root_folder
from edge_embed_runtime.storage.rows import DOCUMENTS, NO_VECTOR, PASSAGES, checked, is_whole
from edge_embed_runtime.storage.store import Store
from edge_embed_runtime.system.writing import check_output, replacing
from edge_embed_runtime.vectors.int8 import dequantize
from edge_embed_runtime.vectors.normalize import normalize

DUMP_SUFFIXES = (".npz", *ARROW_SUFFIXES)
# key, start, stop, text, metadata, place, media and code (float32 scale, then int8 numbers) of a passage.
Row = tuple[str, int, int, str, str, str, str, bytes]


class MediaDump:
    """Pictures and sounds of documents as texts of a dump. root: the folder that their paths are relative to"""

    def __init__(self, table: MediaTable, root: str | None) -> None:
        self._table, self._root = table, root

    def has(self, doc: int) -> bool:
        return bool(self._table.of([doc]))

    def text_of(self, doc: int) -> tuple[str, bool]:
        """What is known of a document's picture or sound as JSON, and whether it is whole."""
        media = self._table.of([doc]).get(doc)
        thumbnail, whole = self._table.thumbnail(doc)
        if media is None or not whole:
            return "", False
        source = str(Path(self._root or "", media.source)) if media.source else ""
        known = {"kind": media.kind, "source": source, "sha256": media.sha256, "time": media.time}
        small = {} if thumbnail is None else {"thumbnail": base64.b64encode(thumbnail).decode("ascii")}
        return json.dumps({**known, **small}), True


@dataclass(frozen=True)
class Dumped:
    """What `dump_vectors` did: passages written, and rows left out because they are damaged."""

    rows: int
    damaged: int
    dim: int


def dump_vectors(
    index_path: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    codes: bool = False,
    force: bool = False,
    show_progress: bool = False,
) -> Dumped:
    """Write every passage of an index to a file. Other processes may write to the index meanwhile: the file has what
    was committed when this began.

    output: .npz: `keys`, `texts` and `metadata` (JSON) in the form that edge_embed.files.arrays describes; `starts` and
            `stops`, int64 [n], where the passage lies in its document, in characters; `vectors`, float32 [n, dim], each
            of length 1; `bundle` and `fingerprint`, of the bundle or space; `places`, where documents have any: the
            label of the one in which the passage begins, or ""; `media`, where documents have pictures or sounds: of
            the row of one, where its text is the caption and `starts` is negative, what is known of it as JSON (kind,
            source, sha256, time, thumbnail in base64), else "". .parquet or .arrow: the columns `key`, `start`, `stop`,
            `vector`, `text`, `metadata`, `place` and `media`; `bundle` and `fingerprint` in the schema's metadata
    codes:  write `codes`, int8 [n, dim], and `scales`, float32 [n], instead of vectors: vector = code * scale. As
            columns they are called `code` and `scale`
    force:  replace an existing output

    Where documents of an index of given vectors have none, `missing`, bool [n], says so, and their vectors are zeros.
    The output is written whole or not at all. Damaged rows are left out and counted. Needs no embedder.
    Raises IndexFileError for a file that is not an index, InputError for an output that exists, StorageError where it
    cannot be written, MissingExtraError where pyarrow is needed and missing.
    """
    path = locate(index_path, must_exist=True)
    target = check_path(output, "the output")
    check_output(Path(cast(str, output)))  # before a link is followed
    if target.suffix.lower() not in DUMP_SUFFIXES:
        raise InputError(f"{target} is not a file of a known type; expected {', '.join(DUMP_SUFFIXES)}", path=target)
    if target == path or target.is_dir():
        raise InputError(
            f"{target} is {'the index itself' if target == path else 'a folder'}; give another name", path=target
        )
    if target.exists() and not force:
        raise InputError(f"{target} exists; --force (force=True) replaces it", path=target, code="output_exists")
    with closing(Store(path, read_only=True)) as store, replacing(target) as file:
        return _dump(store, file, target, codes, show_progress)


def _dump(store: Store, file: BinaryIO, target: Path, codes: bool, show_progress: bool) -> Dumped:
    found = _Found()
    with store.snapshot():
        store.counters()  # reads the facts again, which may have changed since the file was opened
        if not store.dim:
            raise InputError(f"{store.path} has no dense vectors to write", path=store.path)
        facts = {"bundle": store.facts.bundle, "fingerprint": store.facts.fingerprint}
        found.places = store.places
        found.media = None if store.media is None else MediaDump(store.media, root_folder(store))
        bare = "SELECT 1 FROM vec WHERE length(code) = 0 LIMIT 1"
        gaps = store.gaps and store.connection.execute(bare).fetchone() is not None
        form = Form(store.dim, codes, found.places is not None, gaps, facts, media=found.media is not None)
        with closing(_writer(file, target, form)) as writer:
            with progress_bar(store.counts()[1], show_progress, "writing") as advance:
                texts = (lambda row: len(row[3]), BATCH_CHARACTERS)
                for rows in batches(_whole(store, found), rows_per_batch(store.dim), texts):
                    writer.write(_columns(rows, form))
                    advance(len(rows))
            writer.finish()
        bare = "SELECT count(*) FROM doc WHERE id NOT IN (SELECT doc FROM vec)"
        found.damaged += store.connection.execute(bare).fetchone()[0]
    return Dumped(found.passages, found.damaged, store.dim)


def _writer(file: BinaryIO, target: Path, form: Form) -> NpzWriter | ArrowWriter:
    suffix = target.suffix.lower()
    return NpzWriter(file, target.parent, form) if suffix == ".npz" else ArrowWriter(file, suffix, form)


@dataclass
class _Found:
    """Passages that were read so far, and the places, pictures and sounds of their documents."""

    passages: int = 0
    damaged: int = 0
    places: Places | None = None
    media: MediaDump | None = None


def _whole(store: Store, found: _Found) -> Iterator[Row]:
    """The passages that are not damaged; `found` counts all."""
    db, sizes = store.connection, (store.dim + 4, *([len(NO_VECTOR)] if store.gaps else []))
    for doc, passages in groupby(db.execute(f"{PASSAGES} NOT INDEXED ORDER BY id"), key=itemgetter(1)):
        query = f"{DOCUMENTS} NOT INDEXED WHERE id = ?"
        row = db.execute(query, (doc,)).fetchone() if isinstance(doc, int) else None
        document, metadata = (None, "") if row is None else (checked(row), row[3])
        for passage in passages:
            _, _, start, stop, code, _ = passage
            if document is None or not is_whole(passage) or len(code) not in sizes:
                found.damaged += 1
                continue
            text, place, media, whole = document.text[start:stop], None, "", True
            if start < 0 and found.media is not None:
                text, (media, whole) = document.text, found.media.text_of(document.id)
            elif code == NO_VECTOR and found.media is not None and found.media.has(document.id):
                continue  # its words alone, which the row of its picture has
            elif found.places is not None:
                place, whole = found.places.of_passage(document.id, text, start)
            if not whole:
                found.damaged += 1
                continue
            found.passages += 1
            yield document.key, start, stop, text, metadata, place or "", media, code


def _columns(rows: list[Row], form: Form) -> dict[str, Any]:
    key, start, stop, text, metadata, place, media, code = zip(*rows, strict=True)
    zeros = bytes(form.dim + 4)
    raw = np.frombuffer(b"".join(one or zeros for one in code), np.int8).reshape(len(rows), -1)
    numbers, scales = raw[:, 4:], np.ascontiguousarray(raw[:, :4]).view("<f4")[:, 0]
    columns: dict[str, Any] = {"key": key, "start": start, "stop": stop, "text": text, "metadata": metadata}
    columns |= ({"place": place} if form.places else {}) | ({"media": media} if form.media else {})
    columns |= {MISSING: [one == NO_VECTOR for one in code]} if form.gaps else {}
    if form.codes:
        return {**columns, "code": numbers, "scale": scales}
    return {**columns, "vector": normalize(dequantize(numbers, scales))}
