"""`search(rerank=...)`: hits in the order of a cross-encoder's scores."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders.bert import WORDS, pair_folder
from builders.commands import run, run_json

from edge_embed import Document, Embedder, Index, Reranker
from edge_embed.errors import InputError
from edge_embed_export import export_model
from edge_embed_runtime.search import reranking


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of a small random cross-encoder, in float32: its int8 form is another test's."""
    base = tmp_path_factory.mktemp("judge")
    with pytest.MonkeyPatch.context() as patch:
        from edge_embed_export.calibration import pairs as calibrated
        from edge_embed_export.receipt import pairs as measured

        for module in (calibrated, measured):
            patch.setattr(module, "QUESTIONS", 4)
        export_model(pair_folder(base / "source"), base / "bundle", precision="fp32", verify="skip")
    return base / "bundle"


@pytest.fixture(scope="module")
def reranker(judged: Path) -> Reranker:
    return Reranker(judged, threads=1)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory, embedder: Embedder) -> Path:
    random = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("index") / "docs.db"
    texts = [" ".join(random.choice(WORDS, 6)) for _ in range(80)]
    with Index.open(path, embedder) as index:
        index.add([Document(f"d{i:02}", text, {"half": i % 2}) for i, text in enumerate(texts)])
        index.add([Document("long", "the cat is in the garden. " * 200 + "money at the bank. " * 200)])
    return path


@pytest.fixture
def index(path: Path, embedder: Embedder) -> Iterator[Index]:
    with Index.open(path, embedder, read_only=True) as index:
        yield index


QUERY = "the river bank"


@pytest.mark.parametrize("mode", ["hybrid", "vector", "text"])
@pytest.mark.parametrize("where", [None, {"half": 1}])
def test_hits_are_the_candidates_in_the_rerankers_order(
    index: Index, reranker: Reranker, mode: Any, where: dict[str, Any] | None
) -> None:
    """The first 50 without it, scored by their passages; all else of a hit stays."""
    before = index.search(QUERY, reranking.DEPTH, where, mode)
    hits = index.search(QUERY, 7, where, mode, rerank=reranker)
    scores = reranker.scores([(QUERY, hit.text) for hit in before])
    order = np.argsort(-scores, kind="stable")[:7]
    assert [(hit.key, hit.text, hit.start) for hit in hits] == [
        (before[i].key, before[i].text, before[i].start) for i in order
    ]
    assert [hit.score for hit in hits] == [float(scores[i]) for i in order]
    assert hits.shortfall is None
    assert all(where is None or hit.metadata == where for hit in hits)


def test_depth(index: Index, reranker: Reranker) -> None:
    """Only so many are scored; as many as k where that is more than the default."""
    first = [hit.key for hit in index.search(QUERY, 5)]
    assert sorted(hit.key for hit in index.search(QUERY, 5, rerank=reranker, rerank_depth=5)) == sorted(first)
    assert len(index.search(QUERY, 70, rerank=reranker)) == 70
    found = index.search(QUERY, 200, rerank=reranker, rerank_depth=300)
    assert len(found) == 81
    assert found.shortfall == "only 81 documents are in the index"


def test_with_examples_and_sessions(index: Index, reranker: Reranker) -> None:
    """Examples change which documents are candidates, a session too; the order is the reranker's."""
    hits = index.search(QUERY, 5, like=["d03"], rerank=reranker)
    assert "d03" not in {hit.key for hit in hits}
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    session = index.session()
    session.liked("d03")
    candidates = session.search(QUERY, 10, remember=False)
    scores = {hit.key: float(reranker.scores([(QUERY, hit.text)])[0]) for hit in candidates}
    found = session.search(QUERY, 5, rerank=reranker, rerank_depth=10)
    assert [(hit.key, hit.score) for hit in found] == sorted(scores.items(), key=lambda one: -one[1])[:5]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rerank": "bundle"}, "a Reranker"),
        ({"rerank_depth": 50}, "give rerank"),
        ({"rerank": True, "rerank_depth": 4}, "a Reranker"),
    ],
)
def test_what_cannot_rerank_is_refused(index: Index, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        index.search(QUERY, 5, **options)


def test_what_cannot_be_combined_is_refused(index: Index, embedder: Embedder, reranker: Reranker) -> None:
    with pytest.raises(InputError, match="mmr and rerank"):
        index.search(QUERY, 5, rerank=reranker, mmr=0.5)
    with pytest.raises(InputError, match="rerank_depth is 4"):
        index.search(QUERY, 5, rerank=reranker, rerank_depth=4)
    for given in ({"vector": embedder.encode([QUERY])[0]}, {"like": ["d01"]}):
        with pytest.raises(InputError, match="query in words"):
            index.search(k=5, rerank=reranker, **given)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="a Reranker"):
        index.search(QUERY, rerank=embedder)  # type: ignore[arg-type]


def test_in_asyncio(index: Index, reranker: Reranker) -> None:
    async def both() -> Any:
        return await index.asearch(QUERY, 3, rerank=reranker), await reranker.arerank(QUERY, ["a cat", "a dog"])

    hits, ranked = asyncio.run(both())
    assert hits == index.search(QUERY, 3, rerank=reranker)
    assert ranked == reranker.rerank(QUERY, ["a cat", "a dog"])


def test_under_a_budget(path: Path, embedder: Embedder, judged: Path) -> None:
    limited = Reranker(judged, threads=1, max_rss_mb=2000)
    with Index.open(path, embedder, read_only=True, max_rss_mb=2000) as index:
        assert len(index.search(QUERY, 3, rerank=limited)) == 3


# the command line


def test_command(path: Path, judged: Path, index: Index, reranker: Reranker) -> None:
    found = run_json("search", path, QUERY, "-k", 3, "--rerank", judged, "--rerank-depth", 20)
    hits = index.search(QUERY, 3, rerank=reranker, rerank_depth=20)
    assert [(hit["key"], hit["score"]) for hit in found["hits"]] == [(hit.key, hit.score) for hit in hits]
    shown = run("search", path, QUERY, "--mode", "text", "--rerank", judged)
    assert shown.exit_code == 0


def test_commands_name_bundles_of_the_wrong_kind(path: Path, judged: Path, bundle: Path, tmp_path: Path) -> None:
    wrong = run("search", path, QUERY, "--rerank", bundle)
    assert "load it with Embedder" in wrong.stderr
    (tmp_path / "a.txt").write_text("a cat")
    for command in (
        ["add", tmp_path / "new.db", tmp_path / "a.txt"],
        ["search", path, QUERY],
        ["encode", tmp_path / "a.txt", "-o", tmp_path / "x.npy"],
    ):
        refused = run(*command, "--bundle", judged)
        assert refused.exit_code == 1
        assert "load it with Reranker" in refused.stderr
    assert not (tmp_path / "new.db").exists()


def test_info_says_what_it_is(judged: Path) -> None:
    said = run("info", judged).stdout
    assert "LABEL_0 of pairs up to 24 tokens, sigmoid, types of tokens are read" in said
    assert "12 pairs reproduced here" in said
    assert run_json("info", judged)["kind"] == "rerank"
