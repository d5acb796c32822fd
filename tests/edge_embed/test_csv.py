"""tables.py and values.py: CSV files as other programs write them."""

from pathlib import Path
from typing import Any

import pytest

from edge_embed.files.documents import read_documents
from edge_embed.files.lines import check_encoding
from edge_embed.files.problems import Problem
from edge_embed.files.rows import Reading
from edge_embed.files.values import is_name, value
from edge_embed_runtime.errors import InputError, SourceError

NOT_UTF8 = "not UTF-8 text (invalid continuation byte); say how it is encoded, such as --encoding cp1252, or convert it"


def read(folder: Path, content: str | bytes, name: str = "a.csv", **reading: Any) -> tuple[list[Any], list[str]]:
    """([(id, text, metadata)], ["line: reason"]) of a file."""
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    problems: list[Problem] = []
    documents = read_documents(path, key="F", reading=Reading(**reading), report=problems.append)
    found = [(d.key, d.text, {k: v for k, v in d.metadata.items() if k != "source"}) for d in documents]
    return found, [f"{problem.line}: {problem.reason}" for problem in problems]


@pytest.mark.parametrize(
    ("content", "name"),
    [
        ("id,text,year\n1,hello world,2020\n", "a.csv"),
        ("id;text;year\n1;hello world;2020\n", "a.csv"),
        ("id\ttext\tyear\n1\thello world\t2020\n", "a.csv"),
        ("id\ttext\tyear\n1\thello world\t2020\n", "a.tsv"),
        ("id|text|year\r\n1|hello world|2020\r\n", "a.csv"),
        ("sep=;\nid;text;year\n1;hello world;2020\n", "a.csv"),
        ("\ufeffsep=^\r\nid^text^year\r\n1^hello world^2020\r\n", "a.csv"),
        ("\n\nid;text;year\n\n1;hello world;2020\n\n", "a.csv"),
        ("id,text,year\r1,hello world,2020\r", "a.csv"),
        (" ID , Text,year\n1,hello world,2020\n", "a.csv"),
        ('"id";"text";"year"\n"1";"hello world";"2020"\n', "a.csv"),
        ("id,text,year\n1,hello world,2020\n".encode("utf-16"), "a.csv"),
        ("\ufeffid;text;year\n1;hello world;2020\n".encode("utf-16-be"), "a.csv"),
        ("\ufeffid;text;year\n1;hello world;2020".encode("utf-32-le"), "a.csv"),
    ],
)
def test_dialects(content: str | bytes, name: str, tmp_path: Path) -> None:
    """The delimiter and the encoding are found out."""
    found, problems = read(tmp_path, content, name)
    assert [(key, text, list(rest.values())) for key, text, rest in found] == [("F#1", "hello world", [2020])]
    assert problems == []


def test_delimiters_in_other_places(tmp_path: Path) -> None:
    """Commas in cells of a file with semicolons, semicolons in one with commas, a lone column with commas."""
    assert read(tmp_path, "id;text\n1;a, b, c, d\n")[0] == [("F#1", "a, b, c, d", {})]
    assert read(tmp_path, "id,text\n1,a; b; c; d\n")[0] == [("F#1", "a; b; c; d", {})]
    assert read(tmp_path, 'text\n"hello, world"\nhow; are\n')[0] == [
        ("F:2", "hello, world", {}),
        ("F:3", "how; are", {}),
    ]
    assert read(tmp_path, "a;text,b\n1;x,2\n", delimiter=";", text=("text,b",))[0] == [("F:2", "x,2", {"a": 1})]


