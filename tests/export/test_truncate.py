"""Vectors cut to their first numbers: which dims a bundle knows, what its receipt says of each, where they are asked
for."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders.bert import Checkpoints
from click.testing import CliRunner

from edge_embed import Document, Embedder, Index
from edge_embed.cli.main import main
from edge_embed.errors import BundleMismatchError, ExportError, InputError
from edge_embed_export import export_model
from edge_embed_export.receipt.truncation import truncation_receipt
from edge_embed_runtime.bundle.bundle import read_bundle
from edge_embed_runtime.vectors.normalize import normalize

pytestmark = pytest.mark.usefixtures("short_receipt")

TEXTS = ["the cat", "a dog at night", "", "money in the bank"]


def receipt(bundle: Path) -> dict[str, Any]:
    return dict(read_bundle(bundle).manifest.receipt["truncate_dims"])


@pytest.mark.parametrize("where", ["config.json", "config_sentence_transformers.json"])
def test_dims_of_the_models_files(checkpoint: Checkpoints, tmp_path: Path, where: str) -> None:
    """What config.json or sentence-transformers' own config names is in the manifest, largest first, and measured."""
    source = checkpoint()
    config = json.loads((source / where).read_text()) if (source / where).exists() else {}
    (source / where).write_text(json.dumps({**config, "matryoshka_dimensions": [8, 32, 16, 64]}))
    manifest = export_model(source, tmp_path / "out", precision="fp32")
    assert manifest.truncate_dims == [16, 8]
    assert list(receipt(tmp_path / "out")) == ["16", "8"]
    for figures in receipt(tmp_path / "out").values():
        assert figures["trained"]
        assert set(figures["ndcg@10"]) == {"float", "int8", "binary"}
        assert 0 <= figures["spearman"] <= 1


