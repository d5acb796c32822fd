r"""`where`: conditions on metadata and keys as SQL.

{"lang": "en"}                                 the field is "en"; the same as {"lang": {"$eq": "en"}}
{"year": {"$gte": 2000, "$lt": 2020}}          $gt, $gte, $lt, $lte: number with number, text with text by code point
{"lang": {"$in": ["en", "de"]}}, {"$nin": []}  one of these values, none of them; an empty list holds no value
{"lang": {"$ne": "en"}}                        not "en"; a document without the field fits $ne and $nin
{"title": {"$prefix": "The "}}                 a text that begins so, to the letter
{"tags": {"$contains": "sea"}}                 a list with this value in it, or a text with these letters in it
{"draft": {"$exists": False}}                  the field is absent; {"draft": None} is JSON's null, which is a value
{"at": {"$has": {"hour": {"$gte": 9}}}}        an object whose own fields fit such a dict
{"$key": {"$prefix": "notes/"}}                the document's key: as a text field that every document has
{"$and": [...]}, {"$or": [...]}, {"$not": {}}  of such dicts; the entries of one dict must all fit

Values are str, int, float, bool, None or [], an empty list. '1', 1 and true are three values, and 1 equals 1.0. Whole
numbers of 64 bits are compared exactly, larger ones as floating point. A NUL in metadata counts as U+FFFD, as in HTML
and Markdown. Field names are taken literally, but for those of "$" and a letter, which are kept for operators.
"""

import re
import sys
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any

from edge_embed_runtime.checks import check_text, shown
from edge_embed_runtime.errors import FilterError, InputError

Condition = tuple[str, list[Any]]
EVERY: Condition = ("1", [])
# A damaged row has no fields. SQLite before 3.45 cuts texts off at an escaped NUL; \\ is replaced first, so that what
# looks like that escape is one.
METADATA = r"""CASE WHEN NOT json_valid(doc.metadata) THEN '{}' WHEN instr(doc.metadata, '\u0000')
 THEN replace(replace(doc.metadata, '\\', '\u005c'), '\u0000', '\ufffd') ELSE doc.metadata END"""

MAX_FIELDS = 64
# Bounds on a whole `where`, far inside SQLite's: expressions 1000 deep, 32,766 parameters, 100 places on the parser's
# stack, of which a level takes up to 6.
MAX_NESTING = 8
MAX_CONDITIONS = 256
MAX_VALUES = 10_000
MAX_CHARACTERS = 1_000_000
# SQLite's integers end here; larger ones are stored as floating point
MAX_INTEGER = 2**63
LARGEST = sys.float_info.max
# Whole numbers up to this one have a floating point number each.
EXACT = 2**53

RANGES = {"$gt": ">", "$gte": ">=", "$lt": "<", "$lte": "<="}
NEGATED = {"$ne": "$eq", "$nin": "$in"}
OPERATORS = ("$eq", "$ne", *RANGES, "$in", "$nin", "$prefix", "$contains", "$exists", "$has")
NOT_OF_KEYS = ("$exists", "$has")
COMBINED = ("$and", "$or", "$not", "$key")
OPERATOR = re.compile("[$][A-Za-z]")


def compile_where(where: Mapping[str, Any], declared: Collection[str] = ()) -> Condition:
    """An SQL condition over the table `doc`, in parentheses, and its parameters. Raises FilterError.

    {"lang": "en", "year": 2020} -> documents whose metadata has lang "en" and year 2020

    declared: fields that have an index: the condition asks it first, and means the same
    """
    compiler = _Compiler(declared)
    return compiler.where(where, "where", MAX_NESTING), compiler.parameters


def field_value(name: str, metadata: str = METADATA.replace("doc.", "")) -> str:
    """SQL for the value of a declared field, as it stands in the index on it: every bit the same, or it is not used."""
    path = '$."' + name.replace("'", "''") + '"'
    return f"json_extract({metadata}, '{path}')"


def has_field(field: str, test: str = "1") -> Condition:
    """The condition that a document has a field, whatever its value, or one for which SQL is true of `field`."""
    return _field("?", test), [field]


def check_field(name: object) -> str:
    """The name of a metadata field itself. Raises FilterError for what cannot be one."""
    field = _text(name, "field name")
    if OPERATOR.match(field):
        raise FilterError(f"{shown(field)} is no field of the metadata: such names are kept for operators", field=field)
    return field