def test_columns_by_name(tmp_path: Path) -> None:
    """--text, several times, --title and --key; the key then is one by itself."""
    content = "nr,Head,body,more\nx7,T,one,two\n"
    found, problems = read(tmp_path, content, text=("Body", "more"), title="head", key="nr")
    assert (found, problems) == ([("x7", "T one\ntwo", {})], [])
    assert read(tmp_path, content)[1] == [
        "1: no field 'text'; fields: nr, Head, body, more; --text says which holds the text"
    ]
    assert (
        "1: no field 'headline', which --title names" in read(tmp_path, content, text=("body",), title="headline")[1][0]
    )
    assert "1: no field 'isbn', which --key names" in read(tmp_path, content, text=("body",), key="isbn")[1][0]
    assert "are all called 'text'" in read(tmp_path, "TEXT,Text\na,b\n")[1][0]
    assert read(tmp_path, "TEXT,text\na,b\n")[0] == [("F:2", "b", {"TEXT": "a"})]
    wide = ",".join(f"column{i}" for i in range(100_000))
    assert len(read(tmp_path, f"{wide}\n")[1][0]) < 1000


def test_rows_of_jsonl_by_name(tmp_path: Path) -> None:
    """The same options; a row may lack some of several text fields, not all."""
    content = '{"a": "x", "b": "y", "k": 5}\n{"b": "y"}\n{"k": 6}\n{"A": "z", "k": 7}\n'
    found, problems = read(tmp_path, content, "a.ndjson", text=("a", "b"), key="k")
    assert found == [("5", "x\ny", {}), ("7", "z", {})]
    assert problems == [
        "2: no 'k', which --key says is the key",
        "3: no field 'a'; fields: k; --text says which holds the text",
    ]


def test_numbers_and_booleans(tmp_path: Path) -> None:
    """As JSON writes them; columns of names made of digits stay texts whole, others cell by cell."""
    content = (
        "text,year,price,draft,isbn,tel,zip,note\n"
        "a,1999,12.50,true,0306406152,+49 30 1,01234,7\n"
        "b,2020,9,false,9780306406157,491234,90210,n/a\n"
        "c,,-0.5,TRUE,007,5,1,\n"
    )
    found, problems = read(tmp_path, content)
    assert problems == []
    assert [list(metadata.values()) for _, _, metadata in found] == [
        [1999, 12.5, True, "0306406152", "+49 30 1", "01234", 7],
        [2020, 9, False, "9780306406157", "491234", "90210", "n/a"],
        ["", -0.5, "TRUE", "007", "5", "1", ""],
    ]
    assert [type(metadata["price"]) for _, _, metadata in found] == [float, int, float]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2020", 2020), ("-3", -3), ("0", 0), (" 7 ", 7), ("9.50", 9.5), ("0.1", 0.1), ("true", True), ("false", False),
        ("123456789012345", 123456789012345), ("9780306406157", 9780306406157),
        ("1234567890123456", "1234567890123456"), ("0.1234567890123456", "0.1234567890123456"), ("007", "007"),
        ("+1", "+1"), ("1e5", "1e5"), ("9,50", "9,50"), ("1_000", "1_000"), (".5", ".5"), ("5.", "5."), ("", ""),
        ("NaN", "NaN"), ("Infinity", "Infinity"), ("٣", "٣"), ("True", "True"), ("null", "null"),
        ("2024-05-01", "2024-05-01"),
    ],
)  # fmt: skip
def test_values(text: str, expected: object) -> None:
    """What is not surely a number or a truth stays the text it is."""
    assert (value(text), type(value(text))) == (expected, type(expected))


def test_names_made_of_digits() -> None:
    """They make the whole column one of texts; decimals under 1 do not, nor do dates that begin with the year."""
    assert all(map(is_name, ("007", "-01", "+49", "1234567890123456", "01.02.2024", " 00 ")))
    assert not any(map(is_name, ("0", "0.5", "-0.5", "7", "2024-01-02", "123456789012345", "", "x", "1e5")))