def test_dims_that_are_given(checkpoint: Checkpoints, tmp_path: Path) -> None:
    """`--truncate-dims` counts in place of the files'; a list that is none, and dims the model has not, are named."""
    source = checkpoint(matryoshka_dimensions=[16])
    arguments = ["export", str(source), str(tmp_path / "out"), "--precision=fp32", "--json"]
    run = CliRunner().invoke(main, [*arguments, "--truncate-dims", "12,24"])
    assert run.exit_code == 0, run.output
    assert json.loads(run.output)["truncate_dims"] == [24, 12]
    shown = CliRunner().invoke(main, ["info", str(tmp_path / "out")]).output
    assert "truncated to  24: trained for; ndcg@10 float" in shown
    assert CliRunner().invoke(main, [*arguments, "--truncate-dims", "12,x"]).exit_code == 2
    with pytest.raises(InputError, match="each of truncate_dims is 33"):
        export_model(source, tmp_path / "other", truncate_dims=[33])
    for odd in ("16", [0], [16.5], [True]):
        (source / "config.json").write_text(
            json.dumps({**json.loads((source / "config.json").read_text()), "matryoshka_dimensions": odd})
        )
        with pytest.raises(ExportError, match="matryoshka_dimensions is"):
            export_model(source, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_models_that_were_trained_for_none_are_measured(checkpoint: Checkpoints, tmp_path: Path) -> None:
    """At a half, a quarter and an eighth, down to eight numbers, and said to be so; the manifest allows none."""
    manifest = export_model(checkpoint(), tmp_path / "out", precision="fp32")
    assert manifest.truncate_dims == []
    found = receipt(tmp_path / "out")
    assert list(found) == ["16", "8"]
    assert not any(figures["trained"] for figures in found.values())
    assert (
        "truncated to  16: not trained for; ndcg@10" in CliRunner().invoke(main, ["info", str(tmp_path / "out")]).output
    )


def test_receipt_figures() -> None:
    """Rank correlation 1 where the first numbers say all, near 0 where they say nothing; each dim is measured cut."""
    random = np.random.default_rng(0)
    signal, noise = random.standard_normal((2, 300, 8)).astype(np.float32)
    shapes = []

    def tiers(documents: Any, queries: Any) -> dict[str, float]:
        assert np.abs(np.linalg.norm(documents, axis=1) - 1).max() < 1e-5
        shapes.append((documents.shape, queries.shape))
        return {"float": 1.0}

    def spearman(vectors: Any) -> float:
        vectors = normalize(vectors)
        return float(truncation_receipt([8], vectors[:200], vectors[200:], tiers)["8"]["spearman"])

    assert spearman(np.hstack([signal, 0 * noise])) == 1.0
    assert abs(spearman(np.hstack([0.01 * noise, signal]))) < 0.1
    assert 0.5 < spearman(np.hstack([signal, 0.5 * noise])) < 0.99
    assert set(shapes) == {((200, 8), (100, 8))}
    assert list(truncation_receipt([], signal[:5], signal[5:9], tiers)) == []
    assert list(truncation_receipt([], np.hstack([signal] * 8)[:5], np.hstack([signal] * 8)[:4], tiers)) == [
        "32",
        "16",
        "8",
    ]


def test_truncated_at_any_call(embedder: Embedder) -> None:
    """For the object or for one call: the first numbers, of length 1; no more than the object has."""
    whole = embedder.encode(TEXTS)
    cut = embedder.encode(TEXTS, truncate_dim=64)
    assert cut.shape == (4, 64)
    assert np.abs(cut - normalize(whole[:, :64])).max() < 1e-6
    small = Embedder(threads=1, truncate_dim=128)
    assert np.array_equal(small.encode_query(TEXTS, truncate_dim=64), cut)
    assert small.encode(TEXTS).shape == (4, 128)
    static = Embedder("static")
    assert np.abs(static.encode(TEXTS, truncate_dim=40) - normalize(static.encode(TEXTS)[:, :40])).max() < 1e-6
    for wrong in (0, 129, 1.5, "64", True):
        with pytest.raises(InputError, match="truncate_dim is"):
            small.encode(TEXTS, truncate_dim=wrong)  # type: ignore[arg-type]


def test_index_of_truncated_vectors(embedder: Embedder, tmp_path: Path) -> None:
    """It finds, is opened by an embedder that is truncated alike, and says to others which that is."""
    small = Embedder(threads=1, truncate_dim=96)
    path = tmp_path / "small.db"
    with Index.open(path, small) as index:
        index.add([Document(key="cat", text="the cat sleeps"), Document(key="money", text="money in the bank")])
        assert index.search("a kitten", k=1, mode="vector")[0].key == "cat"
        assert index.stats()["dim"] == 96
    with pytest.raises(BundleMismatchError, match=r"dim 96.*with truncate_dim=96 \(--truncate-dim\)"):
        Index.open(path, embedder)
    with pytest.raises(BundleMismatchError, match="the bundle it was made with"):
        Index.open(path, Embedder(threads=1, truncate_dim=64))


def test_commands_take_it(tmp_path: Path) -> None:
    """encode, add, search, reembed, repair, eval and demo: what one stored, the next finds."""
    run = lambda *arguments: CliRunner().invoke(main, [str(argument) for argument in arguments])  # noqa: E731
    index, notes = tmp_path / "i.db", tmp_path / "notes.md"
    notes.write_text("the ferry leaves at nine")
    small = ("--bundle", "static", "--truncate-dim", 40)
    added = run("add", index, notes, *small)
    assert added.exit_code == 0, added.output
    assert "ferry" in run("search", index, "boat", *small).output
    refused = run("search", index, "boat", "--bundle", "static")
    assert refused.exit_code == 1
    assert "--truncate-dim" in refused.output
    assert run("repair", index, *small).exit_code == 0
    changed = run("reembed", index, "--bundle", "static", "--truncate-dim", 24)
    assert changed.exit_code == 0, changed.output
    assert "ferry" in run("search", index, "boat", "--bundle", "static", "--truncate-dim", 24).output
    encoded = run("encode", notes, "-o", tmp_path / "v.npy", *small)
    assert encoded.exit_code == 0, encoded.output
    assert np.load(tmp_path / "v.npy").shape == (1, 40)
    assert run("search", index, "boat", "--truncate-dim", 0).exit_code == 2
    folder = tmp_path / "judged"
    folder.mkdir()
    (folder / "corpus.jsonl").write_text('{"_id": "a", "title": "", "text": "the cat"}\n')
    (folder / "queries.jsonl").write_text('{"_id": "q", "text": "a kitten"}\n')
    (folder / "qrels.tsv").write_text("q\ta\t1\n")
    measured = run("eval", folder, *small, "--json")
    assert measured.exit_code == 0, measured.output
    assert json.loads(measured.output)["int8"]["bytes_per_vector"] == 44
    assert run("demo", *small).exit_code == 0
