"""A change of the model: every document embedded again with another bundle, while the index serves its old vectors.

New passages are collected in a file next to the index (staging.py), a batch of documents in each commit, so that they
survive any interruption. Once all are there, one transaction puts them in the place of the old ones.
"""

import json
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, cast

from edge_embed_runtime.checks import listed
from edge_embed_runtime.embed.embedder import Embedder
from edge_embed_runtime.embed.encoder import Encoder, is_encoder
from edge_embed_runtime.errors import IndexDamagedError, IndexFormatError, InputError
from edge_embed_runtime.inputs.words import NORMAL, Span
from edge_embed_runtime.maintenance.reembedmedia import MediaAgain, together
from edge_embed_runtime.maintenance.scan import batches, document_rows
from edge_embed_runtime.maintenance.staging import Identity, Staging, create_staging, remove_staging, staging_path
from edge_embed_runtime.maintenance.workspace import LOG_BYTES, locked, pragmas, require_space, word_bytes, writing
from edge_embed_runtime.passages.encode import embed_passages
from edge_embed_runtime.passages.late import check_late, late_size
from edge_embed_runtime.passages.split import OVERLAP, PASSAGE_TOKENS
from edge_embed_runtime.progress import progress_bar
from edge_embed_runtime.search import hnswfile
from edge_embed_runtime.storage.bitblocks import BLOCK
from edge_embed_runtime.storage.database import translated
from edge_embed_runtime.storage.mainfile import checkpoint
from edge_embed_runtime.storage.rows import checked, checked_passages, passage_row
from edge_embed_runtime.storage.schema import GRAPH, LEARNED, Facts
from edge_embed_runtime.storage.store import Store
from edge_embed_runtime.vectors.types import Int8Codes, Vectors

# Passages that are moved into the index at once.
MOVED = 1024
# For the estimate of free space: bytes of a row besides its code, and of a look-up entry; characters of a token, a low
# guess; what the log of the file next to the index takes at most.
ROW_BYTES = 36
ENTRY_BYTES = 24
TOKEN_CHARACTERS = 3
STAGING_LOG_BYTES = 8_000_000

# Takes a sentence on what was found or is about to be done.
Notify = Callable[[str], None]
# A document: its id, its text, the crc32 of its row.
Text = tuple[int, str, int]


@dataclass(frozen=True)
class Reembedded:
    """What `reembed_index` did.

    documents, passages: that the index holds now
    embedded: documents that were embedded
    kept:     documents that an earlier run, which was interrupted, had embedded
    switched: False where the vectors were of this bundle already, and nothing was done
    """

    documents: int
    passages: int
    embedded: int
    kept: int
    switched: bool


class _Work(NamedTuple):
    """Documents and characters of the index, and those of them that are left to embed."""

    documents: int
    characters: int
    left: int
    left_characters: int


def reembed_index(
    path: str | os.PathLike[str], embedder: Encoder, *, show_progress: bool = False, notify: Notify = lambda _: None
) -> Reembedded:
    """Replace all vectors of an index by those that `embedder` makes of the texts in it, and of the files of its
    pictures and sounds.

    The index may be one of another bundle, whose embedder is not needed, or of given vectors where every document has
    a text. It is open for writing all the while; others may search it, and find the old vectors until the one
    transaction at the end. A run that ends before that, however it ends, is taken up by the next with the same bundle.

    notify: gets a sentence on what is found, before embedding begins

    Raises IndexLockedError where it is open for writing, InputError for documents without text, and for pictures whose
    files are gone (`keys` lists them), MediaError for a file that is another one by now, IndexDamagedError for damaged
    documents, StorageError where the disk is too full; the index is then as it was.
    """
    if not is_encoder(embedder):
        raise InputError(f"reembed_index takes an Embedder, got {type(embedder).__name__}", option="embedder")
    with writing(path) as store:
        return _reembed(store, embedder, show_progress, notify)


def _reembed(store: Store, embedder: Encoder, show_progress: bool, notify: Notify) -> Reembedded:
    index = store.path
    if store.facts.attached or embedder.output.apart:
        raise InputError(
            f"{index}: an index with sparse vectors or vectors of tokens is not embedded again; make a new one",
            path=index,
        )
    if store.facts.late:
        check_late(embedder)
    target = _target(store.facts, embedder)
    if (store.facts.fingerprint, store.facts.dim) == (target.fingerprint, target.dim):
        notify(f"{index} holds vectors of {target.bundle!r} already: nothing to do")
        _tidy(index, target, notify)
        return Reembedded(*store.counts(), 0, 0, False)
    media = MediaAgain(store, embedder)
    media.check()
    with closing(_open_staging(index, store.facts, target, notify)) as staging:
        work = _survey(store, staging, media)
        kept = f", {work.documents - work.left} are done already" if work.left < work.documents else ""
        notify(f"{index}: {work.left} of {work.documents} documents to embed with {target.bundle!r}{kept}")
        _check_space(store, target, work, _expected(store, embedder, work))
        _stage(store, staging, embedder, media, work, show_progress)
        _check_space(store, target, work._replace(left=0, left_characters=0), staging.count())
        passages = _switch(store, staging, media, target)
    hnswfile.remove(index)
    remove_staging(index)
    with suppress(sqlite3.Error):  # gives the log's space back, where no reader uses it
        checkpoint(store.connection, 0.0, empty=True)
    return Reembedded(work.documents, passages, work.left, work.documents - work.left, True)


