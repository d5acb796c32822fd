"""distill.py of the exporter: a static model from a bundle, and the command for it."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from builders.bert import WORDS, Checkpoints
from click.testing import CliRunner
from numpy.typing import NDArray

from edge_embed import Embedder
from edge_embed.cli.main import main
from edge_embed.errors import InputError, SourceError
from edge_embed_export.static import distill as module
from edge_embed_export.static.distill import Counts, distill_model, fit
from edge_embed_runtime.bundle.bundle import read_bundle
from edge_embed_runtime.model.static import read_table
from edge_embed_runtime.system.files import read_lines

pytestmark = pytest.mark.usefixtures("short_receipt")


def sentences(count: int, seed: int = 0) -> list[str]:
    random = np.random.default_rng(seed)
    return [" ".join(random.choice(WORDS, random.integers(2, 9))) for _ in range(count)]


def dense(counts: Counts) -> NDArray[np.float64]:
    matrix = np.zeros(counts.shape)
    np.add.at(matrix, (counts.texts, counts.tokens), 1)
    return matrix


def test_counts_multiply_like_matrices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Products of the sparse counts are those of the whole matrix, in blocks of any size; a token may come twice."""
    random = np.random.default_rng(0)
    rows = [random.integers(0, 9, size) for size in (3, 0, 12, 1, 5)]
    table = random.standard_normal((9, 4)).astype(np.float32)
    values = random.standard_normal((5, 4)).astype(np.float32)
    scale = random.random(5).astype(np.float32)
    counts = Counts.of(rows, 9)
    whole = dense(counts) * scale[:, None]
    for block in (2, 7, 8192):
        monkeypatch.setattr(module, "BLOCK", block)
        assert np.allclose(counts.times(table, scale), whole @ table, atol=1e-5)
        assert np.allclose(counts.transposed_times(values, scale), whole.T @ values, atol=1e-5)


def test_rows_move_to_the_least_squares_solution() -> None:
    """Enough steps of conjugate gradients give what solving the regularised normal equations gives."""
    random = np.random.default_rng(1)
    rows = [random.permutation(7)[:size] for size in random.integers(1, 5, 40)]
    table = random.standard_normal((7, 3)).astype(np.float32)
    target = random.standard_normal((40, 3)).astype(np.float32)
    counts = Counts.of(rows, 7)
    scale, sums = module._scales(counts, table)
    whole = dense(counts) * scale[:, None]
    for strength, moved in zip(module.ROW_STRENGTHS, module._moved(table, counts, target), strict=True):
        pull = strength * float((scale**2).mean()) * np.eye(7)
        expected = table + np.linalg.solve(whole.T @ whole + pull, whole.T @ (target - sums))
        assert np.allclose(moved, expected, atol=1e-3)


def test_fit_comes_nearer_to_texts_held_out() -> None:
    """A model that sums other rows is found: each step says what it reached on texts that it did not learn from."""
    random = np.random.default_rng(2)
    true = random.standard_normal((50, 8)).astype(np.float32)
    rows = [random.integers(0, 50, size) for size in random.integers(2, 9, 600)]
    expected = np.stack([true[row].sum(axis=0) for row in rows])
    start = true @ random.standard_normal((8, 8)).astype(np.float32) + random.standard_normal((50, 8)).astype(
        np.float32
    )
    found, figures = fit(start.astype(np.float32), rows, expected)
    assert figures["tokens"] < 0.6 < figures["map"] < figures["rows"]
    assert figures["rows"] > 0.95
    assert found.shape == start.shape


def test_fit_keeps_what_texts_do_not_make_better() -> None:
    """Texts that say nothing leave the table as it is."""
    random = np.random.default_rng(3)
    table = random.standard_normal((30, 6)).astype(np.float32)
    rows = [random.integers(0, 30, 5) for _ in range(300)]
    exact = np.stack([table[row].sum(axis=0) for row in rows])
    noise = random.standard_normal(exact.shape).astype(np.float32)
    noise[:: module.HELD_OUT] = exact[:: module.HELD_OUT]  # what is held out is right already
    found, figures = fit(table, rows, noise)
    assert np.array_equal(found, table)
    assert figures == {"tokens": 1.0, "map": 1.0, "rows": 1.0}


def test_distilled_without_texts(tiny_bundle: Path, tmp_path: Path) -> None:
    """Each token's vector is the model's, centred, weighted and rotated: with all dimensions angles stay."""
    distill_model(tiny_bundle, tmp_path / "s", dim=32)
    teacher, student = Embedder(tiny_bundle), Embedder(tmp_path / "s")
    alone = teacher.encode(WORDS)
    centre = teacher.network.run([np.array([2, number, 3]) for number in range(5, 5 + len(WORDS))]).mean(axis=0)
    expected = (alone - centre) / np.linalg.norm(alone - centre, axis=1, keepdims=True)
    found = student.encode(WORDS)
    assert np.abs(found @ found.T - expected @ expected.T).max() < 0.06  # int8, of rows that are weighted
    assert student.manifest.architecture["kind"] == "distilled"
    assert student.manifest.provenance["licence"] == "apache-2.0"
    assert teacher.fingerprint in student.manifest.provenance["distilled_from"]


