"""Words: texts and queries in any Unicode form meet; older tables keep theirs until `rebuild`; no word is cut."""

import random
import sqlite3
import unicodedata
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge_embed import Document, Embedder, Index
from edge_embed_runtime.index.stats import read_stats
from edge_embed_runtime.inputs.words import folded, in_word, normal
from edge_embed_runtime.maintenance.reembed import reembed_index
from edge_embed_runtime.maintenance.verify import verify_index
from edge_embed_runtime.passages.borders import is_border, near_border
from edge_embed_runtime.passages.late import late_passages
from edge_embed_runtime.passages.split import split
from edge_embed_runtime.search.keywords import split_query
from edge_embed_runtime.storage import create as creating
from edge_embed_runtime.storage.schema import WORDS, Facts
from edge_embed_runtime.storage.words import WordTable

TEXT = "한국어 문서 검색 ガラス Größe हिन्दी क़लम"
# What is written in a document, and what finds it.
PAIRS = [
    ("ｶﾞﾗｽの窓", "ガラスの窓"),
    ("the ﬁnal ﬂoor", "final"),
    ("１２３４５ pieces", "12345"),
    ("Ｗｉｄｅ letters", "wide"),
    ("10³", "103"),
    ("№ 5", "no"),
    ("ﻣﺮﺣﺒﺎ", "مرحبا"),
    ("Ångström", "ångström"),
]


@pytest.fixture(scope="module")
def static() -> Embedder:
    return Embedder("static", threads=1)


@pytest.mark.parametrize("kind", WORDS)
@pytest.mark.parametrize("form", ["NFC", "NFD", "NFKC", "NFKD"])
def test_texts_in_any_form_are_found_by_queries_in_any_form(
    form: str, kind: str, static: Embedder, tmp_path: Path
) -> None:
    """And stay as they are; the table fits them, before and after a delete."""
    text = unicodedata.normalize(form, TEXT)
    with Index.open(tmp_path / "x.db", static, words=kind) as index:
        index.add([Document("a", text), Document("b", "another text")])
        for query in (TEXT, text, "한국어", unicodedata.normalize("NFD", "ガラス"), "हिन्दी", "größe", "क़लम"):
            assert [hit.key for hit in index.search(query, mode="text")] == ["a"], query
        hit = index.search("검색", mode="text")[0]
        assert (hit.text, index.get("a")) == (text, Document("a", text))
        assert index.verify().whole
        index.delete("a")
        assert index.verify().whole
        assert index.search("한국어", mode="text") == []


@pytest.mark.parametrize(("text", "query"), PAIRS)
@pytest.mark.parametrize("kind", WORDS)
def test_what_looks_alike_is_one_word(text: str, query: str, kind: str, static: Embedder, tmp_path: Path) -> None:
    """Half and full width, ligatures, raised digits, presentation forms: either way round."""
    with Index.open(tmp_path / "x.db", static, words=kind) as index:
        index.add([Document("written", text), Document("asked", query), Document("other", "something else")])
        for asked in (query, text):
            found = {hit.key for hit in index.search(asked, mode="text")}
            assert {"written", "asked"} <= found
            assert "other" not in found


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("Мы и Ёж", "ё"),
        ("Мы И ёж", "и"),
        ("ΟΣ και", "ος"),
        ("ΌΣ", "όσ"),
        ("日本へ", "日本"),
        ("ﾆｯﾎﾟﾝ", "ニッ"),
        ("한국 가다", "한국"),
        ("Äb", "äB"),
    ],
)
@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_short_words_in_a_table_of_trigrams(text: str, query: str, form: str, static: Embedder, tmp_path: Path) -> None:
    """In any letter case and form: one or two characters of scripts beyond ASCII."""
    with Index.open(tmp_path / "x.db", static, words="trigram") as index:
        index.add([Document("a", unicodedata.normalize(form, text)), Document("b", "zzz")])
        assert [hit.key for hit in index.search(query, mode="text")] == ["a"]
        assert [hit.key for hit in index.search(query, mode="text", where={"$key": "b"})] == []


