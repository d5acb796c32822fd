"""Bodies of requests are checked by the schemas that /openapi.json shows."""

from typing import Any

import pytest

from edge_embed import InputError
from edge_embed.schemas import TEXT, TEXTS, Schema, check, fields, or_null

BODY: Schema = fields(
    {"texts": {"anyOf": [TEXT, {**TEXTS, "minItems": 1}]}},
    {
        "k": {"type": "integer", "minimum": 1, "maximum": 9, "default": 5},
        "mode": or_null({"type": "string", "enum": ["a", "b"]}),
        "more": {"type": "object", "properties": {"n": or_null({"type": ["number", "string"]})}},
    },
)


@pytest.mark.parametrize(
    ("given", "checked"),
    [
        ({"texts": "x"}, {"k": 5, "texts": "x"}),
        ({"texts": ["x", ""], "k": 2.0}, {"texts": ["x", ""], "k": 2}),
        ({"texts": "x", "k": 1, "mode": None}, {"texts": "x", "k": 1, "mode": None}),
        ({"texts": "x", "more": {"n": 1.5, "b": [1]}}, {"texts": "x", "k": 5, "more": {"n": 1.5, "b": [1]}}),
    ],
)  # fmt: skip
def test_what_fits_has_its_defaults(given: dict[str, Any], checked: dict[str, Any]) -> None:
    """Values that fit stay as they are; what is left out has its default, and 2.0 is a whole number."""
    found = check(given, BODY)
    assert found == checked
    assert type(found["k"]) is int


@pytest.mark.parametrize(
    ("given", "option", "message"),
    [
        ({}, "texts", "texts is missing"),
        ([], None, "the body is [], expected an object"),
        ({"texts": 5}, "texts", "texts is 5, expected a string or a list"),
        ({"texts": None}, "texts", "texts is None, expected a string or a list"),
        ({"texts": []}, "texts", "texts has 0 entries, expected at least 1"),
        ({"texts": ["x"] * 100_000 + [None]}, "texts[100000]", "texts[100000] is None, expected a string"),
        ({"texts": ["x", 5]}, "texts[1]", "texts[1] is 5, expected a string"),
        ({"texts": "x", "K": 5}, "K", "'K' is unknown: known are texts, k, mode, more"),
        ({"texts": "x", "k": 0}, "k", "k is 0, expected at least 1"),
        ({"texts": "x", "k": 10}, "k", "k is 10, expected at most 9"),
        ({"texts": "x", "k": True}, "k", "k is True, expected a whole number"),
        ({"texts": "x", "k": 1.5}, "k", "k is 1.5, expected a whole number"),
        ({"texts": "x", "k": float("inf")}, "k", "k is inf, expected a whole number"),
        ({"texts": "x", "mode": "c"}, "mode", "mode is 'c', expected one of a, b"),
        ({"texts": "x", "mode": 1}, "mode", "mode is 1, expected a string or null"),
        ({"texts": "x", "more": {"n": []}}, "more.n", "more.n is [], expected a number or a string or null"),
        ({"texts": "x", "\ud800": 1}, "\\ud800", "'\\ud800' is unknown: known are texts, k, mode, more"),
    ],
)
def test_what_does_not_fit_is_named(given: Any, option: str | None, message: str) -> None:
    """The message says which part of the body does not fit, and what was expected there."""
    with pytest.raises(InputError) as caught:
        check(given, BODY)
    assert str(caught.value) == message
    if option is not None:
        assert caught.value.option == option


def test_of_several_objects_the_one_whose_fields_are_there() -> None:
    """Alternatives for objects are told apart by the fields that they need."""
    either: Schema = {"anyOf": [fields({"a": TEXT}), fields({"b": TEXT})]}
    assert check({"b": "x"}, either) == {"b": "x"}
    with pytest.raises(InputError, match="'b' is unknown"):
        check({"a": "x", "b": "x"}, either)
    with pytest.raises(InputError, match="a is missing"):
        check({}, either)
