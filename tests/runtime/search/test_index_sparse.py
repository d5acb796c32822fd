"""Sparse vectors and vectors of tokens in the index: found exactly, kept consistent, damage reported."""

import random
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders.bert import Checkpoints, bert_folder
from builders.files import alter
from builders.heads import multi_folder, sparse_folder
from builders.mediaembedders import MediaEmbedder, picture
from click.testing import CliRunner

from edge_embed import Document, Embedder, Index, merge_indexes
from edge_embed.cli.main import main
from edge_embed.errors import BundleMismatchError, IndexDamagedError, IndexFormatError, InputError, MemoryBudgetError
from edge_embed_export import export_model
from edge_embed_export.calibration import texts as shipped
from edge_embed_export.receipt import finish
from edge_embed_runtime.index.stats import read_stats
from edge_embed_runtime.maintenance.reembed import reembed_index
from edge_embed_runtime.maintenance.verify import verify_index
from edge_embed_runtime.model import budget
from edge_embed_runtime.search import fusion, multi, sparse
from edge_embed_runtime.search import query as questions
from edge_embed_runtime.system import headroom as room
from edge_embed_runtime.vectors import maxsim as maxsims
from edge_embed_runtime.vectors import sparse as sparses
from edge_embed_runtime.vectors.kinds import MULTI, SPARSE
from edge_embed_runtime.vectors.maxsim import maxsim
from edge_embed_runtime.vectors.sparse import SparseVector

WORDS = ["bank", "river", "money", "cat", "dog", "house", "garden", "water", "night", "day", "red", "blue"]
QUERY = "the cat in the garden"


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Bundles of each kind, made of one small random BERT."""
    folder = tmp_path_factory.mktemp("bundles")
    judged, texts = shipped.records("judged"), shipped.calibration_texts
    a, b, c = (bert_folder(folder / name) for name in "abc")
    made = {"dense": a, "sparse": sparse_folder(b), "multi": multi_folder(c)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finish, "calibration_texts", lambda part: texts(part)[::32])
        patch.setattr(finish, "records", lambda _: [judged[0], {**judged[-1], "relevant": ["p000"]}])
        for kind, source in made.items():
            export_model(source, folder / kind, precision="fp32")
    return {kind: folder / kind for kind in made}


@pytest.fixture(scope="module")
def models(bundles: dict[str, Path]) -> dict[str, Embedder]:
    return {kind: Embedder(path, threads=1) for kind, path in bundles.items()}


@pytest.mark.parametrize("mode", ["hybrid", "sparse", "multi", "vector"])
def test_pictures_beside_other_vectors(
    tmp_path: Path, bundles: dict[str, Path], models: dict[str, Embedder], mode: Any
) -> None:
    """Texts have sparse vectors and those of tokens, pictures have not; captions are found by them."""
    towers = MediaEmbedder(str(bundles["dense"]), threads=1)
    side = {"sparse": models["sparse"], "multi": models["multi"]}
    with Index.open(tmp_path / "a.db", towers, **side) as index:
        index.add([Document("photo", "the cat in the garden", image=picture("a dog")), *documents(20)])
        index.add([Document("bare", image=picture("the night"))])
        hits = index.search(QUERY, k=30, mode=mode)
        assert "photo" in {hit.key for hit in hits}
        assert ("bare" in {hit.key for hit in hits}) == (mode in ("hybrid", "vector"))
        assert index.damaged == []
        assert index.verify().whole
        assert index.upsert([Document("photo", "the cat in the garden", image=picture("a dog"))]) == 0
        index.delete("photo")
        assert index.verify().whole


def documents(count: int, seed: int = 0) -> list[Document]:
    choice = random.Random(seed)  # noqa: S311 - words of a test
    texts = [" ".join(choice.choices(WORDS, k=choice.randint(2, 6))) for _ in range(count)]
    return [Document(f"d{seed}-{i}", text, {"even": i % 2 == 0}) for i, text in enumerate(texts)]


def stored(path: Path, table: str) -> dict[int, bytes]:
    db = sqlite3.connect(path)
    rows = dict(db.execute(f"SELECT id, code FROM {table}"))
    db.close()
    return rows


def exact(path: Path, query: SparseVector, dim: int = 25) -> dict[int, float]:
    """Scores over 0 by passage, row by row from what is stored."""
    row = np.zeros(dim)
    row[query.ids] = query.weights
    found = {}
    for id_, code in stored(path, "vec_sparse").items():
        scales, steps, tokens, _ = sparses.unpack([code], dim)
        found[id_] = float(row[tokens] @ steps) * float(scales[0])
    return {id_: score for id_, score in found.items() if score > 0}


def test_found_exactly(models: dict[str, Embedder], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever was added, replaced and deleted in between, scores are the dot products with what is stored."""
    monkeypatch.setattr(sparse, "MOST_PARTS", 3)
    path = tmp_path / "index.db"
    (query,) = models["sparse"].encode_sparse([QUERY], role="query")
    with Index.open(path, models["sparse"]) as index:
        assert index.search(QUERY, mode="sparse").shortfall == "the index is empty"
        for step in range(6):
            index.add(documents(7, seed=step))
            if step % 2:
                index.delete([f"d{step}-0", f"d{step - 1}-3"])
                index.upsert([Document(f"d{step}-1", "the cat is in the garden")])
            hits = index.search(QUERY, k=100, mode="sparse")
            scores = sorted(exact(path, query).values(), reverse=True)
            assert [hit.score for hit in hits] == pytest.approx(scores, rel=1e-5)
            assert len(hits) > 3
        even = index.search(QUERY, k=100, mode="sparse", where={"even": True})
        expected = [hit for hit in hits if hit.metadata.get("even") is True]
        assert [(hit.key, hit.score) for hit in even] == [(hit.key, hit.score) for hit in expected]
        assert index.verify().whole
    with Index.open(path, models["sparse"], read_only=True) as index:  # the same scores when read as one
        again = index.search(QUERY, k=100, mode="sparse")
    assert [(hit.key, hit.score) for hit in again] == [(hit.key, hit.score) for hit in hits]