def discard_staging(path: str | os.PathLike[str]) -> bool:
    """Remove the file of an unfinished run of `reembed_index`; gives whether there was one."""
    with locked(path) as index:
        return remove_staging(index)


def _target(facts: Facts, embedder: Encoder) -> Facts:
    """The facts of an index once it is embedded again."""
    return replace(
        facts,
        fingerprint=embedder.fingerprint,
        bundle=embedder.name,
        dim=embedder.dim,
        space=False,
        frame=embedder.frame,
        normal=NORMAL,
    )


def _named(facts: Facts) -> str:
    """What tells vectors of one origin from others."""
    return json.dumps([facts.fingerprint, str(facts.dim)])


def _tidy(index: Path, target: Facts, notify: Notify) -> None:
    """Remove what a run left that was ended after its transaction; work towards another bundle stays."""
    if not os.path.lexists(staging_path(index)):
        return
    try:
        with closing(Staging(index, target.dim)) as staging:
            finished = staging.identity[1] == _named(target)
    except (IndexFormatError, IndexDamagedError):
        finished = True
    if finished:
        remove_staging(index)
    else:
        notify(f"{staging_path(index)} holds work towards another bundle; --discard removes it")


def _open_staging(index: Path, source: Facts, target: Facts, notify: Notify) -> Staging:
    """That of an earlier run, where it is whole and of these vectors; else an empty one."""
    identity: Identity = (_named(source), _named(target))
    if os.path.lexists(staging_path(index)):
        why = "is of another bundle or another index"
        try:
            staging = Staging(index, target.dim)
            if staging.identity == identity:
                return staging
            staging.close()
        except (IndexFormatError, IndexDamagedError):
            why = "is damaged"
        notify(f"{staging_path(index)} {why}: it is thrown away")
    remove_staging(index)
    create_staging(index, identity)
    return Staging(index, target.dim)


def _survey(store: Store, staging: Staging, media: MediaAgain) -> _Work:
    """What is left to do. Forgets what was done for documents that have changed since, or is damaged."""
    documents = characters = left = left_characters = blank = 0
    damaged = []
    with staging.transaction():
        for row in document_rows(store):
            document = checked(row)
            documents += 1
            if document is None:
                damaged.append(row[1])
                continue
            blank += not document.text.strip() and media.of(document.id) is None
            characters += len(document.text)
            if not staging.passages(document.id, media.source(document.id, row[4])):
                staging.drop(document.id)
                left += 1
                left_characters += len(document.text)
    if damaged:
        raise _damaged(store, damaged)
    if blank:
        raise InputError(
            f"{store.path}: {blank} of {documents} documents have no text that could be embedded", path=store.path
        )
    return _Work(documents, characters, left, left_characters)


def _texts(store: Store, media: MediaAgain) -> Iterator[Text]:
    for row in document_rows(store):
        document = checked(row)
        if document is None:
            raise _damaged(store, [row[1]])
        yield document.id, document.text, media.source(document.id, row[4])


def _damaged(store: Store, keys: list[Any]) -> IndexDamagedError:
    return IndexDamagedError(
        f"{store.path}: damaged documents: {len(keys)} ({listed(keys, 5, quoted=True)}). Repair it first: "
        "`edge-embed repair --drop` deletes those that cannot be restored",
        path=store.path,
        keys=[str(key) for key in keys],
    )


def _stage(
    store: Store, staging: Staging, embedder: Encoder, media: MediaAgain, work: _Work, show_progress: bool
) -> None:
    """Embed every document that is not done yet."""
    left = (document for document in _texts(store, media) if not staging.has(document[0]))
    with progress_bar(work.left_characters, show_progress) as advance:
        for batch in batches(left, lambda document: len(document[1])):
            spans, codes, scales = _embedded(embedder, media, batch, store.facts.late)
            done = [(doc, crc, parts) for (doc, _, crc), parts in zip(batch, spans, strict=True)]
            staging.add(done, codes, scales)
            advance(sum(len(text) for _, text, _ in batch))


