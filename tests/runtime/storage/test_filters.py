"""filters.py: what each operator lets through, and what is refused."""

import itertools
import json
import random
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_embed import Document, Embedder, Index
from edge_embed_runtime.errors import FilterError
from edge_embed_runtime.search.query import Mode
from edge_embed_runtime.storage.filters import (
    MAX_CHARACTERS,
    MAX_CONDITIONS,
    MAX_FIELDS,
    MAX_NESTING,
    MAX_VALUES,
    OPERATORS,
    compile_where,
    field_value,
    named_fields,
)


def fits(
    metadata: list[dict[str, Any]],
    where: dict[str, Any],
    keys: Sequence[str] | None = None,
    declared: Sequence[str] = (),
) -> list[int]:
    """Positions of the documents that a `where` lets through."""
    db = sqlite3.connect(":memory:")
    try:
        db.execute("CREATE TABLE doc (id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, metadata TEXT NOT NULL)")
        names = keys or [str(i) for i in range(len(metadata))]
        rows = [(i, names[i], json.dumps(m, ensure_ascii=False)) for i, m in enumerate(metadata)]
        db.executemany("INSERT INTO doc VALUES (?, ?, ?)", rows)
        condition, parameters = compile_where(where, declared)
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


def test_objects_in_metadata() -> None:
    """`$has` asks for the fields of an object, as deep as conditions may be nested, in any company."""
    places: list[dict[str, Any]] = [
        {"at": {"hour": 9, "town": {"name": "Ulm"}}},
        {"at": {"hour": 20, "$key": 1}},
        {"at": "hour"},
        {"at": [{"hour": 9}]},
        {"hour": 9},
        {"at": {"hour": None, "it's a.b": True}},
    ]
    assert fits(places, {"at": {"$has": {"hour": {"$lt": 12}}}}) == [0]
    assert fits(places, {"at": {"$has": {"hour": {"$gt": 8}, "$not": {"town": {"$has": {"name": "Ulm"}}}}}}) == [1]
    assert fits(places, {"at": {"$has": {"hour": {"$ne": 9}}}}) == [1, 5]
    assert fits(places, {"$not": {"at": {"$has": {"hour": {"$exists": True}}}}}) == [2, 3, 4]
    assert fits(places, {"at": {"$has": {"it's a.b": True}}}, declared=["at", "hour"]) == [5]
    pairs = [itertools.product(("$has", other), repeat=MAX_NESTING - 1) for other in ("$not", "$or")]
    for kinds in itertools.chain(*pairs):
        inner, where = {"a": 1}, {"a": {"$in": [1, None, "x"]}}
        for kind in kinds:
            where = (
                {"a": {"$has": where}} if kind == "$has" else {"$not": where} if kind == "$not" else {"$or": [where]}
            )
            inner = {"a": inner} if kind == "$has" else inner
        assert fits([inner], where) == ([] if kinds.count("$not") % 2 else [0])
    for wrong, message in (
        ({"at": {"$has": {}}}, "[$]has of 'at' is {}, expected a dict"),
        ({"at": {"$has": "hour"}}, "[$]has of 'at' is 'hour', expected a dict"),
        ({"at": {"$has": {"$key": "a"}}}, "'[$]key' is no operator that can stand here"),
        ({"$key": {"$has": {"a": 1}}}, "'[$]has' on '[$]key' is no operator"),
    ):
        with pytest.raises(FilterError, match=message):
            compile_where(wrong)


def test_too_many_fields_are_refused() -> None:
    """SQLite's limits are not the user's problem."""
    with pytest.raises(FilterError, match="1 to 64 fields"):
        compile_where({f"f{i}": i for i in range(65)})


# One field, every kind of value, and a document without it (the last).
KINDS: list[dict[str, Any]] = [
    *({"f": v} for v in (1, 2, 2.5, 3.0, -1, "1", "2", "a", "b", "", True, False, None, [1], ["a"], {"a": 1})),
    {"g": 1},
]
EVERY_KIND = list(range(len(KINDS)))


