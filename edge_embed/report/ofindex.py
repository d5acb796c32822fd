"""The report of an index: what it holds, what finds how well, and a map of its documents."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from edge_embed.report import contents, searching
from edge_embed.report.contents import BEGINNING
from edge_embed.report.mapping import MapOptions, map_of
from edge_embed.report.page import bars, facts, section, table
from edge_embed.report.sample import Sample, take_sample
from edge_embed.report.svg import Axis, scatter
from edge_embed.report.text import cut, in_bytes
from edge_embed_runtime.embed.encoder import Encoder
from edge_embed_runtime.index.index import Index
from edge_embed_runtime.storage.fieldsummary import FieldSummary
from edge_embed_runtime.storage.store import Store

LARGEST = ("key", "characters", "passages", "begins")
# Values of a metadata field that are shown, and characters of each.
COMMON, VALUE = 8, 40
FOR_A_MAP = 3


def index_sections(path: Path, embedder: Encoder | None, options: MapOptions) -> Iterator[str]:
    """embedder: that of the index, to time its largest documents; None leaves that out. Raises IndexFileError for what
    is no index."""
    with Index.open(path, read_only=True) as index, closing(Store(path, read_only=True)) as store:
        stats = index.stats()
        yield section("What it is", "", facts(_what(stats)))
        yield _parts(contents.bytes_by_part(store))
        fields = index.fields()
        yield _fields(fields)
        yield _lengths(store)
        sample = take_sample(index, options.points) if stats["dim"] and len(index) else None
        longest = [[cut(key), *sizes, cut(text, BEGINNING)] for key, *sizes, text in contents.largest(store)]
        yield section("Largest documents", "By characters of text.", table(LARGEST, longest))
        yield _slowest(contents.slowest(store, embedder)) if embedder is not None else ""
        if sample is not None:
            yield _tiers(sample)
            yield _recall(index, sample)
            yield map_of(index, fields, sample, options) if len(sample.keys) >= FOR_A_MAP else ""


def _what(stats: dict[str, Any]) -> dict[str, Any]:
    """The facts of `edge-embed info`, in words."""
    names = {
        "dim": "numbers in a vector",
        "bundle": "space" if stats["space"] else "bundle",
        "fields": "declared fields",
    }
    return {names.get(name, name): value for name, value in stats.items() if name != "space"}


def _parts(parts: dict[str, int]) -> str:
    rows = [(name, size, in_bytes(size)) for name, size in sorted(parts.items(), key=lambda one: -one[1])]
    return section("What takes the space", "", bars(rows))


def _fields(fields: Sequence[FieldSummary]) -> str:
    """The metadata, with the commonest values."""
    rows = []
    for field in fields:
        common = ", ".join(f"{cut(str(value.value), VALUE)} ({value.documents})" for value in field.values[:COMMON])
        more = ", ..." if field.more or len(field.values) > COMMON else ""
        ends = "" if field.least is None else f"{field.least:g} to {field.most:g}"
        rows.append([cut(field.name), field.kind, field.documents, ends, common + more])
    return section("Metadata", "", table(["field", "values are", "documents", "range", "commonest"], rows))


def _lengths(store: Store) -> str:
    rows = [(name, float(count), f"{count:,}") for name, count in contents.lengths(store)]
    return section("Documents by length", "Characters of text.", bars(rows))


def _slowest(rows: list[contents.Slow]) -> str:
    said = "To embed on this machine: the time of their first passages, times the passages they have."
    cells = [[cut(one.key), one.passages, one.seconds * 1000, one.seconds * 1000 * one.passages] for one in rows]
    return section("Slowest documents", said, table(["key", "passages", "ms a passage", "ms in all"], cells))


def _tiers(sample: Sample) -> str:
    points, rows = searching.tiers(sample)
    said = (
        f"Which part of the 10 nearest stays when vectors are stored smaller, among {len(sample.vectors):,} documents. "
        "Binary codes alone, without the second look at int8 that a search has."
    )
    plot = scatter(
        "Quality against bytes", points, Axis("bytes of a vector", log=True), Axis("part that stays", most=1)
    )
    return section(
        "Quality against bytes", said, plot, table(["numbers", "stored as", "bytes", "part that stays"], rows)
    )


def _recall(index: Index, sample: Sample) -> str:
    points, rows = searching.recalls(index, sample)
    said = (
        "Searches by vectors of the index itself, in mode vector: which part of the 10 nearest is found, and the time."
    )
    axes = Axis("milliseconds of a search", log=True), Axis("part that is found", most=1)
    plot = scatter("Quality against speed", points, *axes)
    return section("Quality against speed", said, plot, table(["recall asked for", "part that is found", "ms"], rows))
