import json
import sqlite3
from typing import Any

import pytest

from edge_embed_runtime.errors import FilterError
from edge_embed_runtime.filters import compile_where


def fits(metadata: list[dict[str, Any]], where: dict[str, Any]) -> list[int]:
    """Positions of the documents that a `where` lets through."""
    db = sqlite3.connect(":memory:")
    try:
        db.execute("CREATE TABLE doc (id INTEGER PRIMARY KEY, metadata TEXT NOT NULL)")
        rows = [(i, json.dumps(m, ensure_ascii=False)) for i, m in enumerate(metadata)]
        db.executemany("INSERT INTO doc VALUES (?, ?)", rows)
        condition, parameters = compile_where(where)
        found = db.execute(f"SELECT id FROM doc WHERE {condition} ORDER BY id", parameters)
        return [id_ for (id_,) in found]
    finally:
        db.close()


VALUES = ["en", "", "1", "true", "null", 1, 1.0, 0, -2.5, 2**53 + 1, True, False, None, ["en"], {"en": 1}]


@pytest.mark.parametrize("value", [value for value in VALUES if not isinstance(value, list | dict)])
def test_a_value_fits_its_own_kind(value: str | float | None) -> None:
    """Text fits text, a number any equal number, a bool a bool and None null: '1', 1 and true are three values."""

    def kind(v: object) -> type:
        return float if isinstance(v, int | float) and not isinstance(v, bool) else type(v)

    expected = [i for i, v in enumerate(VALUES) if kind(v) is kind(value) and v == value]
    assert fits([{"field": v} for v in VALUES], {"field": value}) == expected
    assert expected


def test_none_is_not_a_missing_field() -> None:
    """None fits a field that is null; a document without the field fits nothing."""
    assert fits([{"other": 1}, {"lang": None}, {}], {"lang": None}) == [1]


@pytest.mark.parametrize("number", [2**63 - 1, -(2**63), 2**63, 2**70, 1e300, 0.1])
def test_numbers_at_the_edges(number: float) -> None:
    """Numbers fit themselves beyond the whole numbers of SQLite too."""
    assert fits([{"n": 1}, {"n": number}], {"n": number}) == [1]


def test_whole_numbers_are_compared_exactly() -> None:
    """Whole numbers that are equal as floats are still two numbers."""
    assert fits([{"n": 2**53}, {"n": 2**53 + 1}], {"n": 2**53 + 1}) == [1]


def test_several_fields_must_all_fit() -> None:
    """A document has to fit every field of the dict."""
    documents = [{"lang": "en", "year": 2020}, {"lang": "en", "year": 2021}, {"lang": "de", "year": 2020}, {}]
    assert fits(documents, {"lang": "en", "year": 2020.0}) == [0]
    assert fits(documents, {"year": 2020}) == [0, 2]
    assert fits(documents, {"lang": "en", "year": None}) == []


ODD_NAMES = ["a.b", "$", "$.a", "[0]", "a[0]", "a b", "", "#-1", "größe", "言語", "😀", "it's", "a]b", "%", "?"]


@pytest.mark.parametrize("name", [*ODD_NAMES, 'a"b', "a\\b", "a\nb", "\t"])
def test_odd_names_are_names(name: str) -> None:
    """A field name is taken literally, never as a path or as SQL."""
    documents: list[dict[str, Any]] = [{name: 1}, {"a": {"b": 1}}, {"a": [1]}, {"x": 1}, {name: 2}]
    assert fits(documents, {name: 1}) == [0]


@pytest.mark.parametrize("text", ["it's", '"', "x' OR 1 --", "\\", "line\nline", "größe", "😀", "%"])
def test_odd_values_are_values(text: str) -> None:
    """A text is compared literally."""
    assert fits([{"x": "x"}, {"x": text}], {"x": text}) == [1]


@pytest.mark.parametrize("where", [{}, [], [("lang", "en")], "lang", None, 1, {"lang"}])
def test_where_must_be_a_dict_with_a_field(where: Any) -> None:
    """Anything but a dict is refused, and so is the empty dict."""
    with pytest.raises(FilterError, match="expected a dict"):
        compile_where(where)


@pytest.mark.parametrize(
    "value", [["en"], ("en",), {}, b"en", 1j, float("nan"), float("inf"), 10**400, "a\x00b", "\ud800"]
)
def test_other_values_are_refused(value: object) -> None:
    """The message names the field; what SQLite would compare wrongly is refused like what it cannot compare."""
    with pytest.raises(FilterError, match="'lang'"):
        compile_where({"year": 2020, "lang": value})


@pytest.mark.parametrize("name", ["a\x00b", "\ud800", 1, None, ("a",)])
def test_what_is_no_field_name_is_refused(name: Any) -> None:
    """A name with NUL, a lone surrogate, or that is not a str."""
    with pytest.raises(FilterError, match="field name"):
        compile_where({name: 1})


def test_too_many_fields_are_refused() -> None:
    """SQLite's limits are not the user's problem."""
    with pytest.raises(FilterError, match="1 to 64 fields"):
        compile_where({f"f{i}": i for i in range(65)})