def named_fields(where: Mapping[str, Any]) -> list[str]:
    """The fields whose values a compiled `where` asks for. One that is only asked whether it exists is none of them.

    {"lang": "en", "$not": {"year": {"$gt": 2000}}, "draft": {"$exists": False}} -> ["lang", "year"]
    """
    fields: list[str] = []
    for name, value in where.items():
        if name in ("$and", "$or"):
            fields += [field for inner in value for field in named_fields(inner)]
        elif name == "$not":
            fields += named_fields(value)
        elif name != "$key" and not (isinstance(value, Mapping) and list(value) == ["$exists"]):
            fields.append(name)
    return fields


def _field(name: str, test: str, depth: int = 0) -> str:
    """depth: how many objects of the metadata the field lies in; those around it are called field, field1, ..."""
    own, source = _alias(depth), f"{_alias(depth - 1)}.value" if depth else METADATA
    test = test.replace("field.", f"{own}.")  # all that is the user's is a parameter
    # not json_extract: its path syntax cannot name every field
    return f"EXISTS (SELECT 1 FROM json_each({source}) AS {own} WHERE {own}.key = {name} AND {test})"


def _alias(depth: int) -> str:
    return f"field{depth or ''}"


def _key(test: str) -> str:
    """The key in the shape of a field, so that the same tests fit it."""
    return f"EXISTS (SELECT 1 FROM (SELECT 'text' AS type, doc.key AS value) AS field WHERE {test})"


