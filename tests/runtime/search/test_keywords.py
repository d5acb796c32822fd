"""keywords.py: words of a query, phrases for FTS5, and which of them a search needs."""

import math
import random
import sqlite3
from collections.abc import Iterator

import pytest

from edge_embed_runtime.search.keywords import K1, LEAST, MAX_TERMS, Ranked, phrases, split_query
from edge_embed_runtime.storage.schema import WORDS


def match_expression(query: str) -> str:
    """Any of the words."""
    return " OR ".join(phrases(split_query(query), "english"))


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
    assert split_query(query) == []


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


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("running shoes of mine", ["running", "shoes", "mine"]),
        ("自然语言处理", ["自然语", "然语言", "语言处", "言处理"]),
        ("東京タワーの高さは?", ["東京タ", "京タワ", "タワー", "ワーの", "ーの高", "の高さ", "高さは"]),
        ("ประเทศไทย", ["ประ", "ระเ", "ะเท", "เทศ", "ทศไ", "ศไท", "ไทย"]),
        ("한국어를 배우다", ["한국어", "국어를", "배우다"]),
        ("2015年の iPhone", ["201", "015", "15年", "5年の", "iPhone"]),
        ("数据 库 AI", []),
        ("Größe größe", ["Größe"]),
    ],
)
def test_trigrams(query: str, expected: list[str]) -> None:
    """Words of scripts with spaces stay whole; of others every three characters count, each three once."""
    assert phrases(split_query(query), "trigram") == [f'"{part}"' for part in expected]


@pytest.mark.parametrize(
    ("query", "best"),
    [
        ("语言处理", 0),
        ("什么是自然语言处理？", 0),
        ("数据库存储在哪里", 1),
        ("東京タワーの高さは何メートルですか", 2),
        ("ラーメン", 3),
        ("กรุงเทพมหานครอยู่ที่ไหน", 4),
        ("한국의 수도는 어디입니까", 5),
        ("GRÖSSE und Gewicht", 6),
        ("haus", 7),
    ],
)
def test_trigrams_find_words_without_spaces(query: str, best: int) -> None:
    """In Chinese, Japanese, Thai and Korean, and parts of long words."""
    texts = [
        "自然语言处理是人工智能的一个分支。",
        "所有文件都存储在数据库里。",
        "東京タワーは高さ333メートルの電波塔です。",
        "昨日は駅前でラーメンを食べました。",
        "กรุงเทพมหานครเป็นเมืองหลวงของประเทศไทย",
        "대한민국의 수도는 서울입니다.",
        "Die grösse der Äpfel, und ihr Gewicht.",
        "Das Krankenhaus liegt am Fluss.",
    ]
    db = sqlite3.connect(":memory:")
    db.execute(f"CREATE VIRTUAL TABLE fts USING fts5(text, tokenize='{WORDS['trigram']}')")
    db.executemany("INSERT INTO fts (rowid, text) VALUES (?, ?)", list(enumerate(texts)))
    expression = " OR ".join(phrases(split_query(query), "trigram"))
    found = db.execute("SELECT rowid FROM fts WHERE fts MATCH ? ORDER BY bm25(fts)", (expression,)).fetchall()
    db.close()
    assert found[0] == (best,)


def test_the_rarest_words_come_first() -> None:
    """A passage must hold one of them; the others weigh too, and a word of most passages does not."""
    ranked = Ranked([(400, '"of"'), (2, '"zinc"'), (990, '"the"'), (50, '"metal"')], 1000)
    assert ranked.phrases == ['"zinc"', '"metal"', '"of"', '"the"']
    assert ranked.expression(1) == ('("zinc") AND ("zinc" OR "metal" OR "of" OR "metal" OR "of")', 2)
    assert ranked.expression(3) == ('"zinc" OR "metal" OR "of"', 1)
    assert ranked.expression(4) == ('"zinc" OR "metal" OR "of" OR "the"', 1)


def test_what_a_score_makes_needless() -> None:
    """As many words as leave less than the score to passages without them."""
    counts = [2, 50, 400, 990]
    weights = [max(LEAST, math.log((1000.5 - n) / (n + 0.5))) for n in counts]
    ranked = Ranked([(n, f'"{n}"') for n in counts], 1000)
    for needed in range(1, 5):
        rest = (K1 + 1) * sum(weights[needed:])
        assert ranked.needed(rest + 1e-9) == needed
        assert needed == 4 or ranked.needed(rest - 1e-9) == needed + 1
    assert ranked.needed(1e9) == 1
    assert 1 <= ranked.needed() <= 3
    assert Ranked([(5, '"a"')], 5).needed() == 1


def test_no_passage_is_lost() -> None:
    """Where the last passage wanted reaches the score, the best are those of all words, with the same scores."""
    rng = random.Random("words")  # noqa: S311 - repeatable test data
    db = sqlite3.connect(":memory:")
    db.execute("CREATE VIRTUAL TABLE fts USING fts5(text)")
    vocabulary = [f"w{i}" for i in range(200)]
    frequent = [1 / (i + 1) for i in range(200)]
    rows = [(i, " ".join(rng.choices(vocabulary, frequent, k=rng.randint(5, 40)))) for i in range(2000)]
    db.executemany("INSERT INTO fts (rowid, text) VALUES (?, ?)", rows)
    query = "SELECT rowid, -bm25(fts) FROM fts WHERE fts MATCH ? ORDER BY bm25(fts), rowid LIMIT ?"
    fewer = 0
    for _ in range(100):
        words = [f'"{word}"' for word in rng.sample(vocabulary[:60], rng.randint(1, 8))]
        counts = [db.execute("SELECT count(*) FROM fts WHERE fts MATCH ?", (word,)).fetchone()[0] for word in words]
        ranked = Ranked(list(zip(counts, words, strict=True)), len(rows))
        expected = db.execute(query, (" OR ".join(words), 10)).fetchall()
        needed = ranked.needed(expected[-1][1])
        expression, times = ranked.expression(needed)
        found = [(row, score / times) for row, score in db.execute(query, (expression, 10)).fetchall()]
        assert [score for _, score in found] == pytest.approx([score for _, score in expected], abs=1e-4)
        assert {row for row, score in expected if score > expected[-1][1] + 1e-4} <= {row for row, _ in found}
        fewer += needed < len(words)
    db.close()
    assert fewer > 50


def test_the_longest_query_runs(fts: sqlite3.Connection) -> None:
    """SQLite's limits on the size of an expression are not met."""
    ranked = Ranked([(i + 1, f'"w{i}"') for i in range(MAX_TERMS)], 10**6)
    for needed in (1, MAX_TERMS // 2, MAX_TERMS):
        assert fts.execute("SELECT rowid FROM fts WHERE fts MATCH ?", ranked.expression(needed)[:1]).fetchall() == []