def test_distilled_with_texts(tiny_bundle: Path, tmp_path: Path) -> None:
    """Texts bring the vectors of other texts nearer to the model's; the manifest says what they were."""
    learned = distill_model(tiny_bundle, tmp_path / "s", dim=16, texts=sentences(400), texts_name="made.txt")
    cosines = learned.provenance["held_out_cosine"]
    assert cosines["tokens"] < cosines["map"] <= cosines["rows"]
    assert learned.provenance["texts"]["name"] == "made.txt"
    assert (learned.dim, learned.truncate_dims) == (16, [8, 4])
    distill_model(tiny_bundle, tmp_path / "plain", dim=16)
    unseen = sentences(100, seed=9)
    expected = Embedder(tiny_bundle).encode(unseen)
    wanted = np.corrcoef(expected - expected.mean(axis=0))

    def agreement(bundle: Path) -> float:
        found = Embedder(bundle).encode(unseen)
        return float(np.corrcoef((found @ found.T).ravel(), wanted.ravel())[0, 1])

    assert agreement(tmp_path / "s") > agreement(tmp_path / "plain")


def test_the_same_texts_give_the_same_table(tiny_bundle: Path, tmp_path: Path) -> None:
    """Nothing is drawn at random: two runs write the same table."""
    for name in ("a", "b"):
        distill_model(tiny_bundle, tmp_path / name, dim=16, texts=sentences(200))
    first, second = (read_bundle(tmp_path / name).manifest.fingerprint for name in ("a", "b"))
    assert first == second


def test_special_tokens_have_no_vectors(tiny_bundle: Path, tmp_path: Path) -> None:
    """[CLS] and its like, which no text gives, have rows of zeros."""
    distill_model(tiny_bundle, tmp_path / "s", dim=16)
    rows = read_table(tmp_path / "s" / "table.safetensors", "the table")["rows"]
    assert not rows[:5].any()
    assert rows[5:].any(axis=1).all()


def test_what_cannot_be_distilled(tiny_bundle: Path, tmp_path: Path) -> None:
    """A static bundle, more dimensions than there are, and too few texts are refused, and nothing is written."""
    distill_model(tiny_bundle, tmp_path / "s", dim=16)
    with pytest.raises(InputError, match="static already"):
        distill_model(tmp_path / "s", tmp_path / "t")
    with pytest.raises(InputError, match="dim is 33"):
        distill_model(tiny_bundle, tmp_path / "t", dim=33)
    with pytest.raises(InputError, match="too few"):
        distill_model(tiny_bundle, tmp_path / "t", dim=16, texts=["a cat"] * 500)
    assert not (tmp_path / "t").exists()


def test_texts_that_cannot_be_read(tmp_path: Path) -> None:
    """A missing file and bytes that are no text are named."""
    (tmp_path / "bad.txt").write_bytes(b"good\n\xff\n")
    with pytest.raises(SourceError, match=r"not UTF-8 text.*byte 5"):
        read_lines(tmp_path / "bad.txt")
    with pytest.raises(SourceError, match="does not exist"):
        read_lines(tmp_path / "none.txt")


def test_distill_command(tiny_bundle: Path, tmp_path: Path) -> None:
    """The command writes a bundle and says how near it comes to the model; an existing one needs --force."""
    (tmp_path / "texts.txt").write_text("\n".join(sentences(200)))
    arguments = [
        "distill",
        str(tiny_bundle),
        str(tmp_path / "s"),
        "--dim",
        "16",
        "--texts",
        str(tmp_path / "texts.txt"),
    ]
    result = CliRunner().invoke(main, [*arguments, "--json"])
    assert result.exit_code == 0, result.output
    facts = json.loads(result.output)
    assert facts["dim"] == 16
    assert set(facts["held_out_cosine"]) == {"tokens", "map", "rows"}
    again = CliRunner().invoke(main, arguments)
    assert again.exit_code == 1
    assert "--force" in again.output
    forced = CliRunner().invoke(main, [*arguments, "--force"])
    assert "cosine to the model" in forced.output


def test_distilling_needs_no_torch() -> None:
    """The module imports neither torch nor transformers."""
    import subprocess

    code = (
        "import sys, edge_embed_export.static.distill; print('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.strip() == "False"


def test_models_of_other_poolings(checkpoint: Checkpoints, tmp_path: Path) -> None:
    """A model that pools another way is distilled by what its bundle gives."""
    from edge_embed_export import export_model

    export_model(checkpoint(pooling="cls_token"), tmp_path / "b")
    assert distill_model(tmp_path / "b", tmp_path / "s", dim=4).dim == 4