class _Compiler:
    """Makes the SQL of one `where` from left to right, so that its parameters come in the order of their marks."""

    def __init__(self, declared: Collection[str]) -> None:
        self.parameters: list[Any] = []
        self._declared = declared
        self._conditions = self._values = self._depth = 0

    def where(self, where: object, place: str, levels: int) -> str:
        """A dict whose entries must all fit. `place` names it in errors: "where", "$or[0]", "$not"."""
        if levels == 0:
            raise FilterError(f"where is nested more than {MAX_NESTING} dicts deep")
        if not isinstance(where, Mapping) or not 0 < len(where) <= MAX_FIELDS:
            expected = f'expected a dict of 1 to {MAX_FIELDS} fields: {{"lang": "en"}}'
            raise FilterError(f"{'' if place == 'where' else 'where: '}{place} is {shown(where)}, {expected}")
        return f"({' AND '.join([self._entry(name, value, levels) for name, value in where.items()])})"

    def _entry(self, name: object, value: object, levels: int) -> str:
        field = _text(name, "field name")
        if field in ("$and", "$or"):
            return self._several(field, value, levels)
        if field == "$not":
            return f"NOT {self.where(value, field, levels - 1)}"
        if field == "$key" and not self._depth:
            return self._tests(field, value, _key, levels)
        if OPERATOR.match(field):
            around = COMBINED if not self._depth else COMBINED[:-1]  # an object in the metadata has no key
            known = f"{', '.join(around)}; around a value: {', '.join(OPERATORS)}"
            raise FilterError(
                f"where: {shown(field)} is no operator that can stand here; around fields: {known}", field=field
            )
        return self._tests(field, value, partial(_field, "?", depth=self._depth), levels, [field])

    def _several(self, operator: str, given: object, levels: int) -> str:
        """{"$or": [{"lang": "en"}, {"year": 2020}]} -> (... OR ...)."""
        if not isinstance(given, list | tuple) or not given:
            raise FilterError(f"where: {operator} is {shown(given)}, expected a list of one or more dicts")
        parts = []
        for i, inner in enumerate(given):
            self._count()
            parts.append(self.where(inner, f"{operator}[{i}]", levels - 1))
        return f"({(' AND ' if operator == '$and' else ' OR ').join(parts)})"

    def _tests(
        self, field: str, given: object, source: Callable[[str], str], levels: int, first: list[str] | None = None
    ) -> str:
        """What a dict of operators asks of one field; `first` are the parameters of `source`."""
        if not isinstance(given, Mapping):
            given = {"$eq": given}
        elif not given:
            raise FilterError(
                f'where: the condition on {shown(field)} is {{}}, expected operators: {{"$gte": 2000}}', field=field
            )
        parts = []
        for operator, operand in given.items():
            if operator not in OPERATORS or (field == "$key" and operator in NOT_OF_KEYS):
                known = ", ".join(known for known in OPERATORS if field != "$key" or known not in NOT_OF_KEYS)
                raise FilterError(
                    f"where: {shown(operator)} on {shown(field)} is no operator; known: {known}", field=field
                )
            self._count()
            start = len(self.parameters)
            self.parameters += first or []
            if operator == "$exists":
                parts.append(_sign(_flag(operand, field)) + source("1"))
            else:
                positive = NEGATED.get(operator, operator)
                test = source(self._test(positive, operand, field, levels))
                declared = field in self._declared and not self._depth
                column = "doc.key" if field == "$key" else field_value(field) if declared else None
                if column is not None:
                    bounds, values = _bounds(column, positive, operand)
                    self.parameters[start:start] = values
                    test = f"({bounds} AND {test})"
                parts.append(_sign(operator not in NEGATED) + test)
        return " AND ".join(parts)

    def _test(self, operator: str, operand: object, field: str, levels: int) -> str:
        """SQL that tests one value, with its parameters."""
        if operator == "$has":
            self._depth += 1
            inner = self.where(operand, f"$has of {shown(field)}", levels - 1)
            self._depth -= 1
            return f"field.type = 'object' AND {inner}"
        if operator == "$in":
            if not isinstance(operand, list | tuple):
                raise FilterError(
                    f"where: $in or $nin of {shown(field)} is {shown(operand)}, expected a list", field=field
                )
            if len(operand) > MAX_VALUES:
                raise FilterError(
                    f"where: {shown(field)} is compared with {len(operand)} values, at most {MAX_VALUES}", field=field
                )
            return self._one_of(operand, field)
        if operator == "$eq":
            return self._one_of([operand], field)
        if operator == "$contains":
            return self._contains(operand, field)
        wanted = "a str" if operator == "$prefix" or field == "$key" else "a str or a finite number"
        if not isinstance(operand, str if wanted == "a str" else str | int | float) or isinstance(operand, bool):
            raise FilterError(
                f"where: {operator} of {shown(field)} is {shown(operand)}, expected {wanted}", field=field
            )
        type_, mark, parameter = _value(operand, field)
        if operator != "$prefix":
            self._bind(parameter)
            return f"{_of_type(type_)} AND field.value {RANGES[operator]} {mark}"
        self._bind(len(str(operand)), parameter)
        return "field.type = 'text' AND substr(field.value, 1, ?) = ?"  # not LIKE: %, _ and letter case

    def _contains(self, operand: object, field: str) -> str:
        """ "sea" -> (a list with this text in it, or a text with these letters in it); of another value only a list."""
        if isinstance(operand, list | tuple | set | frozenset | Mapping):
            raise FilterError(
                f"where: $contains of {shown(field)} is {shown(operand)}, expected one value; for several: "
                '{"$or": [{"tags": {"$contains": "a"}}, ...]}',
                field=field,
            )
        item = self._one_of([operand], field).replace("field.", "item.")  # all that is the user's is a parameter
        test = f"field.type = 'array' AND EXISTS (SELECT 1 FROM json_each(field.value) AS item WHERE {item})"
        if not isinstance(operand, str):
            return f"({test})"
        self._bind(operand)
        return f"({test} OR field.type = 'text' AND instr(field.value, ?))"  # not LIKE: %, _ and letter case

    def _one_of(self, values: list[Any] | tuple[Any, ...], field: str) -> str:
        """["en", "de", 1, None] -> (a text that is one of two, or a number that is 1, or null)."""
        marks: dict[str, list[str]] = {}
        parameters: dict[str, list[Any]] = {}
        for value in values:
            if field == "$key" and not isinstance(value, str):
                raise FilterError(f"where: $key is compared with {shown(value)}, expected a str", field=field)
            type_, mark, parameter = _value(value, field)
            marks.setdefault(type_, []).append(mark)
            parameters.setdefault(type_, []).append(parameter)
        parts = []
        for type_, of_type in marks.items():
            if type_ in ("text", "number"):
                parts.append(f"{_of_type(type_)} AND field.value IN ({','.join(of_type)})")
                self._bind(*parameters[type_])
            else:
                parts.append(_of_type(type_))
        return f"({' OR '.join(parts) or '0'})"

    def _bind(self, *values: object) -> None:
        self.parameters += values
        self._values += len(values)
        if self._values > MAX_VALUES + MAX_CONDITIONS:
            raise FilterError(f"where holds more than {MAX_VALUES} values")

    def _count(self) -> None:
        self._conditions += 1
        if self._conditions > MAX_CONDITIONS:
            raise FilterError(f"where holds more than {MAX_CONDITIONS} conditions; $in takes many values at once")


