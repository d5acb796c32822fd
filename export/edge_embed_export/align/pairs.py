"""Pairs of a picture, or a sound, and what it is called: read, and split into parts that share no caption."""

import csv
import hashlib
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from edge_embed_runtime.errors import SourceError
from edge_embed_runtime.system.files import open_unpacked

# What the columns, or keys, may be called; the first that is there counts.
PATHS = ("path", "file", "image", "audio")
CAPTIONS = ("captions", "caption", "text")
GROUP = "group"
# Fewer distinct captions teach nothing that others could be found by.
LEAST_GROUPS = 20


@dataclass(frozen=True)
class Pair:
    """A file and its captions, the first one before all.

    group: pairs of one group are never apart: all of them train, or none
    """

    path: Path
    captions: tuple[str, ...]
    group: str


class Parts(NamedTuple):
    """Places of pairs: what trains, and what the figures are measured on."""

    train: list[int]
    held_out: list[int]


def read_pairs(path: str | Path) -> list[Pair]:
    """Pairs of a file .jsonl, .jsonl.gz or .csv.

    A row has a file (`path`, `file`, `image` or `audio`; relative to the file of pairs), a `caption`, `text`, or list
    of `captions`, and if you like a `group`: other names of the same thing, which must not be learnt from one and
    measured on the other. Without it, pairs of the same first caption are a group.

    Raises SourceError that names the line.
    """
    path = Path(path)
    pairs = []
    try:
        with open_unpacked(path) as raw, io.TextIOWrapper(raw, "utf-8", newline="") as file:
            names = path.name.removesuffix(".gz")
            for line, row in _csv(file) if names.endswith(".csv") else _jsonl(file, path):
                pairs.append(_pair(row, path, line))
    except (UnicodeDecodeError, csv.Error, EOFError, OSError) as error:
        raise SourceError(f"{path}: {error}", path=path) from error
    groups = len({pair.group for pair in pairs})
    if groups < LEAST_GROUPS:
        raise SourceError(
            f"{path} has {len(pairs)} pairs with {groups} different captions; at least {LEAST_GROUPS} are needed, "
            "some hundreds to be of use",
            path=path,
        )
    return pairs


def _jsonl(file: io.TextIOWrapper, path: Path) -> Iterator[tuple[int, Any]]:
    for line, text in enumerate(file, start=1):
        if text.strip():
            try:
                yield line, json.loads(text)
            except (ValueError, RecursionError) as error:
                raise SourceError(f"{path}, line {line}: {error}", path=path, line=line) from error


def _csv(file: io.TextIOWrapper) -> Iterator[tuple[int, Any]]:
    rows = csv.DictReader(file)
    for row in rows:
        yield rows.line_num, row


def _pair(row: object, source: Path, line: int) -> Pair:
    where = f"{source}, line {line}"
    if not isinstance(row, Mapping):
        raise SourceError(f"{where}: expected an object", path=source, line=line)
    file = next((row[name] for name in PATHS if row.get(name)), None)
    said = next((row[name] for name in CAPTIONS if row.get(name)), None)
    captions = [said] if isinstance(said, str) else said
    if not isinstance(file, str) or not isinstance(captions, list) or not all(isinstance(c, str) for c in captions):
        raise SourceError(f"{where}: expected a path and a caption", path=source, line=line)
    captions = [text.strip() for text in captions if text.strip()]
    if not captions:
        raise SourceError(f"{where}: the caption is empty", path=source, line=line)
    group = row.get(GROUP) or captions[0].casefold()
    return Pair(source.parent / file, tuple(captions), str(group))


def split_pairs(pairs: Sequence[Pair], share: float, seed: int) -> Parts:
    """Whole groups, in an order that the seed and their names decide: the first `share` of them are held out, and
    the others train."""
    groups = sorted(
        {pair.group for pair in pairs}, key=lambda group: hashlib.sha256(f"{seed} {group}".encode()).digest()
    )
    count = max(1, round(share * len(groups)))
    place = {group: i for i, group in enumerate(groups)}
    parts = Parts([], [])
    for number, pair in enumerate(pairs):
        (parts.held_out if place[pair.group] < count else parts.train).append(number)
    return parts
