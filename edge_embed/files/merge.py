"""Files of vectors, and indexes made apart, merged to one index."""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import cast

from edge_embed.files import shards
from edge_embed.files.arrow import SUFFIXES
from edge_embed.files.mergeshards import ShardPart
from edge_embed_runtime.checks import check_path
from edge_embed_runtime.errors import InputError, SourceError
from edge_embed_runtime.maintenance.merge import Merged, MergeOptions, merge
from edge_embed_runtime.maintenance.mergeparts import IndexPart, Part
from edge_embed_runtime.maintenance.mergesurvey import OnDuplicate, check_choice
from edge_embed_runtime.storage.database import locate
from edge_embed_runtime.storage.store import Store

# Indexes are open all the while, some files each; shards are opened one after the other.
MAX_INDEXES = 128


def merge_indexes(
    out: str | os.PathLike[str],
    inputs: Iterable[str | os.PathLike[str]],
    *,
    on_duplicate: OnDuplicate = "error",
    words: str | None = None,
    fields: Sequence[str] | None = None,
    timeout: float = 0.0,
    show_progress: bool = False,
) -> Merged:
    """Store all documents of several files and indexes in the index `out`, with the vectors that they have.

    out:          made where it is missing: it appears when it is whole and on disk. To an index that is there all is
                  added in one transaction. It is written whole or not at all, whenever the process ends
    inputs:       indexes, which others may write to meanwhile: what was committed when this began is taken; shards of
                  `edge-embed bulk`, and files of given vectors that `dump_vectors` wrote (extra `arrow`); folders of
                  such files. All must have vectors of one bundle or space, of the same dim, and made in the same way
    on_duplicate: for keys that have different documents in several inputs, or in `out`: "error", or the "first" or
                  "last" is taken, where `out` comes first. A document that is the same in all is stored once
    words, fields: see `Index.create`; None for those of the indexes among the inputs
    timeout:      seconds to wait for another that writes to `out`

    Vectors of indexes are copied bit for bit; those of files become int8 as `Index.add` stores them. Keys of documents
    that come from files, and paths of pictures and sounds, are named from the root of `out`: the one it has, or all
    inputs have, or the folder of `out`.

    Memory does not grow with the number of documents. All inputs are read twice. Raises, before anything is written,
    SourceError and IndexDamagedError for an input that is not whole, BundleMismatchError for vectors of another model,
    DuplicateKeyError (`keys`), InputError, IndexLockedError where another writes to `out`, MissingExtraError where
    pyarrow is needed and missing; StorageError for a full disk.
    """
    options = MergeOptions(check_choice(on_duplicate), words, _tuple(fields), timeout, show_progress)
    target = locate(out, must_exist=False)
    paths = _paths(inputs, target)
    indexes = sum(path.suffix.lower() not in SUFFIXES for path in paths)
    if indexes > MAX_INDEXES:
        raise InputError(f"{indexes} indexes at once, expected at most {MAX_INDEXES}: merge them in several steps")
    with ExitStack() as stack:
        return merge(target, [_part(path, stack) for path in paths], options)


def _tuple(fields: Sequence[str] | None) -> tuple[str, ...] | None:
    return None if fields is None else tuple([fields] if isinstance(fields, str) else fields)


def _paths(inputs: Iterable[str | os.PathLike[str]], out: Path) -> list[Path]:
    """The files to merge, each once. Raises InputError for one that is given twice, and for `out` itself."""
    if isinstance(inputs, str | bytes | os.PathLike) or not isinstance(inputs, Iterable):
        raise InputError(f"inputs is {inputs!r}, expected a list of paths", option="inputs")
    found: dict[tuple[int, int], Path] = {}
    for given in inputs:
        checked = check_path(given, "an input")
        for path in _files(Path(cast("str", given))) if checked.is_dir() else [checked]:
            if not path.exists():
                raise SourceError(f"{path} does not exist", path=path, code="source_missing")
            status = path.stat()
            if out.exists() and path.samefile(out):
                raise InputError(f"{path} is the output itself; give the others alone to add to it", path=path)
            other = found.setdefault((status.st_dev, status.st_ino), path)
            if other is not path:
                same = "" if other == path else f", as {other}"
                raise InputError(f"{path} is given twice{same}", path=path)
    return list(found.values())


def _files(folder: Path) -> Iterator[Path]:
    """The shards of a bulk run; else the files of vectors in a folder, by name."""
    if shards.read_plan(folder) is not None:
        yield from _shards(folder)
        return
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file())
    if not files:
        raise SourceError(f"{folder} has no files {' or '.join(SUFFIXES)}", path=folder)
    yield from files


def _shards(folder: Path) -> Iterator[Path]:
    """Raises SourceError where the run has not ended, or a shard is not as it was written."""
    if left := shards.unfinished(folder):
        raise SourceError(
            f"{folder}: {left} shards are not finished: run `edge-embed bulk` again to finish them, or give the files "
            "that are there",
            path=folder,
        )
    for one in shards.finished(folder):
        path = folder / one.name
        if not path.is_file() or path.stat().st_size != one.bytes:
            what = "is cut off, or another file" if path.is_file() else "is missing"
            raise SourceError(f"{path} {what}: run `edge-embed bulk` again", path=path)
        yield path


def _part(path: Path, stack: ExitStack) -> Part:
    if path.suffix.lower() in SUFFIXES:
        return ShardPart(path)
    store = stack.enter_context(closing(Store(locate(path, must_exist=True), read_only=True)))
    stack.enter_context(store.snapshot())
    return IndexPart(store)
