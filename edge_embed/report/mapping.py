"""A map of documents: their vectors by the two directions in which they differ most."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edge_embed.report.page import key, section
from edge_embed.report.sample import Sample
from edge_embed.report.svg import COLOURS, Axis, Point, scatter
from edge_embed_runtime.errors import FilterError
from edge_embed_runtime.index.index import Index
from edge_embed_runtime.storage.fieldsummary import FieldSummary
from edge_embed_runtime.vectors.types import Vectors

OTHERS, NONE = "others", "none"
LABEL = 80


@dataclass(frozen=True)
class MapOptions:
    """points: the most documents of the map and of other samples
    colour: the metadata field that gives them their colours; "" for one that suits, None for none"""

    points: int = 2000
    colour: str | None = ""


def map_of(index: Index, fields: Sequence[FieldSummary], sample: Sample, options: MapOptions) -> str:
    """Raises FilterError for a colour that no document has."""
    places, kept = project(sample.vectors)
    field = fitting_field(fields) if options.colour == "" else options.colour
    if field and field not in (known := [one.name for one in fields]):
        raise FilterError(f"no document has the field {field!r}; fields are {', '.join(known) or 'none'}", field=field)
    names, groups = _groups(index, sample, field) if field else ([], [0] * len(sample.keys))
    points = [
        Point(float(x), float(y), name[:LABEL], group)
        for (x, y), name, group in zip(places, sample.keys, groups, strict=True)
    ]
    some = "All documents" if len(sample.keys) == sample.of else f"{len(sample.keys):,} of {sample.of:,} documents"
    said = f"{some} by their vectors' first two principal components, which hold {kept:.0%} of the variance."
    coloured = f" Colours: {field}." if field else ""
    plot = scatter(points, Axis("first component", bare=True), Axis("second", bare=True), quiet=True)
    return section("Map of the vectors", said + coloured, key(names), plot)


def project(vectors: Vectors) -> tuple[Vectors, float]:
    """Principal components: float32 [n, 2], and the part of the variance that they hold."""
    centred = (vectors - vectors.mean(axis=0)).astype(np.float64)
    values, directions = np.linalg.eigh(centred.T @ centred)  # the smallest first
    turned = centred @ directions[:, :-3:-1]
    turned *= np.where(turned.sum(axis=0) < 0, -1, 1)  # directions have no sign of their own: this one stays
    total = float(values.sum())
    return turned.astype(np.float32), float(values[-2:].sum()) / total if total > 0 else 0.0


def fitting_field(fields: Sequence[FieldSummary]) -> str | None:
    """The field that most documents have, of those with 2 to 50 values."""
    for field in fields:
        if field.kind in ("text", "boolean", "number") and not field.more and 2 <= len(field.values) <= 50:
            return field.name
    return None


def _groups(index: Index, sample: Sample, field: str) -> tuple[list[str], list[int]]:
    """Names of colours, the commonest value first, and the colour of each document."""
    common = [value.value for value in index.field_values(field, limit=COLOURS - 1)]
    documents = index.get_many(sample.keys)
    held = [None if document is None else document.metadata.get(field) for document in documents]
    last = len(common)
    groups = [common.index(value) if value in common else last for value in held]
    return [*(str(value)[:LABEL] for value in common), *([OTHERS] if last in groups else [])], groups
