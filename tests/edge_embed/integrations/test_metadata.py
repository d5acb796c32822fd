"""What frameworks give as metadata, as an index holds it."""

import enum
from collections import OrderedDict
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import PurePosixPath
from typing import Any
from uuid import UUID

import numpy as np
import pytest

from edge_embed import DocumentError, FilterError
from edge_embed.integrations.metadata import as_stored, stored_metadata
from edge_embed_runtime.storage.filters import compile_where


class Colour(enum.StrEnum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        (None, None),
        (True, True),
        (2**70, 2**70),
        ("tëxt", "tëxt"),
        (Colour.RED, "red"),
        (Level.HIGH, 3),
        (np.int64(-7), -7),
        (np.uint8(7), 7),
        (np.float64(0.1), 0.1),
        (np.float32(0.5), 0.5),
        (np.bool_(True), True),
        (np.str_("word"), "word"),
        (np.array(3), 3),
        (np.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
        (np.array(["a", None], object), ["a", None]),
        (np.datetime64("2024-05-01"), "2024-05-01"),
        (np.array(["2024-05-01T12"], "datetime64[ns]"), ["2024-05-01T12:00:00.000000000"]),
        (date(2024, 5, 1), "2024-05-01"),
        (datetime(2024, 5, 1, 12, tzinfo=UTC), "2024-05-01T12:00:00+00:00"),
        (time(12, 30), "12:30:00"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (PurePosixPath("a/b"), "a/b"),
        ((1, (2, [3, {"x": (np.int32(4),)}])), [1, [2, [3, {"x": [4]}]]]),
        (OrderedDict(a={}, b=[]), {"a": {}, "b": []}),
    ],
)
def test_converted(given: Any, stored: Any) -> None:
    """Values of Python and numpy become those of JSON, of exactly these types, at any depth."""
    found = stored_metadata({"field": given, "nested": {"list": [given]}}, "key")
    assert found == {"field": stored, "nested": {"list": [stored]}}
    assert type(found["field"]) is type(stored)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({1, 2}, "set, which JSON cannot hold: give a list"),
        (frozenset(), "frozenset"),
        (b"bytes", "bytes"),
        (object(), "object, which"),
        (Decimal("0.1"), "Decimal"),
        (timedelta(1), "timedelta"),
        (float("nan"), "nan"),
        (np.float32("inf"), "inf"),
        (np.complex64(1), "complex64"),
        (np.datetime64("NaT"), "NaT"),
        (np.timedelta64(1, "s"), "timedelta64"),
        (lambda: None, "function"),
    ],
)
def test_refused(given: Any, named: str) -> None:
    """What JSON cannot hold is refused by document, field and type."""
    with pytest.raises(DocumentError) as error:
        stored_metadata({"good": 1, "tags": [0, {"name": given}]}, "a key")
    assert "document 'a key': metadata field tags[1].name is " in str(error.value)
    assert named in str(error.value)
    assert error.value.keys == ("a key",)


def test_names_that_are_no_texts() -> None:
    """JSON would turn 1 into "1"."""
    with pytest.raises(DocumentError, match="field 1 in a is named by int"):
        stored_metadata({"a": {1: 2}}, "key")


def test_nested_in_itself() -> None:
    """Endless metadata is refused."""
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(DocumentError, match="nested more than 64 deep"):
        stored_metadata({"a": endless}, "key")


def test_conditions() -> None:
    """Their values become what metadata become, at any place; others stay, for the index to refuse."""
    given = {"$and": [{"day": {"$gte": date(2024, 5, 1)}}, {"n": np.int64(3), "x": {"$in": (np.float32(0.5), None)}}]}
    assert as_stored(given) == {"$and": [{"day": {"$gte": "2024-05-01"}}, {"n": 3, "x": {"$in": [0.5, None]}}]}
    odd = {"a": {1, 2}, "b": {"$lt": float("inf")}}
    assert as_stored(odd) == odd
    deep: Any = {"a": 1}
    for _ in range(5_000):
        deep = {"$not": deep}
    with pytest.raises(FilterError, match="nested more than 8 dicts deep"):
        compile_where(as_stored(deep))


def test_whole_metadata() -> None:
    """None stands for none; what is given is not changed; a list is no metadata."""
    assert stored_metadata(None, "key") == {}
    given = {"tags": [(1, 2)]}
    stored_metadata(given, "key")["tags"][0].append(3)
    assert given == {"tags": [(1, 2)]}
    with pytest.raises(DocumentError, match="metadata is list, expected a dict"):
        stored_metadata([("a", 1)], "key")
