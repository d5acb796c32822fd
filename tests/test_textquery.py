import sqlite3
from collections.abc import Iterator

import pytest

from edge_embed_runtime.textquery import MAX_TERMS, match_expression


@pytest.fixture
def fts() -> Iterator[sqlite3.Connection]:
    """An FTS5 table with a few documents."""
    db = sqlite3.connect(":memory:")
    db.execute("CREATE VIRTUAL TABLE fts USING fts5(text, tokenize='porter unicode61 remove_diacritics 2')")
    texts = ["red near blue", "a night in the garden", "snake_case names", "Größe der Äpfel", "数据 库", "C is not D"]
    db.executemany("INSERT INTO fts (text) VALUES (?)", [(text,) for text in texts])
    yield db
    db.close()


@pytest.mark.parametrize(
    ("query", "expression"),
    [
        ("bank", '"bank"'),
        ('Is "this" a test? Is it', '"Is" OR "this" OR "a" OR "test" OR "it"'),
        ("red AND blue", '"red" OR "AND" OR "blue"'),
        ("NOT red", '"NOT" OR "red"'),
        ("NEAR(red blue, 5)", '"NEAR" OR "red" OR "blue" OR "5"'),
        ("text:red", '"text" OR "red"'),
        ("^red* -blue +a", '"red" OR "blue" OR "a"'),
        ("{a b}: (c", '"a" OR "b" OR "c"'),
        ("it's 3.14\ttoday\n", '"it" OR "s" OR "3" OR "14" OR "today"'),
        ("Red red RED blue", '"Red" OR "blue"'),
        ("snake_case __init__", '"snake" OR "case" OR "init"'),
        ("Größe ÄPFEL", '"Größe" OR "ÄPFEL"'),
        ("数据 データ", '"数据" OR "データ"'),
        ("re\u0301sume\u0301 İstanbul", '"résumé" OR "İstanbul"'),
        ("हिन्दी", '"हिन्दी"'),
        ("nul\x00byte", '"nul" OR "byte"'),
    ],
)
def test_words_are_quoted(query: str, expression: str, fts: sqlite3.Connection) -> None:
    """Each word once, in quotes, so that operators and punctuation lose their meaning."""
    assert match_expression(query) == expression
    fts.execute("SELECT rowid FROM fts WHERE fts MATCH ?", (expression,)).fetchall()


@pytest.mark.parametrize("query", ["", "  \n", "?!", '"', "'", "*", "()", "_", "__ ___", "\x00", "😀", "--;", "\ud800"])
def test_no_words_make_no_expression(query: str) -> None:
    """Without a word there is nothing that FTS5 would accept."""
    assert match_expression(query) is None


@pytest.mark.parametrize(
    ("query", "rows"),
    [
        ("blue NEAR", [1]),
        ("NOT garden", [2, 6]),
        ("Gardens?", [2]),
        ("snake_case", [3]),
        ("grosse größe", [4]),
        ("APFEL", [4]),
        ("数据", [5]),
        ("red OR snake", [1, 3]),
        ("²", []),
        ("unknown", []),
    ],
)
def test_expressions_find_any_of_the_words(query: str, rows: list[int], fts: sqlite3.Connection) -> None:
    """A document with one of the words is found; stems and accents are FTS5's matter."""
    found = fts.execute("SELECT rowid FROM fts WHERE fts MATCH ? ORDER BY rowid", (match_expression(query),))
    assert [row for (row,) in found] == rows


def test_long_queries_are_cut(fts: sqlite3.Connection) -> None:
    """The first different words of a document that is given as a query count, up to the limit."""
    expression = match_expression(" ".join(f"_ w{i} w{i}" for i in range(1000)))
    assert expression == " OR ".join(f'"w{i}"' for i in range(MAX_TERMS))
    assert fts.execute("SELECT rowid FROM fts WHERE fts MATCH ?", (expression,)).fetchall() == []


def test_every_ascii_sign_is_harmless(fts: sqlite3.Connection) -> None:
    """No sign between, before or after words makes FTS5 refuse the expression or miss the words."""
    for sign in (chr(code) for code in range(128) if not chr(code).isalnum()):
        expression = match_expression(f"{sign}red{sign} {sign} {sign}{sign}garden{sign}")
        found = fts.execute("SELECT count(*) FROM fts WHERE fts MATCH ?", (expression,)).fetchone()
        assert found == (2,), repr(sign)
