"""A map of documents: their vectors by the two directions in which they differ most."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edge_embed.report.page import key, section
from edge_embed.report.sample import Sample
from edge_embed.report.svg import COLOURS, Axis, Point, scatter
from edge_embed.report.text import cut
from edge_embed_runtime.errors import FilterError
from edge_embed_runtime.index.index import Index
from edge_embed_runtime.storage.documents import Document
from edge_embed_runtime.storage.fieldsummary import FieldSummary
from edge_embed_runtime.vectors.types import Vectors

OTHERS = "others, or none"
# Documents in memory, whose texts may be long.
AT_ONCE = 50


@dataclass(frozen=True)
class MapOptions:
    """points: the most documents of the map and of other samples
    colour: the metadata field that gives them their colours; None for one that suits"""

    points: int = 2000
    colour: str | None = None


def map_of(index: Index, fields: Sequence[FieldSummary], sample: Sample, options: MapOptions) -> str:
    """Raises FilterError for a colour that no document has."""
    places, kept = project(sample.vectors)
    field = fitting_field(fields) if options.colour is None else options.colour
    if field is not None and field not in (known := [one.name for one in fields]):
        raise FilterError(f"no document has the field {field!r}; fields are {', '.join(known) or 'none'}", field=field)
    names, groups = _groups(_values(index, sample, field))
    points = [
        Point(float(x), float(y), cut(name), group)
        for (x, y), name, group in zip(places, sample.keys, groups, strict=True)
    ]
    some = "All documents" if len(sample.keys) == sample.of else f"{len(sample.keys):,} of {sample.of:,} documents"
    said = f"{some} by their vectors' first two principal components, which hold {kept:.0%} of the variance."
    coloured = f" Colours: {field or 'texts, pictures, sounds'}." if names else ""
    plot = scatter(
        "Map of the vectors", points, Axis("first component", bare=True), Axis("second", bare=True), quiet=True
    )
    return section("Map of the vectors", said + coloured, key(names), plot)


def project(vectors: Vectors) -> tuple[Vectors, float]:
    """Principal components: float32 [n, 2], and the part of the variance that they hold."""
    centred = (vectors - vectors.mean(axis=0)).astype(np.float64)
    values, directions = np.linalg.eigh(centred.T @ centred)  # the smallest first
    turned = np.zeros((len(vectors), 2))
    turned[:, : values.size] = centred @ directions[:, :-3:-1]
    turned *= np.where(turned.sum(axis=0) < 0, -1, 1)  # directions have no sign of their own: this one stays
    total = float(values.sum())
    return turned.astype(np.float32), float(values[-2:].sum()) / total if total > 0 else 0.0


def fitting_field(fields: Sequence[FieldSummary]) -> str | None:
    """The field that most documents have, of those with 2 to 50 values."""
    for field in fields:
        if field.kind in ("text", "boolean", "number") and not field.more and 2 <= len(field.values) <= 50:
            return field.name
    return None


def _values(index: Index, sample: Sample, field: str | None) -> list[str | None]:
    """A field's value in each document, None where there is none; without a field what the document is."""
    values: list[str | None] = []
    for start in range(0, len(sample.keys), AT_ONCE):
        for document in index.get_many(sample.keys[start : start + AT_ONCE]):
            values.append(None if document is None else _value(document, field))
    return values


def _value(document: Document, field: str | None) -> str | None:
    if field is None:
        return "picture" if document.image else "sound" if document.audio else "text"
    value = document.metadata.get(field)
    if value is None:
        return None
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _groups(values: Sequence[str | None]) -> tuple[list[str], list[int]]:
    """Names of colours, the commonest value first, and the colour of each document. No names for a single colour."""
    common = [name for name, _ in Counter(filter(None, values)).most_common(COLOURS - 1)]
    colours = {name: colour for colour, name in enumerate(common)}
    groups = [colours.get(value or "", len(common)) for value in values]
    names = [*map(cut, common), *([OTHERS] if len(common) in groups else [])]
    return (names, groups) if len(names) > 1 else ([], [0] * len(groups))
