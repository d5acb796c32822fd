"""How an index is opened or made: its options, what they ask of the file, and what an Index then consists of."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from edge_embed_runtime.checks import check_count, check_text, shown, unusable
from edge_embed_runtime.errors import BundleMismatchError, IndexFileError, InputError
from edge_embed_runtime.index.connections import Connections
from edge_embed_runtime.index.embedders import Models
from edge_embed_runtime.inputs.words import NORMAL
from edge_embed_runtime.storage.database import check_header, locate
from edge_embed_runtime.storage.schema import WORDS, Facts, check_fields
from edge_embed_runtime.storage.store import Store
from edge_embed_runtime.system.headroom import Room
from edge_embed_runtime.system.memory import check_limit

if TYPE_CHECKING:  # readers do without
    from edge_embed_runtime.index.writer import Writer

MAX_DIM = 2**16
MAX_SPACE_CHARACTERS = 256
# Seconds that an operation waits for those of others, where writers take turns.
TURN_SECONDS = 60.0


@dataclass(frozen=True)
class OpenOptions:
    """See `Index.open`. words, fields and late_chunking are those of a new index; None fits any that is there."""

    read_only: bool = False
    shared: bool = False
    timeout: float | None = None
    words: str | None = None
    fields: Sequence[str] | None = None
    late_chunking: bool | None = None
    max_rss_mb: float | None = None
    secure_delete: bool = False

    @property
    def seconds(self) -> float:
        """To wait for another writer."""
        if self.timeout is None:
            return TURN_SECONDS if self.shared else 0.0
        return self.timeout


def facts_of_models(models: Models, options: OpenOptions) -> Facts | None:
    """What a new index would be; None without any model."""
    facts = models.facts(check_words(options.words or "english"), check_fields(options.fields or []))
    if options.late_chunking and facts is not None:
        from edge_embed_runtime.passages.late import check_late

        check_late(models.first)
        facts = replace(facts, late=True)
    return facts


def space_fingerprint(space: str) -> str:
    """What stands in a space's index where that of a bundle has the bundle's fingerprint."""
    return hashlib.sha256(f"space {space}".encode()).hexdigest()[:32]


def facts_of_space(space: str, dim: int, options: OpenOptions) -> Facts:
    """What a new index of vectors from elsewhere is."""
    if not check_text(space, "space").strip() or len(space) > MAX_SPACE_CHARACTERS or not space.isprintable():
        raise unusable("space", space, f"a name of 1 to {MAX_SPACE_CHARACTERS} characters")
    return Facts(
        space_fingerprint(space),
        space,
        check_count(dim, "dim", 1, MAX_DIM),
        space=True,
        words=check_words(options.words),
        normal=NORMAL,
        fields=check_fields(options.fields),
    )


@contextmanager
def connected(
    file: object, facts: Facts | None, models: Models, options: OpenOptions, *, new: bool = False
) -> Iterator[Connections]:
    """The connections of an index, closed where the block fails.

    facts: of the index that is made where there is none
    new:   whether there must be none yet
    """
    limit = check_limit(options.max_rss_mb)
    room = None if limit is None else Room(limit, models.peak)
    path = locate(file, must_exist=options.read_only)
    if new and path.exists():
        raise InputError(f"{path} exists; Index.open opens it", path=path, code="output_exists")
    if facts is None and not path.exists():
        raise IndexFileError(
            f"{path} does not exist; a new index needs the embedder of its vectors, or Index.create makes one for "
            "vectors that you have",
            path=path,
            code="index_missing",
        )
    if path.exists():
        check_header(path)  # before a lock file is put next to what is no index
    writer = reader = None
    try:
        if not options.read_only:
            writer = _writer(path, facts, options)
        reader = Store(path, read_only=True)
        _check_options(reader, models, options)
        if room is not None:
            room.for_codes(reader.blocks.count(), reader.dim)
        if writer is not None:
            writer.opened()
        yield Connections(reader, writer, room)
    except BaseException:
        for part in (reader, writer):
            if part is not None:
                part.close()
        raise


def _writer(path: Path, facts: Facts | None, options: OpenOptions) -> "Writer":
    """Who writes, open; the index is made where there is none."""
    from edge_embed_runtime.index.writer import SharedWriter, Writer
    from edge_embed_runtime.storage.create import create_index, remove_leftovers

    writer = (SharedWriter if options.shared else Writer)(path, options.seconds, options.secure_delete)
    try:
        remove_leftovers(path)
        if facts is not None and not path.exists():
            create_index(path, facts)
        writer.open()
    except BaseException:
        writer.close()
        raise
    return writer


def check_words(words: object) -> str:
    if not isinstance(words, str) or words not in WORDS:
        raise unusable("words", words, f"one of {', '.join(WORDS)}")
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