def without(*positions: int) -> list[int]:
    return [i for i in EVERY_KIND if i not in positions]


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ({"$eq": 1}, [0]),
        ({"$eq": 3}, [3]),
        ({"$eq": "1"}, [5]),
        ({"$eq": None}, [12]),
        ({"$ne": 1}, without(0)),
        ({"$ne": "a"}, without(7)),
        ({"$ne": True}, without(10)),
        ({"$ne": None}, without(12)),
        ({"$gt": 2}, [2, 3]),
        ({"$gte": 2}, [1, 2, 3]),
        ({"$lt": 2}, [0, 4]),
        ({"$lte": 2.0}, [0, 1, 4]),
        ({"$gt": -(10**300)}, [0, 1, 2, 3, 4]),
        ({"$lt": 10**300}, [0, 1, 2, 3, 4]),
        ({"$gte": ""}, [5, 6, 7, 8, 9]),
        ({"$gt": "2"}, [7, 8]),
        ({"$lt": "a"}, [5, 6, 9]),
        ({"$gt": 1, "$lt": 3}, [1, 2]),
        ({"$gt": 1, "$lt": "a"}, []),
        ({"$gte": 1, "$ne": 2}, [0, 2, 3]),
        ({"$in": [1, "a", None, True]}, [0, 7, 10, 12]),
        ({"$in": (3, 3.0)}, [3]),
        ({"$in": []}, []),
        ({"$nin": []}, EVERY_KIND),
        ({"$nin": [1, "a", False]}, without(0, 7, 11)),
        ({"$prefix": ""}, [5, 6, 7, 8, 9]),
        ({"$prefix": "a"}, [7]),
        ({"$exists": True}, without(16)),
        ({"$exists": False}, [16]),
        ({"$exists": True, "$nin": [None]}, without(12, 16)),
    ],
)
def test_operators(condition: dict[str, Any], expected: list[int]) -> None:
    """Numbers are compared with numbers and text with text; $ne and $nin are the exact opposites of $eq and $in."""
    assert fits(KINDS, {"f": condition}) == expected
    assert fits(KINDS, {"$not": {"f": condition}}) == without(*expected)


def test_empty_list_is_a_value() -> None:
    """Of lists the empty one alone: no text that looks like it, no list with one in it."""
    documents: list[dict[str, Any]] = [{"f": []}, {"f": [[]]}, {"f": [1]}, {"f": "[]"}, {"f": {}}, {"f": None}, {}]
    for declared in ([], ["f"]):
        assert fits(documents, {"f": []}, declared=declared) == [0]
        assert fits(documents, {"f": ()}, declared=declared) == [0]
        assert fits(documents, {"f": {"$ne": []}}, declared=declared) == [1, 2, 3, 4, 5, 6]
        assert fits(documents, {"f": {"$in": [[], None, "[]"]}}, declared=declared) == [0, 3, 5]
        assert fits(documents, {"f": {"$nin": [[], None]}}, declared=declared) == [1, 2, 3, 4, 6]
    for condition in ({"$contains": []}, {"$gt": []}, {"$in": [[1]]}):
        with pytest.raises(FilterError, match="'f'"):
            compile_where({"f": condition})
    with pytest.raises(FilterError, match="key is compared with"):
        compile_where({"$key": []})


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ({"$and": [{"f": {"$gte": 1}}, {"f": {"$lt": 3}}]}, [0, 1, 2]),
        ({"$or": [{"f": 1}, {"f": "a"}, {"g": 1}]}, [0, 7, 16]),
        ({"$or": [{"f": 1}]}, [0]),
        ({"$not": {"f": {"$exists": True}}}, [16]),
        ({"$not": {"$not": {"f": 1}}}, [0]),
        ({"$not": {"f": {"$gte": 1}, "g": {"$exists": False}}}, without(0, 1, 2, 3)),
        ({"f": {"$gt": 0}, "$or": [{"f": 1}, {"f": 2}], "$not": {"f": 2}}, [0]),
        ({"$or": [{"$and": [{"f": 1}, {"g": 1}]}, {"f": 2}]}, [1]),
        ({"$or": [{"f": 1, "g": 1}, {"f": 2}], "g": {"$exists": False}}, [1]),
    ],
)
def test_conditions_combine(where: dict[str, Any], expected: list[int]) -> None:
    """$and, $or and $not, one inside the other and beside fields."""
    assert fits(KINDS, where) == expected


ODD_KEYS = [
    "notes/1",
    "notes/",
    "notes",
    "Notes/1",
    "n_tes/1",
    "notes%",
    "\U0010ffff",
    "\U0010ffffx",
    "\ud7ff",
    "\ue000",
    "ü",
    "u\u0308",
]


