"""Recall is what `recall` says, for vectors of many kinds: rotations learned while adding, and honest estimates."""

import json
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders.files import alter

from edge_embed import Document, Index
from edge_embed.errors import StorageError
from edge_embed_runtime.maintenance import learn_rotation
from edge_embed_runtime.maintenance.verify import verify_index
from edge_embed_runtime.search import nearest
from edge_embed_runtime.search.coverage import Asked, Found, Sample, limits
from edge_embed_runtime.search.hnsw import Cache
from edge_embed_runtime.search.query import RECALL
from edge_embed_runtime.search.streamed import StreamedCodes
from edge_embed_runtime.storage.rows import checked_passages, passage_row
from edge_embed_runtime.storage.store import Store
from edge_embed_runtime.system.headroom import Room
from edge_embed_runtime.vectors import hamming
from edge_embed_runtime.vectors.bits import BinaryCodes, binarize
from edge_embed_runtime.vectors.hamming import Pool, Selection, distances
from edge_embed_runtime.vectors.int8 import quantize_int8
from edge_embed_runtime.vectors.rotation import NONE, Frame, learn_frame
from edge_embed_runtime.vectors.scores import score_int8
from edge_embed_runtime.vectors.types import Places, Vectors, Words

COUNT, ASKED = 2500, 20


def unit(rows: Any) -> Vectors:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def cone(random: np.random.Generator, count: int, dim: int, shift: float, seed: int = 3) -> Vectors:
    """Vectors that share a part, `shift` times as long as what is their own."""
    shared = np.random.default_rng(seed).standard_normal(dim)
    spectrum = (1 + np.arange(dim)) ** -0.5
    return unit(
        random.standard_normal((count, dim)) * spectrum / np.linalg.norm(spectrum)
        + shift * shared / np.linalg.norm(shared)
    )


def clustered(random: np.random.Generator, count: int, dim: int) -> Vectors:
    centres = np.random.default_rng(4).standard_normal((100, dim))
    return unit(centres[random.integers(0, 100, count)] + random.standard_normal((count, dim)))


def repeated(random: np.random.Generator, count: int) -> Vectors:
    return clustered(np.random.default_rng(5), 40, 64)[random.integers(0, 40, count)]


def uneven(random: np.random.Generator, count: int) -> Vectors:
    return unit(random.standard_normal((count, 96)) * np.exp(1.5 * np.random.default_rng(6).standard_normal(96)))


def narrow(random: np.random.Generator, count: int) -> Vectors:
    return unit(random.standard_normal((count, 8)) @ np.random.default_rng(7).standard_normal((8, 128)))


