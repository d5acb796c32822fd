"""Search by words and by both: what is found, in which order."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders.files import alter

from edge_embed import Document, Index
from edge_embed_runtime.search import fusion
from edge_embed_runtime.search.query import TEXT_SHARE, Ranking

DIM = 8


def vectors(*cosines: float) -> np.ndarray[Any, Any]:
    """Vectors with these cosines to the first axis."""
    made = np.zeros((len(cosines), DIM), np.float32)
    made[:, 0] = cosines
    made[:, 1] = np.sqrt(1 - made[:, 0] ** 2)
    return made


QUERY = vectors(1.0)[0]


def made(path: Path, texts: list[str], words: str = "english") -> Index:
    index = Index.create(path, space="test", dim=DIM, words=words)
    index.add_vectors([Document(str(i), text, {"n": i}) for i, text in enumerate(texts)], vectors(*[0.5] * len(texts)))
    return index


def fuse(by_vector: Ranking, by_text: Ranking, depth: int) -> Ranking:
    """Vectors and words fused, of what the vectors find."""
    return fusion.fuse([(1 - TEXT_SHARE, by_vector), (TEXT_SHARE, by_text)], depth, by_vector)


def test_fuse() -> None:
    """Both scores count, each by how far it stands out in its list, whatever its scale."""
    by_vector = {1: (0.9, 10), 2: (0.8, 20), 3: (0.1, 30)}
    by_text = {2: (7.0, 21), 3: (5.0, 31)}
    fused = fuse(by_vector, by_text, 100)
    assert list(fused) == [2, 1, 3]
    assert [passage for _, passage in fused.values()] == [20, 10, 30]
    cosines, words = np.array([0.9, 0.8, 0.1]), np.array([0, 7.0, 5.0])
    expected = (1 - TEXT_SHARE) * (0.8 - cosines.mean()) / cosines.std()
    expected += TEXT_SHARE * (7 - words.mean()) / words.std()
    assert fused[2][0] == pytest.approx(expected)
    narrow = {doc: (0.7 + 0.1 * score, passage) for doc, (score, passage) in by_vector.items()}
    large = {doc: (100 * score, passage) for doc, (score, passage) in by_text.items()}
    assert [score for score, _ in fuse(narrow, large, 100).values()] == pytest.approx([s for s, _ in fused.values()])


def test_fuse_at_its_edges() -> None:
    """One document, equal scores, and no more than the first of each list."""
    assert fuse({1: (0.5, 10)}, {1: (3.0, 11)}, 100) == {1: (0.0, 10)}
    assert list(fuse({2: (0.5, 20), 1: (0.5, 10)}, {}, 100)) == [1, 2]
    by_vector = {1: (0.9, 10), 2: (0.8, 20), 3: (0.7, 30), 4: (0.6, 40)}
    assert set(fuse(by_vector, {4: (2.0, 41), 3: (1.0, 31)}, 1)) == {1, 4}
    assert set(fuse(by_vector, {5: (2.0, 51)}, 4)) == {1, 2, 3, 4}  # its passage is damaged: it has no cosine


def test_hybrid_weighs_both(tmp_path: Path) -> None:
    """A document that words alone would find gets its cosine too, though it is far from the nearest."""
    with Index.create(tmp_path / "a.db", space="test", dim=DIM) as index:
        near = [Document(f"near {i}", f"Nothing of note, {i}.") for i in range(300)]
        index.add_vectors(near, vectors(*np.linspace(0.8, 0.6, 300)))
        index.add_vectors(
            [Document("words", "The zinc mine."), Document("both", "Of zinc, and a mine, and more.")],
            vectors(-0.9, 0.55),
        )
        hits = index.search("zinc mine", 5, vector=QUERY, mode="hybrid")
        assert hits[0].key == "both"
        assert [hit.key for hit in hits[1:]] == ["near 0", "near 1", "near 2", "near 3"]
        assert [hit.key for hit in index.search("zinc mine", 2, mode="text")] == ["words", "both"]
        found = index.search("unheard", 3, vector=QUERY, mode="hybrid")
        assert [hit.key for hit in found] == ["near 0", "near 1", "near 2"]


def test_damaged_text_hits_are_left_out_of_hybrid(tmp_path: Path) -> None:
    """What words find and whose code is damaged is reported and not returned."""
    path = tmp_path / "a.db"
    made(path, ["zinc", "zinc and iron", "copper"]).close()
    alter(path, "UPDATE vec SET crc = crc + 1 WHERE id = 1")
    with Index.open(path) as index:
        assert [hit.key for hit in index.search("zinc", vector=QUERY, mode="hybrid")] == ["1", "2"]
        assert index.damaged == [1]


def test_words_of_most_documents(tmp_path: Path) -> None:
    """They are found when nothing rarer is asked for, and when rarer words give too few documents."""
    texts = [f"to be or not to be, number {i}" for i in range(50)]
    with made(tmp_path / "a.db", [*texts, "zinc, to be sure", "the answer"], words="plain") as index:
        assert len(index.search("to be or not to be", 60, mode="text")) == 51
        hits = index.search("to be zinc", 60, mode="text")
        assert (hits[0].key, len(hits)) == ("50", 51)
        assert [hit.key for hit in index.search("to be zinc", 1, mode="text")] == ["50"]
        assert [hit.key for hit in index.search("to be zinc", 60, {"n": {"$lt": 2}}, "text")] == ["0", "1"]
        assert index.search("gold", mode="text").shortfall == "only 0 documents hold a word of the query"


ASIA = [
    "自然语言处理是人工智能的一个分支。",
    "所有文件都存储在数据库里，数据库在云端。",
    "東京タワーは高さ333メートルの電波塔です。",
    "กรุงเทพมหานครเป็นเมืองหลวงของประเทศไทย",
    "AI and databases. An ai.",
    "水",
]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("什么是自然语言处理", ["0"]),
        ("東京タワーの高さ", ["2"]),
        ("เมืองหลวงของไทย", ["3"]),
        ("DATABASES", ["4"]),
        ("数据", ["1"]),
        ("数据 云", ["1"]),
        ("人工 数据", ["1", "0"]),
        ("水", ["5"]),
        ("Ai", ["4"]),
        ("ไท", ["3"]),
        ("电脑", []),
        ("?", []),
    ],
)
def test_an_index_of_trigrams(tmp_path: Path, query: str, expected: list[str]) -> None:
    """Words without spaces are found by three characters in a row, shorter ones by reading all texts."""
    with made(tmp_path / "a.db", ASIA, words="trigram") as index:
        assert [hit.key for hit in index.search(query, mode="text")] == expected
        where = {"n": {"$in": [int(key) for key in expected[:1]]}}
        assert [hit.key for hit in index.search(query, where=where, mode="text")] == expected[:1]
        assert [hit.key for hit in index.search(query, vector=QUERY, mode="hybrid")][: len(expected)] == expected