@pytest.mark.parametrize(
    "prefix", ["notes/", "n_", "notes%", "N", "\U0010ffff", "\ud7ff", "u", "ü", "", "notes/12", "_", "%"]
)
def test_prefix_is_taken_to_the_letter(prefix: str) -> None:
    """No character is a wildcard, letter case counts, and the last code points have no successor to stumble over."""
    expected = [i for i, key in enumerate(ODD_KEYS) if key.startswith(prefix)]
    metadata: list[dict[str, Any]] = [{"title": key} for key in ODD_KEYS]
    assert fits(metadata, {"$key": {"$prefix": prefix}}, ODD_KEYS) == expected
    assert fits(metadata, {"title": {"$prefix": prefix}}) == expected


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("a", [0]),
        ({"$in": ["b", "x"]}, [1]),
        ({"$ne": "a"}, [1, 2]),
        ({"$gte": "b"}, [1, 2]),
        ({"$nin": []}, [0, 1, 2]),
    ],
)
def test_key_is_no_field(condition: Any, expected: list[int]) -> None:
    """$key asks for the document's key, "key" for a field of that name."""
    metadata: list[dict[str, Any]] = [{"key": "z"}, {"key": "a"}, {}]
    assert fits(metadata, {"$key": condition}, ["a", "b", "c"]) == expected
    assert fits(metadata, {"key": "a"}, ["a", "b", "c"]) == [1]


def test_text_ranges_go_by_code_point() -> None:
    """As Python compares, not UTF-16: the emoji is above the last character of the basic plane."""
    texts = ["", "A", "Z", "a", "z", "é", "\ud7ff", "\ue000", "\uffff", "😀", "\U0010ffff", "a\ufffd"]
    for bound in texts:
        expected = [i for i, text in enumerate(texts) if text < bound]
        assert fits([{"x": text} for text in texts], {"x": {"$lt": bound}}) == expected


def test_numbers_have_no_gaps() -> None:
    """Neighbouring whole numbers of 64 bits and neighbouring floats are told apart by ranges and by $in."""
    numbers = [2**53, 2**53 + 1, 2**63 - 2, 2**63 - 1, -(2**63), 0.1, 0.1 + 2**-56, 5e-324, 1e300, -1.7976931348623e307]
    documents: list[dict[str, Any]] = [{"n": n} for n in numbers]
    for bound in numbers:
        assert fits(documents, {"n": {"$gte": bound}}) == [i for i, n in enumerate(numbers) if n >= bound]
        assert fits(documents, {"n": {"$in": [bound, 7]}}) == [numbers.index(bound)]
    assert fits([{"n": 2**63}, {"n": 2**63 - 1}], {"n": {"$gt": 2**63 - 1}}) == [0]


def test_nul_in_metadata_counts_as_a_replacement_character() -> None:
    r"""Whatever SQLite makes of it: "a", NUL, "b" is not "a"; text that only looks like an escaped NUL is itself."""
    texts = ["a\x00b", "a", "a\\u0000b", "\\", "\\\x00", "a\ufffdb"]
    documents: list[dict[str, Any]] = [{"x": text, "y": "\x00"} for text in texts]
    for text in ("a", "a\\u0000b", "\\"):
        assert fits(documents, {"x": text}) == [texts.index(text)]
    assert fits(documents, {"x": "a\ufffdb"}) == [0, 5]
    assert fits(documents, {"x": {"$prefix": "\\"}}) == [3, 4]


DEEP: dict[str, Any] = {"f": 1}
for _ in range(MAX_NESTING - 1):
    DEEP = {"a": 1, "$or": [{"f": 1}, DEEP]}