def test_follows_another_process(models: dict[str, Embedder], tmp_path: Path) -> None:
    """A reader finds what a writer adds and no longer what it deletes."""
    path = tmp_path / "index.db"
    with Index.open(path, models["dense"], sparse=models["sparse"]) as writer:
        writer.add(documents(3))
        with Index.open(path, None, sparse=models["sparse"], read_only=True) as reader:
            assert "late" not in [hit.key for hit in reader.search(QUERY, k=99, mode="sparse")]
            writer.add([Document("late", QUERY)])
            assert "late" in [hit.key for hit in reader.search(QUERY, k=99, mode="sparse")]
            writer.delete("late")
            assert "late" not in [hit.key for hit in reader.search(QUERY, k=99, mode="sparse")]


def test_hybrid_fuses_what_there_is(models: dict[str, Embedder], tmp_path: Path) -> None:
    """Three rankings, or two, each document once; without the sparse embedder hybrid is as without its table."""
    docs, path = documents(40), tmp_path / "both.db"
    with Index.open(tmp_path / "dense.db", models["dense"]) as index:
        index.add(docs)
        plain = [(hit.key, hit.score) for hit in index.search(QUERY, k=40)]
    with Index.open(path, models["dense"], sparse=models["sparse"]) as index:
        index.add(docs)
        fused = index.search(QUERY, k=40)
        vector = [(hit.key, hit.score) for hit in index.search(QUERY, k=40, mode="vector")]
        assert len({hit.key for hit in fused}) == len(fused) == 40
        assert [(hit.key, hit.score) for hit in fused] != plain
        assert [hit.score for hit in fused] == sorted((hit.score for hit in fused), reverse=True)
        assert read_stats(path)["sparse"] == "sparse"
    with Index.open(path, models["dense"], read_only=True) as index:
        assert [(hit.key, hit.score) for hit in index.search(QUERY, k=40)] == plain
        assert [(hit.key, hit.score) for hit in index.search(QUERY, k=40, mode="vector")] == vector
    with Index.open(path, models["sparse"], read_only=True) as index:
        keys = {hit.key for mode in ("sparse", "text") for hit in index.search(QUERY, k=40, mode=mode)}
        assert {hit.key for hit in index.search(QUERY, k=40)} == keys