@pytest.mark.parametrize(
    ("content", "stored", "problems"),
    [
        ('id,text\n1,he said "hi" there\n2,"quoted" tail\n3,c\n', "1 3", ["3: not valid CSV: ',' expected after '\"'"]),
        ('id,text\n1,"a\n2,b\n3,c\n', "2 3", ["2: not valid CSV: unexpected end of data"]),
        ('id,text\n1,"a\n2,"b"\n3,c\n', "2 3", ["2: not valid CSV: ',' expected after '\"'"]),
        ("id,text\n1,a\n2\n3,c,d\n4,e\n", "1 4", ["3: expected 2 fields, as in the first line, got 1",
                                                   "4: expected 2 fields, as in the first line, got 3"]),
        (b"id,text\n1,caf\xe9\xc3\xa9\n2,b\n", "2", [f"2: {NOT_UTF8}"]),
        (b'id,text\n1,"a\ncaf\xe9\xc3\xa9\nb"\n2,b\n', "2", [f"2: {NOT_UTF8}"]),
        ("id;text\n1;a\n2;b\rb\n3;c\n", "1 3", ["3: not valid CSV: a carriage return in a cell without quotes"]),
        (b"id,t\xe9xt\n1,\xc3\xa9\n", "", [f"1: {NOT_UTF8}"]),
        ("id,text\n1,a\n".encode("utf-16-le"), "", ["1: holds NUL, as UTF-16 does; --encoding utf-16-le (or -be) reads "
                                                    "that"]),
    ],
)  # fmt: skip
def test_bad_rows_are_reported_and_the_others_read(
    content: str | bytes, stored: str, problems: list[str], tmp_path: Path
) -> None:
    """A loose quote takes no other row with it."""
    found, told = read(tmp_path, content)
    assert [key for key, _, _ in found] == [f"F#{id_}" for id_ in stored.split()]
    assert told == problems


def test_encodings(tmp_path: Path) -> None:
    """Declared; a byte order mark knows better; unknown ones are refused."""
    for encoding in ("cp1252", "utf-16-le", "utf-16-be", "cp037", "utf-32-le"):
        content = "id,text,town\n1,café,Köln\n2,b,\n".encode(encoding)
        assert read(tmp_path, content, encoding=encoding)[0][0] == ("F#1", "café", {"town": "Köln"})
        assert read(tmp_path, "café\n".encode(encoding), "a.txt", encoding=encoding)[0][0][1] == "café\n"
        assert read(tmp_path, b"\xef\xbb\xbfid,text\n1,a\n", encoding="utf-16-le")[0] == [("F#1", "a", {})]
    odd = read(tmp_path, "id,text\n1,a\n".encode("utf-16-le") + b"\x00", encoding="utf-16-le")
    assert (odd[0], odd[1][0][:35]) == ([("F#1", "a", {})], "3: not utf-16-le text (truncated da")
    assert check_encoding("Latin1") == "iso8859-1"
    for name in ("base64", "rot13", "nothing", "", "a" * 100_000, "x\x00"):
        with pytest.raises(InputError, match="is no encoding that is known"):
            check_encoding(name)


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.txt", "a.md"])
def test_what_is_too_long_is_not_read(name: str, tmp_path: Path) -> None:
    """A row or a text over the limit is a problem; rows behind it are read."""
    rows = {
        "a.csv": ["text", "x" * 200, "good"],
        "a.jsonl": ['{"text": "' + "x" * 200 + '"}', '{"text": "good"}'],
    }.get(name, ["x" * 200])
    path = tmp_path / name
    path.write_text("\n".join(rows))
    problems: list[Problem] = []
    found = [d.text for d in read_documents(path, report=problems.append, max_bytes=100)]
    assert found == (["good"] if name in ("a.csv", "a.jsonl") else [])
    assert len(problems) == 1
    assert "100" in problems[0].reason
    with pytest.raises(SourceError, match="100"):
        list(read_documents(path, max_bytes=100))


def test_a_quote_that_never_ends_is_bounded(tmp_path: Path) -> None:
    """The row that it begins is given up at the limit, and the rows behind it are read."""
    path = tmp_path / "a.csv"
    path.write_text('text\n"never\n' + "good\n" * 100)
    problems: list[Problem] = []
    found = [d.text for d in read_documents(path, report=problems.append, max_bytes=50)]
    assert (len(found), [problem.line for problem in problems]) == (100, [2])
    assert "longer than 50 characters" in problems[0].reason