CIRCLE: dict[str, Any] = {}
CIRCLE["$and"] = [CIRCLE, CIRCLE]
PIT: Any = 1
for _ in range(100_000):
    PIT = [PIT]


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ({"f": {"$foo": 1}}, r"'\$foo' on 'f' is no operator; known: \$eq, .*\$exists"),
        ({"f": {"gte": 1}}, r"'gte' on 'f' is no operator"),
        ({"f": {"$gte": 1, "x": 1}}, r"'x' on 'f' is no operator"),
        ({"f": {1: 1}}, r"1 on 'f' is no operator"),
        ({"f": {"$not": {"$gt": 1}}}, r"'\$not' on 'f' is no operator"),
        ({"$gte": 1}, r"'\$gte' is no operator that can stand here; .*\$and, \$or, \$not, \$key"),
        ({"$nor": [{"f": 1}]}, r"'\$nor' is no operator"),
        ({"f": {}}, r"condition on 'f' is \{\}, expected operators"),
        ({"$and": []}, r"\$and is \[\], expected a list of one or more"),
        ({"$or": []}, r"\$or is \[\]"),
        ({"$or": {"f": 1}}, r"\$or is \{'f': 1\}, expected a list"),
        ({"$or": "f"}, r"\$or is 'f'"),
        ({"$or": [{"f": 1}, "f"]}, r"\$or\[1\] is 'f', expected a dict"),
        ({"$and": [{}]}, r"\$and\[0\] is \{\}, expected a dict"),
        ({"$not": [{"f": 1}]}, r"\$not is \[.*expected a dict"),
        ({"$not": {}}, r"\$not is \{\}"),
        ({"f": {"$in": "en"}}, r"of 'f' is 'en', expected a list"),
        ({"f": {"$nin": {"en"}}}, r"of 'f' is \{'en'\}, expected a list"),
        ({"f": {"$in": [["en"]]}}, r"value of 'f' is \['en'\], expected str"),
        ({"f": {"$in": [1, float("nan")]}}, r"value of 'f' is nan"),
        ({"f": ["en"]}, r"'f' is \['en'\].*\$in"),
        ({"f": {"$eq": {"a": 1}}}, r"value of 'f' is \{'a': 1\}"),
        ({"f": {"$gt": None}}, r"\$gt of 'f' is None, expected a str or a finite number"),
        ({"f": {"$lt": True}}, r"\$lt of 'f' is True, expected a str or a finite number"),
        ({"f": {"$lte": float("inf")}}, r"'f' is inf, expected str, finite number"),
        ({"f": {"$gte": [1]}}, r"\$gte of 'f' is \[1\]"),
        ({"f": {"$gt": "a\x00"}}, r"value of 'f' holds NUL"),
        ({"f": {"$contains": ["a"]}}, r"\$contains of 'f' is \['a'\], expected one value; for several: .*\$or"),
        ({"f": {"$contains": {"a": 1}}}, r"\$contains of 'f' is \{'a': 1\}, expected one value"),
        ({"f": {"$contains": "a\x00"}}, r"value of 'f' holds NUL"),
        ({"f": {"$contains": float("nan")}}, r"value of 'f' is nan"),
        ({"$key": {"$contains": 1}}, r"\$key is compared with 1"),
        ({"f": {"$prefix": 1}}, r"\$prefix of 'f' is 1, expected a str"),
        ({"f": {"$prefix": "\ud800"}}, r"value of 'f' holds a lone surrogate"),
        ({"f": {"$exists": 1}}, r"\$exists of 'f' is 1, expected True or False"),
        ({"f": {"$exists": None}}, r"\$exists of 'f' is None"),
        ({"$key": 1}, r"\$key is compared with 1, expected a str"),
        ({"$key": {"$in": ["a", None]}}, r"\$key is compared with None"),
        ({"$key": {"$gt": 1}}, r"\$gt of '\$key' is 1, expected a str$"),
        ({"$key": {"$exists": True}}, r"'\$exists' on '\$key' is no operator; known: .*\$contains$"),
        ({"$or": [DEEP]}, rf"more than {MAX_NESTING} dicts deep"),
        (CIRCLE, rf"more than {MAX_NESTING} dicts deep"),
        ({"f": PIT}, r"value of 'f' is"),
        ({"f": 10**5000}, r"value of 'f' is int"),
        ({"f": {"$in": [1] * (MAX_VALUES + 1)}}, rf"with {MAX_VALUES + 1} values, at most {MAX_VALUES}"),
        ({"$or": [{"f": {"$in": [1] * 6000}}, {"f": {"$in": [2] * 6000}}]}, rf"more than {MAX_VALUES} values"),
        ({"$or": [{"f": 1}] * (MAX_CONDITIONS // 2 + 1)}, rf"more than {MAX_CONDITIONS} conditions"),
        ({"f": "x" * (MAX_CHARACTERS + 1)}, rf"{MAX_CHARACTERS + 1} characters"),
    ],
)
def test_errors_name_what_is_wrong(where: Any, message: str) -> None:
    """Every wrong form has its message, which names the field or operator and what is expected."""
    with pytest.raises(FilterError, match=message):
        compile_where(where)


@pytest.mark.parametrize("mode", ["vector", "text", "hybrid"])
def test_the_largest_conditions_run(tmp_path: Path, embedder: Embedder, mode: Mode) -> None:
    """At each limit, and at all of them together, SQLite's own limits are not met."""
    deep: dict[str, Any] = {"g": {"$exists": False}, "f": {"$in": list(range(MAX_VALUES))}}
    for _ in range(MAX_NESTING - 2):
        deep = {"g": {"$exists": False}, "$or": [{"f": 7}, deep]}
    beside = (MAX_CONDITIONS - 2 - 4 * (MAX_NESTING - 2) - 1) // 2
    others = [{"f": {"$ne": i + 0.5}} for i in range(beside)]
    several = {"$or": [{"f": i} for i in range(MAX_CONDITIONS // 2)]}
    negated = {"$not": {"$or": [{"f": {"$lt": -i}} for i in range(MAX_CONDITIONS // 2)]}}
    wide = {"f": 1, **{f"x{i}": {"$ne": "v", "$nin": [2.5**i], "$exists": False} for i in range(MAX_FIELDS - 1)}}
    with Index.open(tmp_path / "a.db", embedder) as index:
        index.add([Document("a", "a note", {"f": 1}), Document("b", "a note", {"f": -1})])
        for where in ({"$and": [deep, *others]}, {"$and": [*others, deep]}, several, negated, wide):
            assert [hit.key for hit in index.search("note", where=where, mode=mode)] == ["a"]
        with pytest.raises(FilterError, match="conditions"):
            index.search("note", where={"$and": [*others, deep, {"f": 1}]}, mode=mode)


def test_fields_that_are_asked_for() -> None:
    """Those of every depth, without keys and without fields that are only asked whether they exist."""
    where = {
        "a": 1,
        "$or": [{"b": {"$gt": 1}}, {"$not": {"c": None, "$key": "k"}}],
        "$and": [{"d": {"$exists": False}}, {"e": {"$exists": True, "$ne": 1}}],
    }
    assert named_fields(where) == ["a", "b", "c", "e"]


def test_unknown_fields_of_any_depth_are_named(tmp_path: Path, embedder: Embedder) -> None:
    """A misspelt field is an error where nothing fits; whether a field exists can be asked of any."""
    with Index.open(tmp_path / "a.db", embedder) as index:
        index.add([Document("a", "a note", {"lang": "en"})])
        with pytest.raises(FilterError, match="no document has the field 'langs'"):
            index.search("note", where={"$or": [{"lang": "de"}, {"langs": {"$in": ["en"]}}]})
        assert index.search("note", where={"langs": {"$exists": True}}) == []
        assert len(index.search("note", where={"langs": {"$ne": "en"}})) == 1
        assert len(index.search("note", where={"$or": [{"lang": "en"}, {"langs": 1}]})) == 1


FIELDS = ("lang", "year", 'a."$', "ü")
SCALARS: list[Any] = ["en", "de", "", "1", "é", "😀", 0, 1, 1.0, 2.5, -3, 2**53, 2**53 + 1, 2**70, True, False, None]


def random_metadata(rng: random.Random) -> dict[str, Any]:
    values = [*SCALARS, ["en"], ["de", 1, None], [True, ["de"], "a é b"], [], {"lang": "en"}, "en, de", "a é b"]
    values += [{"lang": rng.choice(SCALARS), "year": {"ü": rng.choice(SCALARS)}} for _ in range(6)]
    return {field: rng.choice(values) for field in FIELDS if rng.random() < 0.7}


def random_where(rng: random.Random, depth: int = 3, keys: bool = True) -> dict[str, Any]:
    """Every operator, at every depth. keys: also conditions on the key, which objects in metadata have not"""
    where: dict[str, Any] = {}
    for _ in range(rng.choice([1, 1, 2])):
        kind = rng.choice(["field"] * 4 + ["$and", "$or", "$not", *(["key"] if keys else [])])
        if kind in ("$and", "$or") and depth:
            where[kind] = [random_where(rng, depth - 1, keys) for _ in range(rng.randint(1, 3))]
        elif kind == "$not" and depth:
            where[kind] = random_where(rng, depth - 1, keys)
        elif kind == "key":
            where["$key"] = rng.choice(
                ["n/1", {"$prefix": "n/1"}, {"$gte": "n/2", "$ne": "n/3"}, {"$in": ["n/4", "x"]}, {"$contains": "/3"}]
            )
        else:
            where[rng.choice(FIELDS)] = random_condition(rng, depth)
    return where


def random_condition(rng: random.Random, depth: int) -> Any:
    if rng.random() < 0.2:
        return rng.choice(SCALARS)
    texts = [value for value in SCALARS if isinstance(value, str)]
    ordered = [value for value in SCALARS if value is not None and not isinstance(value, bool)]
    operands: dict[str, Any] = {operator: rng.choice(ordered) for operator in ("$gt", "$gte", "$lt", "$lte")}
    operands |= {operator: rng.choice(SCALARS) for operator in ("$eq", "$ne")}
    operands |= {operator: rng.sample(SCALARS, rng.randint(0, 4)) for operator in ("$in", "$nin")}
    operands |= {"$prefix": rng.choice(texts), "$contains": rng.choice(SCALARS), "$exists": rng.random() < 0.5}
    if depth:
        operands["$has"] = random_where(rng, depth - 1, keys=False)
    return {operator: operands[operator] for operator in rng.sample(list(operands), rng.choice([1, 1, 1, 2]))}


def oracle(where: dict[str, Any], metadata: dict[str, Any], key: str = "") -> bool:
    """What `where` means, in Python."""
    for name, given in where.items():
        if name == "$and":
            fit = all(oracle(inner, metadata, key) for inner in given)
        elif name == "$or":
            fit = any(oracle(inner, metadata, key) for inner in given)
        elif name == "$not":
            fit = not oracle(given, metadata, key)
        else:
            fields = {"$key": key} if name == "$key" else metadata
            conditions = given if isinstance(given, dict) else {"$eq": given}
            fit = all(holds(fields, name, *condition) for condition in conditions.items())
        if not fit:
            return False
    return True


def holds(fields: Any, name: str, operator: str, operand: Any) -> bool:
    if operator == "$exists":
        return (name in fields) is operand
    if operator in ("$ne", "$nin"):
        return not holds(fields, name, {"$ne": "$eq", "$nin": "$in"}[operator], operand)
    if operator == "$in":
        return any(holds(fields, name, "$eq", value) for value in operand)
    if operator == "$contains":
        return contains(fields.get(name), operand)
    if name not in fields or kind(fields[name]) is not kind(operand):
        return False
    value = fields[name]
    tests: dict[str, Callable[[], bool]] = {
        "$eq": lambda: value == operand,
        "$gt": lambda: value > operand,
        "$gte": lambda: value >= operand,
        "$lt": lambda: value < operand,
        "$lte": lambda: value <= operand,
        "$prefix": lambda: value.startswith(operand),
        "$has": lambda: oracle(operand, value),
    }
    return tests[operator]()


def contains(value: object, operand: Any) -> bool:
    if isinstance(value, list):
        return any(kind(inner) is kind(operand) and inner == operand for inner in value)
    return isinstance(value, str) and isinstance(operand, str) and operand in value


def kind(value: object) -> type:
    return float if isinstance(value, int | float) and not isinstance(value, bool) else type(value)


@pytest.mark.parametrize("mode", ["vector", "text", "hybrid"])
def test_search_equals_the_oracle(tmp_path: Path, embedder: Embedder, mode: Mode) -> None:
    """Random conditions on random documents: what fits is found, all of it, nothing else, and a shortfall says why."""
    rng = random.Random(f"where {mode}")  # noqa: S311 - repeatable test data
    words = ["The harbour is calm.", "A night train.", "The harbour at night."]
    documents = [Document(f"n/{i}", words[i % 3], random_metadata(rng)) for i in range(40)]
    sizes = set()
    with Index.open(tmp_path / "a.db", embedder) as index:
        index.add(documents)
        for _ in range(150):
            where = random_where(rng)
            found = [
                d for d in documents if oracle(where, d.metadata, d.key) and (mode != "text" or "harbour" in d.text)
            ]
            k = rng.choice([1, 5, 100])
            hits = index.search("harbour", k, where, mode)
            assert len(hits) == min(k, len(found)), where
            assert {hit.key for hit in hits} <= {d.key for d in found}, where
            one = len(found) == 1
            fit = "fits `where`" if one else "fit `where`"
            if mode == "text":
                fit = f"{'holds' if one else 'hold'} a word of the query and {fit}"
            reason = f"only {len(found)} document{'' if one else 's'} {fit}"
            assert hits.shortfall == (reason if len(found) < k else None)
            sizes.add(len(found))
    assert len(sizes) > 10


DECLARED = ("lang", "year", "a.b", "ü")
NUMBERS: list[Any] = [
    0,
    1,
    -1,
    2**53 - 1,
    2**53,
    2**53 + 1,
    2**63 - 1,
    -(2**63),
    2**63,
    2**70,
    0.1,
    0.1 + 2**-56,
    2.5,
    -2.5,
]
NUMBERS += [5e-324, 1e300, -1.7976931348623e307, 1.0, 3.0, 2019.9999999999998, 2020]
TEXTS: list[Any] = [
    "",
    "en",
    "enx",
    "EN",
    "e",
    "1",
    "true",
    "null",
    '["en"]',
    '{"a":1}',
    "\uffff",
    "😀",
    "\U0010ffff",
    "a\ufffdb",
]
ODD: list[Any] = ["a\x00b", "a\\u0000b", "\\", ["en"], {"a": 1}, {"lang": "en"}, [], {}, "[]"]


@pytest.fixture(scope="module")
def two_tables() -> Iterator[tuple[sqlite3.Connection, sqlite3.Connection]]:
    """The same 400 documents in a table with an index on each of DECLARED, and in one without."""
    rng = random.Random("declared")  # noqa: S311 - repeatable test data
    values = [*NUMBERS, *TEXTS, *ODD, True, False, None]
    rows = [
        (i, f"n/{i}", json.dumps({f: rng.choice(values) for f in DECLARED if rng.random() < 0.8}, ensure_ascii=False))
        for i in range(400)
    ]
    plain, indexed = sqlite3.connect(":memory:"), sqlite3.connect(":memory:")
    for db in (plain, indexed):
        db.execute("CREATE TABLE doc (id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, metadata TEXT NOT NULL)")
        db.executemany("INSERT INTO doc VALUES (?, ?, ?)", [*rows, (400, "damaged", "{")])
    for i, name in enumerate(DECLARED):
        indexed.execute(f"CREATE INDEX doc_field_{i} ON doc ({field_value(name)})")
    yield plain, indexed
    plain.close()
    indexed.close()


def declared_where(rng: random.Random, depth: int = 2) -> dict[str, Any]:
    """Conditions on declared fields and the key, of every operator, with values at every edge."""
    scalars = [*NUMBERS, *TEXTS, True, False, None]
    ordered = [*NUMBERS, *TEXTS]
    where: dict[str, Any] = {}
    for _ in range(rng.choice([1, 1, 2])):
        kind = rng.choice(["field"] * 5 + ["$key", "$and", "$or", "$not"])
        if kind in ("$and", "$or") and depth:
            where[kind] = [declared_where(rng, depth - 1) for _ in range(rng.randint(1, 3))]
        elif kind == "$not" and depth:
            where[kind] = declared_where(rng, depth - 1)
        elif kind == "$key":
            keys = [f"n/{rng.randrange(400)}" for _ in range(3)]
            where[kind] = rng.choice(
                [keys[0], {"$in": keys}, {"$prefix": keys[0][:3]}, {"$gt": keys[0], "$lte": keys[1]}]
            )
        else:
            operands: dict[str, Any] = {name: rng.choice(ordered) for name in ("$gt", "$gte", "$lt", "$lte")}
            operands |= {name: rng.choice([*scalars, []]) for name in ("$eq", "$ne")}
            operands |= {name: rng.sample([*scalars, []], rng.randint(0, 5)) for name in ("$in", "$nin")}
            operands |= {"$prefix": rng.choice(TEXTS), "$contains": rng.choice(scalars), "$exists": rng.random() < 0.5}
            operands["$has"] = {rng.choice(["a", "lang"]): rng.choice([1, "en", {"$exists": False}])}
            where[rng.choice(DECLARED)] = {
                name: operands[name] for name in rng.sample(OPERATORS, rng.choice([1, 1, 2]))
            }
    return where


def test_declared_fields_change_no_result(two_tables: tuple[sqlite3.Connection, sqlite3.Connection]) -> None:
    """Whatever is asked, an index on a field changes the time it takes and nothing else."""
    plain, indexed = two_tables
    rng = random.Random("where declared")  # noqa: S311 - repeatable test data
    sizes, used = set(), 0
    for _ in range(1000):
        where = declared_where(rng)
        condition, parameters = compile_where(where)
        expected = plain.execute(f"SELECT id FROM doc WHERE {condition} ORDER BY id", parameters).fetchall()
        condition, parameters = compile_where(where, DECLARED)
        query = f"SELECT id FROM doc WHERE {condition}"
        assert sorted(indexed.execute(query, parameters).fetchall()) == expected, where
        assert sorted(plain.execute(query, parameters).fetchall()) == expected, where
        used += "doc_field_" in str(indexed.execute(f"EXPLAIN QUERY PLAN {query}", parameters).fetchall())
        sizes.add(len(expected))
    assert len(sizes) > 50
    assert used > 300


@pytest.mark.parametrize(
    ("condition", "plan"),
    [
        ("en", "doc_field_0 (<expr>=?)"),
        (1, "doc_field_0 (<expr>=?)"),
        (0.1, "doc_field_0 (<expr>>? AND <expr><?)"),
        ({"$in": ["en", "de", 7]}, "doc_field_0 (<expr>=?)"),
        ({"$in": [0.1, 0.2]}, "doc_field_0 (<expr>>? AND <expr><?)"),
        ({"$gte": 5}, "doc_field_0 (<expr>>? AND <expr><?)"),
        ({"$lt": "b"}, "doc_field_0 (<expr>>? AND <expr><?)"),
        ({"$prefix": "b"}, "doc_field_0 (<expr>>? AND <expr><?)"),
    ],
)
def test_an_index_on_a_field_is_used(
    condition: Any, plan: str, two_tables: tuple[sqlite3.Connection, sqlite3.Connection]
) -> None:
    """By equality, ranges, prefixes and lists; that holds in `$or` too."""
    _, indexed = two_tables
    for where in ({"lang": condition}, {"$or": [{"lang": condition}, {"year": 1}]}):
        compiled, parameters = compile_where(where, DECLARED)
        found = indexed.execute(f"EXPLAIN QUERY PLAN SELECT id FROM doc WHERE {compiled}", parameters).fetchall()
        assert plan in str(found)


def test_a_key_is_looked_up() -> None:
    """$key needs no declaration: every index has one on the keys."""
    db = sqlite3.connect(":memory:")
    db.execute("CREATE TABLE doc (id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, metadata TEXT NOT NULL)")
    for condition in ("a", {"$in": ["a", "b"]}, {"$prefix": "a"}, {"$gt": "a", "$lt": "b"}):
        compiled, parameters = compile_where({"$key": condition})
        plan = db.execute(f"EXPLAIN QUERY PLAN SELECT id FROM doc WHERE {compiled}", parameters).fetchall()
        assert "sqlite_autoindex_doc_1 (key" in str(plan)
    db.close()


def test_limits_are_the_same_for_declared_fields() -> None:
    """A value counts once, though an index is asked for it too, and SQLite takes the longest lists."""
    db = sqlite3.connect(":memory:")
    db.execute("CREATE TABLE doc (id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, metadata TEXT NOT NULL)")
    db.execute('INSERT INTO doc VALUES (1, \'a\', \'{"f": 7, "g": "x"}\')')
    deep: dict[str, Any] = {"f": {"$in": list(range(MAX_VALUES - 100))}}
    for _ in range(MAX_NESTING - 2):
        deep = {"g": "x", "$or": [{"f": 7.5}, deep]}
    for where in (
        {"f": {"$in": list(range(MAX_VALUES))}},
        {"$and": [deep, *[{"f": {"$ne": i + 8.5}} for i in range(90)]]},
    ):
        for declared in ((), ("f", "g")):
            condition, parameters = compile_where(where, declared)
            assert db.execute(f"SELECT id FROM doc WHERE {condition}", parameters).fetchall() == [(1,)]
    with pytest.raises(FilterError, match="more than"):
        compile_where({"$or": [{"f": {"$in": [1] * 6000}}, {"f": {"$in": [2] * 6000}}]}, ["f"])
    db.close()


def test_declared_fields_of_an_index(tmp_path: Path) -> None:
    """Declared fields change no result, survive reopening, verify, repair and deletes; SQLite uses their indexes."""
    rng = np.random.default_rng(5)
    values: list[Any] = [None, True, False, 0, 1, 2**60, 0.1, 1e300, "", "a", "Zürich", "x\0y", [1], {"a": 1}]
    documents = [
        Document(f"k{i}", "", {"a": values[rng.integers(len(values))], "b": int(rng.integers(5))}) for i in range(300)
    ]
    vectors = rng.standard_normal((300, 8))
    with (
        Index.create(tmp_path / "declared.db", space="s", dim=8, fields=["a", "b"]) as declared,
        Index.create(tmp_path / "plain.db", space="s", dim=8) as plain,
    ):
        for index in (declared, plain):
            index.add_vectors(documents, vectors)
        wheres = [
            *({"a": value} for value in values if not isinstance(value, list | dict) and value != "x\0y"),
            {"b": {"$gte": 2, "$lt": 4}},
            {"b": {"$in": [0, 4]}, "a": {"$gt": 0}},
            {"$or": [{"a": "a"}, {"b": 3}]},
            {"$not": {"b": 1}},
        ]
        for where in wheres:
            found = [index.search(vector=vectors[0], k=300, where=where) for index in (declared, plain)]
            assert [hit.key for hit in found[0]] == [hit.key for hit in found[1]]
        store = declared._store
        condition, parameters = compile_where({"b": 3}, declared=["a", "b"])
        query = f"EXPLAIN QUERY PLAN SELECT vec.id FROM doc JOIN vec ON vec.doc = doc.id WHERE {condition}"
        assert "doc_field_1" in str(store.connection.execute(query, parameters).fetchall())
        declared.delete([f"k{i}" for i in range(0, 300, 3)])
        assert declared.verify().whole
        assert declared.repair().whole
    with Index.open(tmp_path / "declared.db") as declared:
        assert declared.stats()["fields"] == ["a", "b"]
        assert len(declared.search(vector=vectors[0], k=300, where={"b": {"$gte": 0}})) == 200