def test_share_of_each() -> None:
    """`fuse` weighs standardised scores; what a ranking lacks has a score of 0 in it."""
    one, other = {1: (3.0, 10), 2: (1.0, 20)}, {2: (5.0, 21), 3: (1.0, 30)}
    assert list(fusion.fuse([(1.0, one), (0.0, other)], 10)) == [1, 2, 3]
    assert list(fusion.fuse([(0.0, one), (1.0, other)], 10)) == [2, 3, 1]
    both = fusion.fuse([(0.5, one), (0.5, other)], 10)
    assert {doc: passage for doc, (_, passage) in both.items()} == {1: 10, 2: 20, 3: 30}


def test_without_its_embedder(models: dict[str, Embedder], tmp_path: Path) -> None:
    """Other modes and deleting work; adding and mode sparse say what is needed; foreign bundles are refused."""
    path = tmp_path / "index.db"
    with Index.open(path, models["dense"], sparse=models["sparse"]) as index:
        index.add(documents(4))
    with Index.open(path, models["dense"]) as index:
        assert index.search(QUERY, k=1)
        assert index.delete("d0-1") == 1
        with pytest.raises(InputError, match="open it with sparse=Embedder"):
            index.add([Document("x", "the cat")])
        with pytest.raises(InputError, match="open it with sparse=Embedder"):
            index.search(QUERY, mode="sparse")
        with pytest.raises(InputError, match="made without vectors of tokens"):
            index.search(QUERY, mode="multi")
        assert len(index) == 3
        assert index.verify().whole
    assert len(stored(path, "vec_sparse")) == 3
    with (
        Index.open(path, None, sparse=models["sparse"]) as index,
        pytest.raises(InputError, match="Embedder of 'dense'"),
    ):
        index.add([Document("x", "the cat")])
    with pytest.raises(InputError, match="made without vectors of tokens; open it without multi="):
        Index.open(path, models["dense"], multi=models["multi"])
    with pytest.raises(InputError, match="sparse= takes an Embedder of a bundle of kind 'sparse', got dense"):
        Index.open(path, models["dense"], sparse=models["dense"])
    with pytest.raises(InputError, match="two embedders"):
        Index.open(path, models["sparse"], sparse=models["sparse"])
    with pytest.raises(InputError, match="not embedded again"):
        reembed_index(path, models["dense"])


def test_another_bundle_is_refused(
    models: dict[str, Embedder], bundles: dict[str, Path], checkpoint: Checkpoints, tmp_path: Path
) -> None:
    """Sparse vectors of two models never mix, nor does a dense model open an index of sparse vectors alone."""
    other = Embedder(bundles["sparse"])
    object.__setattr__(other.manifest, "max_tokens", 20)
    path = tmp_path / "index.db"
    with Index.open(path, models["sparse"]) as index:
        index.add(documents(2))
        with pytest.raises(InputError, match="there are no dense vectors, search with mode='sparse'"):
            index.search(QUERY, mode="vector")
        with pytest.raises(InputError, match="vector: the shape"):
            index.search(vector=np.ones(32))
    with pytest.raises(BundleMismatchError, match="sparse vectors of the bundle 'sparse'"):
        Index.open(path, other)
    with pytest.raises(BundleMismatchError):
        Index.open(path, models["dense"])


def test_old_indexes_are_the_same(models: dict[str, Embedder], tmp_path: Path) -> None:
    """An index without such vectors has no such tables, and facts as before."""
    with Index.open(tmp_path / "index.db", models["dense"]) as index:
        index.add(documents(2))
    db = sqlite3.connect(tmp_path / "index.db")
    names = {name for (name,) in db.execute("SELECT name FROM sqlite_schema")}
    rows = {key for (key,) in db.execute("SELECT key FROM meta")}
    db.close()
    assert not any(name.startswith("vec_s") or name.startswith("vec_m") for name in names)
    assert {"sparse", "multi"}.isdisjoint(rows)
    with pytest.raises(InputError, match="made without sparse vectors"):
        Index.open(tmp_path / "index.db", models["dense"], sparse=models["sparse"])


