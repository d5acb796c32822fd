"""How an index is opened or made: its options, what they ask of the file, and what an Index then consists of."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from edge_embed_runtime.checks import check_count, check_text, shown
from edge_embed_runtime.errors import BundleMismatchError, IndexFileError, InputError, StorageError
from edge_embed_runtime.index.connections import Connections
from edge_embed_runtime.index.embedders import Models
from edge_embed_runtime.inputs.words import NORMAL
from edge_embed_runtime.model.budget import check_limit
from edge_embed_runtime.storage.database import check_header, locate
from edge_embed_runtime.storage.schema import WORDS, Facts, check_fields
from edge_embed_runtime.storage.store import Store
from edge_embed_runtime.system.headroom import Room

MAX_DIM = 2**16
MAX_SPACE_CHARACTERS = 256


@dataclass(frozen=True)
class OpenOptions:
    """See `Index.open`. words, fields, late_chunking: of a new index; where it is there, what it has to be, None for
    anything."""

    read_only: bool = False
    timeout: float = 0.0
    words: str | None = None
    fields: Sequence[str] | None = None
    late_chunking: bool | None = None
    max_rss_mb: float | None = None
    secure_delete: bool = False

    def room(self, models: Models) -> Room | None:
        """What the memory budget leaves beside the models; None without one."""
        limit = check_limit(self.max_rss_mb)
        return None if limit is None else Room(limit, models.peak)


@contextmanager
def opened(path: object, models: Models, options: OpenOptions) -> Iterator[Connections]:
    """The connections of an index that is there, or is made for these models; closed where the block fails."""
    room = options.room(models)
    file = locate(path, must_exist=options.read_only)
    facts = models.facts(check_words(options.words or "english"), check_fields(options.fields or ()))
    if options.late_chunking and facts is not None:
        from edge_embed_runtime.passages.late import check_late

        check_late(models.dense or models.first)
        facts = replace(facts, late=True)
    if facts is None and not file.exists():
        raise IndexFileError(
            f"{file} does not exist; a new index needs the embedder of its vectors, or Index.create makes one for "
            "vectors that you have",
            path=file,
            code="index_missing",
        )
    with _connected(file, facts, models, room, options) as connections:
        yield connections


@contextmanager
def created(path: object, space: str, dim: int, options: OpenOptions) -> Iterator[Connections]:
    """The connections of a new index for vectors from elsewhere; closed where the block fails."""
    if not check_text(space, "space").strip() or len(space) > MAX_SPACE_CHARACTERS or not space.isprintable():
        raise InputError(f"space is {space[:40]!r}, expected a name of 1 to {MAX_SPACE_CHARACTERS} characters")
    facts = Facts(
        hashlib.sha256(f"space {space}".encode()).hexdigest()[:32],
        space,
        check_count(dim, "dim", 1, MAX_DIM),
        space=True,
        words=check_words(options.words),
        normal=NORMAL,
        fields=check_fields(options.fields),
    )
    file = locate(path, must_exist=False)
    if file.exists():
        raise InputError(f"{file} exists; Index.open opens it", path=file, code="output_exists")
    with _connected(file, facts, Models(), options.room(Models()), options) as connections:
        yield connections


@contextmanager
def _connected(
    path: Path, facts: Facts | None, models: Models, room: Room | None, options: OpenOptions
) -> Iterator[Connections]:
    """facts: of the index that is made where there is none"""
    if path.exists():
        check_header(path)  # before a lock file is put beside what is no index
    lock = writer = reader = None
    try:
        if not options.read_only:
            from edge_embed_runtime.storage.create import create_index, remove_leftovers
            from edge_embed_runtime.system.lock import WriterLock

            lock = WriterLock(path, options.timeout)
            remove_leftovers(path)
            if facts is not None and not path.exists():
                create_index(path, facts)
            try:
                writer = Store(path, read_only=False, secure_delete=options.secure_delete)
            except StorageError:  # on a full disk, with what the lock keeps in reserve
                if not lock.give_reserve():
                    raise
                writer = Store(path, read_only=False, secure_delete=options.secure_delete)
        reader = Store(path, read_only=True)
        _check_options(reader, models, options)
        if room is not None:
            room.for_codes(reader.blocks.count(), reader.dim)
        yield Connections(reader, writer, lock, room)
    except BaseException:
        for part in (reader, writer):
            if part is not None:
                part.close()
        if lock is not None:
            lock.release()
        raise


def check_words(words: object) -> str:
    if not isinstance(words, str) or words not in WORDS:
        raise InputError(f"words is {words!r:.40}, expected one of {', '.join(WORDS)}")
    return words


def _check_options(store: Store, models: Models, options: OpenOptions) -> None:
    """Refuse an index of other vectors, or one that was made with other options than those given."""
    path, facts, embedder = store.path, store.facts, models.dense
    made = f"of the space {facts.bundle!r}" if facts.space else f"of the bundle {facts.bundle!r}"
    if embedder is not None and (facts.fingerprint, facts.dim) != (embedder.fingerprint, embedder.dim):
        how = "Open it without an embedder" if facts.space else "Open it with the bundle it was made with"
        if facts.fingerprint == embedder.fingerprint and facts.dim < embedder.dim:
            how = f"Make the embedder with truncate_dim={facts.dim} (--truncate-dim)"
        raise BundleMismatchError(
            f"{path} holds vectors {made} ({facts.fingerprint[:8]}, dim {facts.dim}); "
            f"the embedder is {embedder.name!r} ({embedder.fingerprint[:8]}, dim {embedder.dim}). "
            f"{how}, or embed it again: edge-embed reembed",
            path=path,
            bundle=facts.bundle,
        )
    words, fields, late = options.words, options.fields, options.late_chunking
    if words is not None and check_words(words) != facts.words:
        raise InputError(
            f"{path} was made with words={facts.words!r}; that can't be changed to {words!r}", path=path, option="words"
        )
    if fields is not None and sorted(check_fields(fields)) != sorted(facts.fields):
        raise InputError(
            f"{path} was made with fields={shown(json.dumps(facts.fields))}; that can't be changed",
            path=path,
            option="fields",
        )
    models.check(path, facts)
    if late is not None and late != facts.late:
        raise InputError(
            f"{path} was made with late_chunking={facts.late}; that can't be changed to {late!r}",
            path=path,
            option="late_chunking",
        )