def old_index(path: Path, static: Embedder, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a release before this made it: words as the texts are, and no fact that says so."""
    with monkeypatch.context() as patch:
        create = creating.create_index
        patch.setattr(creating, "create_index", lambda path, facts: create(path, replace(facts, normal="")))
        with Index.open(path, static) as index:
            index.add([Document("nfd", unicodedata.normalize("NFD", TEXT)), Document("plain", "한국어 ferry")])
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT 1 FROM meta WHERE key = 'normal'").fetchone() is None


def test_older_tables_keep_their_words_until_they_are_rebuilt(
    static: Embedder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They say so, are whole, take and delete documents, and find more afterwards; a reader that is open follows."""
    path = tmp_path / "x.db"
    old_index(path, static, monkeypatch)
    assert "rebuild" in read_stats(path)["advice"]
    with Index.open(path, static) as index, Index.open(path, static, read_only=True) as reader:
        assert [hit.key for hit in reader.search("한국어", mode="text")] == ["plain"]
        index.add([Document("new", unicodedata.normalize("NFD", "가방"))])
        index.delete("new")
        assert index.verify().whole
        index.rebuild()
        assert "advice" not in index.stats()
        for one in (index, reader):
            assert {hit.key for hit in one.search("한국어", mode="text")} == {"nfd", "plain"}
            assert {hit.key for hit in one.search(unicodedata.normalize("NFD", "ガラス"), mode="text")} == {"nfd"}
        index.delete("nfd")
        assert index.verify().whole


def test_repair_keeps_the_form_and_reembed_brings_the_new_one(
    static: Embedder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Words and fact change in one transaction."""
    path = tmp_path / "x.db"
    old_index(path, static, monkeypatch)
    with closing(sqlite3.connect(path)) as db:
        db.execute("DELETE FROM fts_docsize")
        db.commit()
    with Index.open(path, static) as index:
        assert index.repair().rebuilt == ["words"]
        assert "advice" in index.stats()
        assert index.verify().whole
    shorter = Embedder("static", truncate_dim=64)
    reembed_index(path, shorter)
    assert verify_index(path).whole
    with Index.open(path, shorter) as index:
        assert "advice" not in index.stats()
        assert {hit.key for hit in index.search("한국어", mode="text")} == {"nfd", "plain"}


def test_a_rebuild_that_fails_leaves_words_and_fact_as_they_were(
    static: Embedder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both are of one transaction, and the object goes by what is stored."""
    path = tmp_path / "x.db"
    old_index(path, static, monkeypatch)
    with Index.open(path, static) as index:
        with monkeypatch.context() as patch:
            patch.setattr(WordTable, "of_passages", lambda *_: (_ for _ in ()).throw(ValueError("full")))
            with pytest.raises(ValueError, match="full"):
                index.rebuild()
        assert "advice" in index.stats()
        index.add([Document("new", unicodedata.normalize("NFD", "가방"))])
        index.delete("nfd")
        assert index.verify().whole


def test_facts_say_the_form() -> None:
    """An unknown one is damage; none is that of earlier releases, whose checksum it does not change."""
    facts = Facts("f", "b", 8, normal="NFKC")
    assert Facts.from_rows(facts.rows()) == facts
    assert Facts.from_rows(replace(facts, normal="NFX").rows()) is None
    assert "normal" not in replace(facts, normal="").rows()


def test_one_function_makes_words_of_texts_and_queries() -> None:
    """ASCII as it is; queries of older tables in NFC."""
    assert normal("ｶﾞ ﬁ") == "ガ fi"
    assert normal("ｶﾞ ﬁ", "") == "ｶﾞ ﬁ"
    assert split_query("ｶﾞﾗｽ ﬁ", "") == ["ｶﾞﾗｽ", "ﬁ"]
    assert split_query("ｶﾞﾗｽ ﬁ") == ["ガラス", "fi"]
    assert split_query("Größe Grösse GRÖSSE") == ["Größe", "Grösse"]  # FTS5 takes ß and ss for two
    assert folded("ΟΔΟΣ") == folded("οδος") == folded("οδοσ")


@pytest.mark.parametrize(
    ("text", "place", "border"),
    [
        ("river bank", 5, True),
        ("river bank", 6, True),
        ("river bank", 3, False),
        ("it's", 2, True),
        ("自然语言", 2, True),
        ("ガラス", 1, True),
        (unicodedata.normalize("NFD", "ガラス"), 1, False),
        (unicodedata.normalize("NFD", "한국"), 1, False),
        (unicodedata.normalize("NFD", "한국"), 3, True),
        ("กำ", 1, True),
        ("กิ", 1, False),
        ("e\u0301", 1, False),
        ("2015年", 4, True),
        ("x", 0, True),
        ("x", 1, True),
    ],
)
def test_borders_of_words(text: str, place: int, border: bool) -> None:
    """Between words, and between characters of scripts without spaces; never before a mark."""
    assert is_border(text, place) == border


def test_the_nearest_border_is_looked_for_backwards() -> None:
    """Not further than asked, nor than words are long."""
    text = "a riverbank " + "x" * 100
    tokens = np.array([(0, 1), (2, 7), (7, 11), *((12 + i, 13 + i) for i in range(100))])
    assert near_border(text, tokens, 2, 0) == 1
    assert near_border(text, tokens, 2, 2) == 2
    assert near_border(text, tokens, 3, 0) == 3
    assert near_border(text, tokens, 10, 0) == 3
    assert near_border(text, tokens, 90, 0) == 90


@pytest.mark.parametrize("late", [False, True])
def test_passages_cut_no_word(late: bool, embedder: Embedder) -> None:
    """They fit the model all the same, and leave out nothing."""
    rng = random.Random("passages")  # noqa: S311 - test data
    syllables = ["kar", "zon", "mip", "tel", "bru", "vax", "qui", "dor"]
    text = " ".join("".join(rng.choices(syllables, k=rng.randint(2, 5))) for _ in range(1500))
    spans = late_passages(embedder, [text])[0] if late else split(text, embedder.tokenizer)
    assert len(spans) > 5
    inside = [at for span in spans for at in span if 0 < at < len(text) and in_word(text[at - 1]) and in_word(text[at])]
    assert inside == []
    covered = np.zeros(len(text), bool)
    for start, stop in spans:
        covered[start:stop] = True
        assert len(embedder.tokenizer.offsets(text[start:stop])) <= embedder.tokenizer.max_content
    assert not any(map(str.isalnum, np.array(list(text))[~covered]))