@pytest.mark.parametrize("kind", ["sparse", "multi"])
def test_diversity_and_examples_need_dense_vectors(models: dict[str, Embedder], tmp_path: Path, kind: str) -> None:
    """Without any they are refused by name; beside others, every mode knows `mmr`, and those of other vectors refuse
    examples."""
    with Index.open(tmp_path / "alone.db", models[kind]) as index:
        index.add(documents(4))
        with pytest.raises(InputError, match=r"mmr compares dense vectors, and .* holds none"):
            index.search(QUERY, mode=kind, mmr=0.5)
        for call in (lambda: index.search(like="d0-0"), index.session):
            with pytest.raises(InputError, match=r"examples move a dense vector, and .* holds none"):
                call()
    with Index.open(tmp_path / "both.db", models["dense"], **{kind: models[kind]}) as index:
        index.add(documents(12))
        plain = index.search(QUERY, k=4, mode=kind)
        assert index.search(QUERY, k=4, mode=kind, mmr=1) == plain
        diverse = index.search(QUERY, k=4, mode=kind, mmr=0)
        assert diverse[0] == plain[0]
        with pytest.raises(InputError, match=f"mode '{kind}' does not compare"):
            index.search(QUERY, mode=kind, like="d0-0")
        hits = index.search(QUERY, k=9, mode="hybrid", like="d0-0", unlike="d0-1")
        assert len(hits) == 9
        assert not {"d0-0", "d0-1"} & {hit.key for hit in hits}


@pytest.mark.parametrize("kind", ["sparse", "multi"])
def test_damage_is_told_and_repaired(models: dict[str, Embedder], tmp_path: Path, kind: str) -> None:
    """A changed, swapped, missing or stray row is never counted; verify names it, repair and upsert restore it."""
    path, docs = tmp_path / "index.db", documents(6)
    with Index.open(path, models["dense"], **{kind: models[kind]}) as index:
        index.add(docs)
        before = [(hit.key, hit.score) for hit in index.search(QUERY, k=9, mode=kind)]
    whole = stored(path, f"vec_{kind}")
    one, two, three = sorted(whole)[:3]
    table = f"vec_{kind}"
    alter(path, f"UPDATE {table} SET code = (SELECT code FROM {table} WHERE id = {two}) WHERE id = {one}")
    alter(path, f"DELETE FROM {table} WHERE id = {three}", f"INSERT INTO {table} VALUES (999, x'00000000', 1)")
    with Index.open(path, models["dense"], read_only=True, **{kind: models[kind]}) as index:
        hits = {hit.key for hit in index.search(QUERY, k=9, mode=kind)}
        assert hits <= {doc.key for doc in docs} - {"d0-0", "d0-2"}
        assert one in index.damaged
    report = verify_index(path)
    assert [damage.key for damage in report.damaged] == ["d0-0", "d0-2"]
    assert any("belong to no passage" in problem for problem in report.problems)
    with Index.open(path, models["dense"]) as index:  # cannot make them again
        assert len(index.repair().lost) == 2
    with Index.open(path, models["dense"], **{kind: models[kind]}) as index:
        repaired = index.repair()
        assert repaired.whole
        assert sorted(repaired.restored) == ["d0-0", "d0-2"]
        assert index.verify().whole
        assert not index.damaged
        assert [(hit.key, hit.score) for hit in index.search(QUERY, k=9, mode=kind)] == before
        alter(path, f"UPDATE {table} SET crc = crc + 1")
        assert index.upsert(docs) == 6
        assert index.verify().whole


def test_foreign_tables_are_refused(models: dict[str, Embedder], tmp_path: Path) -> None:
    """The table must be there where the facts say so, and only there."""
    for name, statement in (("gone", "DROP TABLE vec_sparse"), ("other", "CREATE TABLE vec_multi (id INTEGER)")):
        with Index.open(tmp_path / name, models["sparse"]) as index:
            index.add(documents(1))
        alter(tmp_path / name, statement)
        with pytest.raises(IndexFormatError, match="not ours"):
            Index.open(tmp_path / name, models["sparse"])