KINDS: dict[str, Callable[[np.random.Generator, int], Vectors]] = {
    "even": lambda random, count: unit(random.standard_normal((count, 128))),
    "few dimensions": lambda random, count: unit(random.standard_normal((count, 32))),
    "clustered": lambda random, count: clustered(random, count, 96),
    "cone": lambda random, count: cone(random, count, 128, 1.5),
    "narrow cone": lambda random, count: cone(random, count, 128, 5),
    "repeated": repeated,
    "all equal": lambda _, count: np.tile(unit(np.ones((1, 48))), (count, 1)),
    "signs": lambda random, count: unit(random.choice([-1.0, 1.0], (count, 64))),
    "low rank": narrow,
    "few large coordinates": uneven,
    "many dimensions": lambda random, count: cone(random, count // 4, 1536, 2),
}


def fill(path: Path, vectors: Vectors, first: int = 0) -> None:
    with Index.open(path) if path.exists() else Index.create(path, space="s", dim=vectors.shape[1]) as index:
        rows = range(first, first + len(vectors))
        index.add_vectors([Document(str(i), "", {"part": i % 20}) for i in rows], vectors)


def int8_scores(stored: Vectors, query: Vectors) -> Vectors:
    return score_int8(*quantize_int8(stored), query)


def best(scores: Vectors, k: int) -> list[str]:
    """Keys of the k largest, equal ones by number."""
    return [str(i) for i in np.lexsort((np.arange(len(scores)), -scores))[:k]]


def found_part(index: Index, stored: Vectors, query: Vectors, k: int, modulus: int = 1, **options: Any) -> float:
    """Part of the hits that score as the k-th nearest of those whose number is divided by `modulus`, or more."""
    scores = np.where(np.arange(len(stored)) % modulus == 0, int8_scores(stored, query), -2)
    where = None if modulus == 1 else {"part": 0}
    keys = [int(hit.key) for hit in index.search(vector=query, k=k, where=where, **options)]
    assert len(keys) == k
    return float(np.mean(scores[keys] >= np.sort(scores)[-k]))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.slow
def test_recall_for_vectors_of_any_kind(tmp_path: Path, kind: str) -> None:
    """0.99 on average, with and without a filter; with recall=1 exactly the order of all int8 codes."""
    random = np.random.default_rng(1)
    stored, queries = KINDS[kind](random, COUNT), KINDS[kind](random, 4 * ASKED)[:ASKED]
    fill(tmp_path / "i.db", stored)
    with Index.open(tmp_path / "i.db", read_only=True) as index:
        for k in (1, 10):
            assert np.mean([found_part(index, stored, query, k) for query in queries]) >= 0.98
        assert np.mean([found_part(index, stored, query, 10, 20) for query in queries]) >= 0.98
        for query in queries[:4]:
            scores = int8_scores(stored, query)
            assert [hit.key for hit in index.search(vector=query, recall=1.0)] == best(scores, 10)
            within = best(np.where(np.arange(len(stored)) % 20 == 0, scores, -2), 10)
            assert [hit.key for hit in index.search(vector=query, recall=1.0, where={"part": 0})] == within


def test_old_codes_find_as_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An index in a cone without a rotation, as earlier releases made it: searches widen until enough is found, and the
    next commit learns one."""
    random = np.random.default_rng(2)
    stored, queries = cone(random, COUNT, 128, 3), cone(random, ASKED, 128, 3)
    with monkeypatch.context() as patch:
        patch.setattr(learn_rotation, "when_grown", lambda _: None)
        fill(tmp_path / "i.db", stored)
    with Index.open(tmp_path / "i.db", read_only=True) as index:
        assert index._store.frame == NONE
        assert np.mean([found_part(index, stored, query, 10) for query in queries]) >= 0.98
        fill(tmp_path / "i.db", queries[:1], COUNT)
        assert index.search(vector=queries[0], k=1)[0].key == str(COUNT)
        assert index._store.frame.centre is not None
    assert verify_index(tmp_path / "i.db").whole


def frame_of(path: Path) -> Frame:
    store = Store(path, read_only=True)
    store.close()
    return store.frame


def test_rotation_is_learned_and_readers_follow(tmp_path: Path) -> None:
    """From 256 vectors on, in the commit that brings them; other connections search on, and find as much."""
    path = tmp_path / "i.db"
    random = np.random.default_rng(3)
    stored = cone(random, 1200, 64, 4)
    fill(path, stored[:200])
    with Index.open(path, read_only=True) as reader:
        assert found_part(reader, stored[:200], stored[5], 10) == 1
        assert frame_of(path) == NONE
        fill(path, stored[200:300], 200)
        learned = frame_of(path)
        assert learned.centre is not None
        assert found_part(reader, stored[:300], stored[250], 10) == 1
        np.testing.assert_array_equal(reader._store.frame.centre, learned.centre)
    fill(path, stored[300:550], 300)
    assert frame_of(path).to_json() == learned.to_json()  # no better one
    assert verify_index(path).whole


def test_rotation_is_learned_again_when_vectors_change(tmp_path: Path) -> None:
    """Vectors around another direction than before get a rotation of their own."""
    path = tmp_path / "i.db"
    random = np.random.default_rng(4)
    one, other = cone(random, 500, 64, 4), cone(random, 4000, 64, 4, seed=8)
    fill(path, one)
    before = frame_of(path)
    fill(path, other, 500)
    after = frame_of(path)
    assert after.centre is not None
    assert before.centre is not None
    assert float(unit(after.centre[None])[0] @ unit(other.mean(axis=0)[None])[0]) > 0.9
    assert float(unit(before.centre[None])[0] @ unit(other.mean(axis=0)[None])[0]) < 0.5
    assert verify_index(path).whole


def test_learning_is_rare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each time the index has doubled, however few come at a time; a damaged note costs one more."""
    looked: list[int] = []
    real = learn_rotation.learn

    def learn(store: Store, frame: Frame) -> Any:
        looked.append(store.counts()[1])
        return real(store, frame)

    monkeypatch.setattr(learn_rotation, "learn", learn)
    path = tmp_path / "i.db"
    stored = unit(np.random.default_rng(5).standard_normal((1200, 24)))
    with Index.create(path, space="s", dim=24) as index:
        for start in range(0, 1200, 40):
            index.add_vectors([Document(str(i), "") for i in range(start, start + 40)], stored[start : start + 40])
    assert looked == [280, 560, 1120]
    alter(path, "UPDATE meta SET value = '99999999 00000000' WHERE key = 'learned'")
    with Index.open(path) as index:
        index.add_vectors([Document("a", "")], stored[:1])
        index.add_vectors([Document("b", "")], stored[:1])
    assert looked[3:] == [1201]


def test_a_full_disk_keeps_what_was_added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Documents are stored though their codes could not be made again; the next commit tries again."""
    path, stored = tmp_path / "i.db", cone(np.random.default_rng(6), 400, 64, 4)

    def full(*_: Any, **__: Any) -> None:
        raise StorageError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(learn_rotation, "recode", full)
        fill(path, stored[:300])
    assert frame_of(path) == NONE
    fill(path, stored[300:], 300)
    assert frame_of(path).centre is not None
    with Index.open(path, read_only=True) as index:
        assert len(index) == 400


@pytest.mark.slow
def test_searches_while_the_rotation_changes(tmp_path: Path) -> None:
    """Other threads and connections get the right hits throughout."""
    path, stored = tmp_path / "i.db", cone(np.random.default_rng(7), 3000, 48, 4)
    errors: list[str] = []
    done = threading.Event()
    with Index.create(path, space="s", dim=48) as index, Index.open(path, read_only=True) as reader:
        index.add_vectors([Document(str(i), "") for i in range(200)], stored[:200])

        def search(which: Index) -> None:
            while not done.is_set():
                for i in range(0, 200, 7):
                    keys = [hit.key for hit in which.search(vector=stored[i], k=3)]
                    if keys[0] != str(i):
                        errors.append(f"{i}: {keys}")

        threads = [threading.Thread(target=search, args=(which,)) for which in (index, reader)]
        for thread in threads:
            thread.start()
        for start in range(200, 3000, 400):
            rows = range(start, min(start + 400, 3000))
            index.add_vectors([Document(str(i), "") for i in rows], stored[rows.start : rows.stop])
            assert index._connections.writer is not None
            learn_rotation.recode(index._connections.writer, Frame(stored.mean(axis=0), turned=start % 800 == 200))
        done.set()
        for thread in threads:
            thread.join(30)
        assert errors == []
        assert index.verify().whole


def test_exact_with_passages_and_damage(tmp_path: Path) -> None:
    """Documents of several passages count once, by their best; damaged passages are left out and named."""
    path, random = tmp_path / "i.db", np.random.default_rng(8)
    stored = unit(random.standard_normal((600, 32)))
    fill(path, stored)
    # three passages to a document, as texts have them
    db = sqlite3.connect(path)
    store_rows = db.execute("SELECT id, doc, start, stop, code FROM vec").fetchall()
    rows = [passage_row(id_, (doc - 1) // 3 * 3 + 1, (start, stop), code) for id_, doc, start, stop, code in store_rows]
    db.executemany("UPDATE vec SET doc = ?, crc = ? WHERE id = ?", [(row[1], row[5], row[0]) for row in rows])
    db.execute("DELETE FROM doc WHERE id % 3 != 1")
    db.commit()
    db.close()
    query = stored[100]
    alter(path, "UPDATE vec SET crc = crc + 1 WHERE id = 101")
    scores = int8_scores(stored, query)
    scores[100] = -2
    by_document = scores.reshape(-1, 3).max(axis=1)
    expected = [str(3 * int(i)) for i in np.lexsort((np.arange(200), -by_document))[:50]]
    with Index.open(path, read_only=True) as index:
        hits = index.search(vector=query, k=50, recall=1.0)
        assert [hit.key for hit in hits] == expected
        np.testing.assert_allclose([hit.score for hit in hits], np.sort(by_document)[::-1][:50], atol=1e-6)
        assert index.damaged == [101]
        assert len(index.search(vector=query, k=300, recall=1.0)) == 200


def test_exact_reads_a_few_rows_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However large the index; also where codes stay in the file, and with many allowed ids."""
    path, stored = tmp_path / "i.db", unit(np.random.default_rng(9).standard_normal((2000, 32)))
    fill(path, stored)
    sizes: list[int] = []

    def checked(rows: Any, dim: int) -> Any:
        sizes.append(len(rows))
        return checked_passages(rows, dim)

    monkeypatch.setattr(nearest, "READ_NUMBERS", 32 * 100)
    monkeypatch.setattr(nearest, "checked_passages", checked)
    monkeypatch.setattr(Room, "for_codes", lambda *_: False)
    with Index.open(path, read_only=True, max_rss_mb=100_000) as index:
        for query in stored[:3]:
            assert [hit.key for hit in index.search(vector=query, recall=1.0)] == best(int8_scores(stored, query), 10)
            assert found_part(index, stored, query, 10, recall=0.9) > 0.6
        assert isinstance(index._search.dense.codes, StreamedCodes)
        few = index.search(vector=stored[0], recall=1.0, where={"part": {"$lt": 3}})
        scores = np.where(np.arange(2000) % 20 < 3, int8_scores(stored, stored[0]), -2)
        assert [hit.key for hit in few] == best(scores, 10)
    assert 0 < max(sizes) <= 100


def test_missed_is_near_what_is_missed() -> None:
    """The estimate for limits that leave out some of the nearest, against what is left out, over many queries."""
    random = np.random.default_rng(10)
    stored, queries = clustered(random, 6000, 128), clustered(random, 40, 128)
    words = np.ascontiguousarray(binarize(stored).T)
    signs = np.where(stored > 0, np.float32(1), np.float32(-1))
    sample = Sample(*quantize_int8(stored[random.choice(len(stored), 512, replace=False)]), NONE)
    for part in (0.01, 0.05, 0.3):
        estimated, missing = [], []
        for query in queries:
            scores, estimates = stored @ query, signs @ query
            asked = Asked(query, NONE)
            bits = distances(words, asked.words)
            pool = hamming.nearest(words, asked.words, int(part * len(stored)))
            least = float(np.sort(estimates[pool.places])[-len(pool.places) // 4])
            seen = pool.places[estimates[pool.places] >= least]
            top = seen[np.argsort(-scores[seen])[:10]]
            measures = np.stack([bits[top], -estimates[top]]).astype(np.float64)
            found = Found.of(scores[top].astype(np.float64), measures, 10)
            estimated.append(min(sample.relation(asked).seen(found).missed(limits(pool, least)), 1.0))
            missing.append(1 - np.isin(np.argsort(-scores)[:10], seen).mean())
        assert np.mean(missing) - 0.01 <= np.mean(estimated) <= 4 * np.mean(missing) + 0.03, part


def test_missed_of_what_cannot_be_told() -> None:
    """Equal vectors, one vector, no limits: numbers, no errors; nothing is missed where everything was seen."""
    same = np.tile(unit(np.ones((1, 64))), (40, 1))
    for rows in (same, same[:1]):
        relation = Sample(*quantize_int8(rows), NONE).relation(Asked(same[0], NONE))
        seen = relation.seen(Found.of(np.ones(3), np.zeros((2, 3)), 3))
        assert seen.missed((np.inf, np.inf)) == 0
        assert np.isfinite(seen.missed((10.0, -1.0)))


@pytest.mark.parametrize("parts", [1, 2, 7])
def test_selection_of_many_distances(parts: int) -> None:
    """The smallest, of equal ones the first, however many parts they come in; and how many of the last are left out."""
    random = np.random.default_rng(11)
    for draw in (random.binomial(384, 0.4, 50_000), random.integers(0, 3, 50_000), np.zeros(50_000), np.arange(50_000)):
        for given in (draw.astype(np.uint16), draw[::-1].astype(np.uint16)):
            for count in (1, 10, 1000, 20_000):
                selection = Selection(count)
                for part in np.array_split(np.arange(50_000), parts):
                    selection.add(int(part[0]), given[part])
                found, expected = selection.nearest(), np.sort(np.argsort(given, kind="stable")[:count])
                assert np.array_equal(found.places, expected)
                assert np.array_equal(found.distances, given[expected])
                last = int(given[expected].max())
                share = (given[expected] == last).sum() / (given == last).sum()
                assert found.limit == pytest.approx(last - 0.5 + share)


def test_pool_says_how_far_it_reaches() -> None:
    """All codes under the limit are in the pool; of those at the last distance, the part that the limit says."""
    random = np.random.default_rng(12)
    rows = binarize(random.standard_normal((3000, 128)).astype(np.float32))
    codes = BinaryCodes(128)
    codes.append(np.arange(3000), rows)
    query = rows[7]
    differing = distances(np.ascontiguousarray(rows.T), query)
    for count in (1, 50, 700):
        pool = codes.pool(query, count)
        assert np.array_equal(pool.distances, differing[pool.places])
        last = int(pool.distances.max())
        assert (differing < last).sum() == (pool.distances < last).sum()
        share = (pool.distances == last).sum() / (differing == last).sum()
        assert pool.limit == pytest.approx(last - 0.5 + share)
    assert codes.pool(query, 3000).limit == np.inf
    within = codes.within(query, 60.5)
    assert np.array_equal(np.sort(within.places), np.flatnonzero(differing <= 60))


def test_learned_rotations_are_not_chance() -> None:
    """Even vectors keep none, though few of them make one rotation look better; a good one stays when others are as
    good."""
    for seed in range(8):
        few = unit(np.random.default_rng(seed).standard_normal((300, 48)))
        assert learn_frame(few)[0] == NONE
    vectors = cone(np.random.default_rng(13), 2000, 64, 4)
    frame, found = learn_frame(vectors)
    assert frame.centre is not None
    assert found["none"] < max(found.values())
    assert learn_frame(vectors[::-1], frame)[0] is frame


def test_recall_over_the_default_looks_without_a_graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A graph finds less than the scan; more than it promises is not asked of it."""
    asked: list[int] = []

    def pool(_: Cache, codes: BinaryCodes, query: Words, count: int, allowed: Places | None) -> Pool:
        asked.append(count)
        return codes.pool(query, count, allowed)

    monkeypatch.setattr(Cache, "pool", pool)
    fill(tmp_path / "i.db", unit(np.random.default_rng(14).standard_normal((900, 32))))
    with Index.open(tmp_path / "i.db", read_only=True) as index:
        query = np.ones(32)
        index.search(vector=query)
        index._search.dense.use_graph(object())  # type: ignore[arg-type]
        index.search(vector=query, recall=0.995)
        assert asked == []
        index.search(vector=query, recall=RECALL)
        assert len(asked) == 1


def test_note_of_learning_is_plain(tmp_path: Path) -> None:
    """The row says when the rotation was learned; nothing of it is a fact, whose checksum would change."""
    path = tmp_path / "i.db"
    fill(path, unit(np.random.default_rng(15).standard_normal((300, 24))))
    db = sqlite3.connect(path)
    ((value,),) = db.execute("SELECT value FROM meta WHERE key = 'learned'").fetchall()
    ((frame,),) = db.execute("SELECT value FROM meta WHERE key = 'frame'").fetchall()
    db.close()
    assert value.split()[0] == "300"
    assert json.loads(frame) == {"centre": None, "turned": False}