def _bounds(column: str, operator: str, operand: Any) -> Condition:
    """A condition that holds wherever `operator operand` does, in a form for which SQLite uses an index on `column`.

    In such an index come null, numbers with false as 0 and true as 1, then texts.
    """
    if operator in ("$eq", "$in"):
        return _bounds_of_any(column, [operand] if operator == "$eq" else list(operand))
    if operator in ("$contains", "$has"):  # lists and objects stand in the index as their JSON, which is a text
        return f"{column} >= ''", []
    if operator == "$prefix":
        # no UTF-8 holds the byte FF: this is over all texts that begin so
        return f"{column} >= ? AND {column} < +CAST(? AS TEXT)", [operand, operand.encode() + b"\xff"]
    above = operator in ("$gt", "$gte")
    if isinstance(operand, str):
        return (f"{column} >= ?" if above else f"{column} >= '' AND {column} <= ?"), [operand]
    low, high = _around(operand)
    return (f"{column} >= ? AND {column} < ''" if above else f"{column} <= ?"), [low if above else high]


def _bounds_of_any(column: str, values: list[Any]) -> Condition:
    if not values or any(value is None for value in values):
        return EVERY
    values = ["[]" if isinstance(value, list | tuple) else value for value in values]  # as it stands in the index
    exact = [value for value in values if _is_exact(value)]
    marks = f"{column} IN ({','.join('?' * len(exact))})"
    others = [_around(value) for value in values if not _is_exact(value)]
    if not others:
        return marks, exact
    limits = [min(low for low, _ in others), max(high for _, high in others)]
    between = f"{column} BETWEEN ? AND ?"
    return (f"({marks} OR {between})", [*exact, *limits]) if exact else (between, limits)


def _around(number: float) -> tuple[float, float]:
    """Limits around a number, between which it stays however a release of SQLite rounds its digits."""
    slack = abs(float(number)) * 1e-14 + 1e-300
    return float(number) - slack, float(number) + slack


def _is_exact(value: str | float) -> bool:
    return isinstance(value, str) or (isinstance(value, int) and abs(value) <= EXACT)


def _value(value: object, field: str) -> tuple[str, str, Any]:
    """(type, SQL mark, parameter): "en" -> ("text", "?", "en"), 2**70 -> ("number", "CAST(? AS REAL)", "1180...")."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value], "?", None
    if isinstance(value, list | tuple) and not value:
        return "array", "?", None
    if isinstance(value, str):
        return "text", "?", _text(value, f"value of {shown(field)}")
    if isinstance(value, int | float) and abs(value) <= LARGEST:
        if isinstance(value, int) and -MAX_INTEGER <= value < MAX_INTEGER:
            return "number", "?", int(value)
        # by way of text: SQLite then rounds it as it does the same digits in metadata
        return "number", "CAST(? AS REAL)", str(int(value)) if isinstance(value, int) else repr(float(value))
    hint = ', or operators around it: {"$in": [...]}' if isinstance(value, list | tuple | set | frozenset) else ""
    message = f"the value of {shown(field)} is {shown(value)}, expected str, finite number, bool, None or []{hint}"
    raise FilterError(f"where: {message}", field=field)


def _of_type(type_: str) -> str:
    if type_ == "array":  # of lists only the empty one is a value
        return "field.type = 'array' AND field.value = '[]'"
    return "field.type IN ('integer', 'real')" if type_ == "number" else f"field.type = '{type_}'"


def _sign(fits: bool) -> str:
    return "" if fits else "NOT "


def _flag(value: object, field: str) -> bool:
    if not isinstance(value, bool):
        raise FilterError(f"where: $exists of {shown(field)} is {shown(value)}, expected True or False", field=field)
    return value


def _text(value: object, what: str) -> str:
    try:
        text = check_text(value, f"where: the {what}")
    except InputError as error:
        raise FilterError(str(error)) from None
    if "\x00" in text:
        raise FilterError(f"where: the {what} holds NUL")
    if len(text) > MAX_CHARACTERS:
        raise FilterError(f"where: the {what} has {len(text)} characters, at most {MAX_CHARACTERS}")
    return text