def test_kill_leaves_rows_and_passages_together(bundles: dict[str, Path], tmp_path: Path) -> None:
    """kill -9 while documents are added: every passage has its row, and no row is without its passage."""
    program = f"""
import os, sys
from edge_embed import Document, Embedder, Index, merge_indexes
with Index.open({str(tmp_path / "index.db")!r}, Embedder({str(bundles["sparse"])!r}, threads=1)) as index:
    for i in range(3):
        index.add([Document(f"{{i}}", "the cat")])
    db = index._connections.writer.connection
    db.execute("BEGIN IMMEDIATE")
    db.execute("DELETE FROM vec")
    os.kill(os.getpid(), 9)
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == -9
    assert verify_index(tmp_path / "index.db").whole
    assert len(stored(tmp_path / "index.db", "vec_sparse")) == 3


def test_maxsim_in_the_index(models: dict[str, Embedder], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of few documents all are compared; of more those that words and vectors find, by the same scores."""
    docs, path = documents(30), tmp_path / "index.db"
    (query,) = models["multi"].encode_multi([QUERY], role="query")
    with Index.open(path, models["dense"], multi=models["multi"]) as index:
        index.add(docs)
        hits = index.search(QUERY, k=30, mode="multi")
        vectors = dict(zip((d.key for d in docs), models["multi"].encode_multi([d.text for d in docs]), strict=True))
        assert len(hits) == 30
        for hit in hits:
            kept, _ = maxsims.unpack([MULTI.pack(vectors[hit.key], 16)], 16)
            assert hit.score == pytest.approx(maxsim(query, kept), rel=1e-5)
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
        even = index.search(QUERY, k=30, mode="multi", where={"even": True})
        assert [hit.key for hit in even] == [hit.key for hit in hits if hit.metadata["even"]]
        monkeypatch.setattr(multi, "ALL_COMPARED", 5)
        monkeypatch.setattr(questions, "FUSION_DEPTH", 10)
        some = {hit.key: hit.score for hit in index.search(QUERY, k=5, mode="multi")}
        every = {hit.key: hit.score for hit in hits}
        assert len(some) == 5
        assert all(every[key] == pytest.approx(score) for key, score in some.items())
    with Index.open(tmp_path / "alone.db", models["multi"]) as index:
        index.add(docs)
        assert [hit.key for hit in index.search(QUERY, k=30, mode="multi")] == [hit.key for hit in hits]
        assert len(index.search(QUERY, k=30)) == 30
        index.rebuild()
        assert index.verify().whole


def test_packing() -> None:
    """Weights are kept to half a step; what is smaller than that goes; ids are as wide as the vocabulary needs."""
    vector = SparseVector(np.array([3, 700, 65535], np.int32), np.array([2.0, 0.003, 1.0], np.float32))
    for dim in (2**16, 250_002):
        code = SPARSE.pack(vector, dim)
        assert len(code) == 4 + 2 * (1 + sparses.token_type(dim).itemsize)
        scales, steps, tokens, counts = sparses.unpack(
            [code, SPARSE.pack(SparseVector(vector.ids[:0], vector.weights[:0]), dim)], dim
        )
        assert tokens.tolist() == [3, 65535]
        assert counts.tolist() == [2, 0]
        assert np.abs(scales[0] * steps - [2, 1]).max() <= 2 / 510