def _embedded(
    embedder: Encoder, media: MediaAgain, batch: list[Text], late: bool
) -> tuple[list[list[Span]], Int8Codes, Vectors]:
    """Spans of the rows of each document, and codes [n, dim] and scales [n] of all."""
    made = media.embedded(doc for doc, _, _ in batch)
    if not made:
        return embed_passages(embedder, [text for _, text, _ in batch], False, late=late)
    worded = [(doc, text) for doc, text, _ in batch if doc not in made or text.strip()]
    texts, first = dict[int, tuple[list[Span], Int8Codes, Vectors]](), 0
    if worded:
        spans, codes, scales = embed_passages(embedder, [text for _, text in worded], False, late=late)
        for (doc, _), parts in zip(worded, spans, strict=True):
            own = slice(first, first + len(parts))
            texts[doc], first = (parts, codes[own], scales[own]), first + len(parts)
    return together((doc for doc, _, _ in batch), made, texts)


def _switch(store: Store, staging: Staging, media: MediaAgain, target: Facts) -> int:
    """Put the new passages in the place of the old ones, in one transaction. Gives their number."""
    db = store.connection
    # With them SQLite would delete row by row and hold all ids in memory; only passages of documents come in.
    db.execute("PRAGMA foreign_keys = OFF")
    with store.transaction(deletes=True):
        _, before = store.last_ids()
        db.execute("DELETE FROM vec")
        db.execute("DELETE FROM bits")
        db.execute("INSERT INTO fts (fts) VALUES ('delete-all')")
        store.set_note(GRAPH, None)
        store.set_note(LEARNED, None)
        store.set_facts(target)
        last = before
        for passages in _moves(store, staging, media):
            last = _move(store, passages, last)
    return last - before


def _moves(store: Store, staging: Staging, media: MediaAgain) -> Iterator[list[tuple[int, int, int, bytes, str]]]:
    """All new passages (document id, start, stop, code, text), about MOVED at a time; a document's stay together."""
    passages: list[tuple[int, int, int, bytes, str]] = []
    for doc, text, crc in _texts(store, media):
        rows = staging.passages(doc, crc)
        if not rows:
            raise IndexDamagedError(
                f"{staging.path} is damaged: run it again: it embeds what is lost once more", path=staging.path
            )
        media.count_vectors(doc, sum(row[2] < 0 for row in rows))
        passages += [(doc, start, stop, code, text[start:stop]) for _, _, start, stop, code, _ in rows]
        if len(passages) >= MOVED:
            yield passages
            passages = []
    if passages:
        yield passages


def _move(store: Store, passages: list[tuple[int, int, int, bytes, str]], last: int) -> int:
    """Insert passages under the ids that follow `last`; gives the last one of them."""
    ids = range(last + 1, last + 1 + len(passages))
    rows, words = [], []
    for id_, (doc, start, stop, code, text) in zip(ids, passages, strict=True):
        rows.append(passage_row(id_, doc, (start, stop), code))
        if start >= 0:
            words.append((id_, store.words.normal(text)))
    store.connection.executemany("INSERT INTO vec VALUES (?, ?, ?, ?, ?, ?)", rows)
    store.connection.executemany("INSERT INTO fts (rowid, text) VALUES (?, ?)", words)
    found = checked_passages(rows, store.dim)
    store.blocks.add(found.ids, store.binary(found.codes, found.scales))
    return ids[-1]


def _expected(store: Store, embedder: Encoder, work: _Work) -> int:
    """About how many passages there will be; rather too many than too few."""
    size = late_size(cast("Embedder", embedder)) if store.facts.late else PASSAGE_TOKENS
    step = max(1, min(size, embedder.tokenizer.max_content) * (OVERLAP - 1) // OVERLAP)
    return max(store.counts()[1], work.documents, work.characters // (TOKEN_CHARACTERS * step))


def _check_space(store: Store, target: Facts, work: _Work, passages: int) -> None:
    """What is left to embed goes to the file next to the index; the transaction to SQLite's log, then to the index."""
    with translated(store.path):
        page, free = pragmas(store.connection, "page_size", "freelist_count")
        words = word_bytes(store.connection)
    old = _table_bytes(store.counts()[1], store.dim, page) + words
    new = _table_bytes(passages, target.dim, page) + 2 * words
    left = passages * work.left_characters // max(1, work.characters)
    staged = left * _row_bytes(target.dim + ROW_BYTES, page) + work.left * ENTRY_BYTES
    growth = max(0, new - old - free * page)
    wanted = int(1.02 * max(new, old)) + growth + staged + min(staged, STAGING_LOG_BYTES) + 2 * LOG_BYTES
    require_space(store.path.parent, wanted, f"{store.path}: embedding it with {target.bundle!r}")


def _table_bytes(passages: int, dim: int, page: int) -> int:
    """About what a number of passages takes in an index, besides the words."""
    blocks = (passages // BLOCK + 2) * _row_bytes(BLOCK * (1 + 8 * -(-dim // 64)), page)
    return passages * (_row_bytes(dim + ROW_BYTES, page) + 2 * ENTRY_BYTES) + blocks


def _row_bytes(row: int, page: int) -> int:
    """A row's part of the pages that it lies on: as many rows as fit share one, a longer one has some of its own."""
    return page // (page // row) if row < page else row + page