def test_commands(bundles: dict[str, Path], tmp_path: Path) -> None:
    """`add --sparse --multi`, then `search --mode`; `eval` shows their tiers."""
    (tmp_path / "notes.jsonl").write_text('{"id": "a", "text": "the cat"}\n{"id": "b", "text": "money bank"}\n')
    index, runner = str(tmp_path / "index.db"), CliRunner()
    kinds = ["--bundle", str(bundles["dense"]), "--sparse", str(bundles["sparse"]), "--multi", str(bundles["multi"])]
    added = runner.invoke(main, ["add", index, str(tmp_path / "notes.jsonl"), *kinds])
    assert added.exit_code == 0, added.output
    for mode in ("sparse", "multi", "hybrid"):
        found = runner.invoke(main, ["search", index, "the cat", "--mode", mode, "-k", "1", *kinds])
        assert found.exit_code == 0, found.output
    alone = runner.invoke(main, ["search", index, "the cat", "--mode", "sparse", "--sparse", str(bundles["sparse"])])
    assert alone.exit_code == 0, alone.output
    (tmp_path / "notes.jsonl").write_text('{"id": "a", "text": "the dog"}\n')
    missing = runner.invoke(main, ["add", index, str(tmp_path / "notes.jsonl"), "--bundle", str(bundles["dense"])])
    assert missing.exit_code == 1
    assert "--sparse" in missing.output
    judged = tmp_path / "judged"
    judged.mkdir()
    (judged / "corpus.jsonl").write_text('{"_id": "a", "text": "the cat"}\n{"_id": "b", "text": "money bank"}\n')
    (judged / "queries.jsonl").write_text('{"_id": "q", "text": "cat"}\n')
    (judged / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\nq\ta\t1\n")
    shown = runner.invoke(main, ["eval", str(judged), *kinds])
    assert shown.exit_code == 0, shown.output
    assert {line.split()[0] for line in shown.output.splitlines()[2:]} >= {"float", "sparse", "multi", "text", "hybrid"}
    only = runner.invoke(main, ["eval", str(judged), "--bundle", str(bundles["sparse"])])
    assert [line.split()[0] for line in only.output.splitlines()[2:]] == ["sparse", "text", "hybrid"]


def test_memory_budget(models: dict[str, Embedder], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where sparse vectors do not fit into the budget, a search says so; what a model takes is predicted."""
    with Index.open(tmp_path / "index.db", models["sparse"], max_rss_mb=100_000) as index:
        index.add(documents(3))
        assert index.search(QUERY, mode="sparse")
    monkeypatch.setattr(room, "POSTINGS", 10**9)
    with Index.open(tmp_path / "index.db", models["sparse"], max_rss_mb=100_000) as index:
        assert index.search(QUERY, mode="text")
        with pytest.raises(MemoryBudgetError, match="with these sparse vectors the least is"):
            index.search(QUERY, mode="sparse")
    shape, profile = dict(models["sparse"].manifest.architecture), budget.Profile(1, 512)
    decoded, plain = (budget.predict([], {**shape, "decoded": d}, 24, False, profile).parts for d in (True, False))
    assert decoded["vocabulary"] > 4 * 512 * budget.DECODED_COLUMNS
    assert "vocabulary" not in plain


def test_nothing_to_dump(models: dict[str, Embedder], tmp_path: Path) -> None:
    """An index of sparse vectors alone has no dense ones to write."""
    with Index.open(tmp_path / "index.db", models["sparse"]) as index:
        index.add(documents(1))
    result = CliRunner().invoke(main, ["dump", str(tmp_path / "index.db"), str(tmp_path / "out.npz")])
    assert result.exit_code == 1
    assert "no dense vectors" in result.output


def test_merged(tmp_path: Path, models: dict[str, Embedder]) -> None:
    """Indexes that were made apart become the one of all documents, with their sparse vectors and those of tokens."""
    for name, some in (("a", documents(9)), ("b", documents(9, 1)), ("all", documents(9) + documents(9, 1))):
        with Index.open(
            tmp_path / f"{name}.db", models["dense"], sparse=models["sparse"], multi=models["multi"]
        ) as index:
            index.add([Document("first", "the cat"), *some])
            index.delete("first")
    merge_indexes(tmp_path / "out.db", [tmp_path / "a.db", tmp_path / "b.db"])
    assert verify_index(tmp_path / "out.db").whole
    for table in ("vec", "vec_sparse", "vec_multi"):
        assert [*stored(tmp_path / "out.db", table).values()] == [*stored(tmp_path / "all.db", table).values()]
    with Index.open(tmp_path / "c.db", models["dense"], sparse=models["sparse"]) as index:
        index.add(documents(3, 2))
    with pytest.raises(BundleMismatchError, match=r"with sparse vectors of 'sparse' .*, and .* with multi vectors of"):
        merge_indexes(tmp_path / "out.db", [tmp_path / "c.db"])
    with sqlite3.connect(tmp_path / "b.db") as db:
        db.execute("UPDATE vec_multi SET crc = 1 WHERE id = 4")
    db.close()
    with pytest.raises(IndexDamagedError, match="vectors of the document 'd1-2' are missing or damaged"):
        merge_indexes(tmp_path / "new.db", [tmp_path / "a.db", tmp_path / "b.db"])
