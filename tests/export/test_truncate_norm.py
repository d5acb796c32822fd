"""A layer norm over the whole vector before it is cut, as the card of nomic-embed-text-v1.5 does it."""

import json
from pathlib import Path

import numpy as np
import pytest
from builders.bert import Checkpoints
from click.testing import CliRunner

from edge_embed import Embedder
from edge_embed.cli.main import main
from edge_embed.errors import BundleFormatError, InputError
from edge_embed_export import export_model
from edge_embed_runtime.bundle import manifest as manifests
from edge_embed_runtime.bundle.bundle import read_bundle
from edge_embed_runtime.passages.late import check_late
from edge_embed_runtime.vectors.normalize import cut

pytestmark = pytest.mark.usefixtures("short_receipt")

TEXTS = ["the cat", "a dog at night", "", "money in the bank"]


def layer_norm_then_cut(pooled: np.ndarray, dim: int) -> np.ndarray:
    """The card's lines: F.layer_norm(x, (n,))[:, :dim], brought to length 1; in float64."""
    x = pooled.astype(np.float64)
    normed = (x - x.mean(axis=1, keepdims=True)) / np.sqrt(x.var(axis=1, keepdims=True) + 1e-5)
    return normed[:, :dim] / np.linalg.norm(normed[:, :dim], axis=1, keepdims=True)


def test_cut_is_the_layer_norm_of_the_card() -> None:
    """Of vectors of any length around any mean: dividing by what a row has in common changes no direction."""
    random = np.random.default_rng(0)
    pooled = (random.standard_normal((50, 96)) * 3 + random.standard_normal((50, 1))).astype(np.float32)
    unit = pooled / np.linalg.norm(pooled, axis=1, keepdims=True)
    for dim in (1, 8, 64, 95):
        assert np.abs(cut(unit, dim, "layer_norm") - layer_norm_then_cut(pooled, dim)).max() < 1e-5
        assert np.array_equal(cut(unit, dim), unit[:, :dim] / np.linalg.norm(unit[:, :dim], axis=1, keepdims=True))
    assert np.allclose(cut(unit, 96, "layer_norm"), unit)  # whole vectors are what they are
    rows = np.vstack([cut(row[None], 8, "layer_norm") for row in unit])
    assert np.array_equal(rows, cut(unit, 8, "layer_norm"))


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_asked_for(checkpoint: Checkpoints, tmp_path: Path, precision: str) -> None:
    """Whole vectors stay what they were; cut ones had a layer norm, by an Embedder and by one call."""
    source = checkpoint()
    plain = export_model(source, tmp_path / "plain", precision=precision)
    normed = export_model(source, tmp_path / "normed", precision=precision, truncate_norm=True, truncate_dims=[12])
    assert (plain.truncation, normed.truncation) == ("", "layer_norm")
    assert plain.fingerprint != normed.fingerprint
    assert plain.files == normed.files
    whole = Embedder(tmp_path / "normed").encode(TEXTS)
    assert np.array_equal(whole, Embedder(tmp_path / "plain").encode(TEXTS))
    found = Embedder(tmp_path / "normed", truncate_dim=12).encode(TEXTS)
    assert np.abs(found - layer_norm_then_cut(whole, 12)).max() < 1e-5
    assert np.array_equal(found, Embedder(tmp_path / "normed").encode(TEXTS, truncate_dim=12))
    assert np.abs(found - Embedder(tmp_path / "plain", truncate_dim=12).encode(TEXTS)).max() > 1e-3
    assert check_late(Embedder(tmp_path / "normed", truncate_dim=12))


def test_the_card(checkpoint: Checkpoints, tmp_path: Path) -> None:
    """A model known by its name has its card's layer norm and dims, unless the caller says otherwise."""
    source = checkpoint("nomic-embed-text-v1.5", hidden_size=128, intermediate_size=64)
    found = export_model(source, tmp_path / "a", precision="fp32")
    assert (found.truncation, found.truncate_dims) == ("layer_norm", [64])
    assert "after a layer norm" in CliRunner().invoke(main, ["info", str(tmp_path / "a")]).output
    arguments = ["export", str(source), str(tmp_path / "b"), "--precision=fp32", "--no-truncate-norm", "--json"]
    run = CliRunner().invoke(main, arguments)
    assert run.exit_code == 0, run.output
    assert "truncation" not in json.loads(run.output)


def test_older_releases_refuse_it(checkpoint: Checkpoints, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The manifest of such a bundle is of a schema that they do not read; others are as they were."""
    source = checkpoint()
    export_model(source, tmp_path / "plain", precision="fp32")
    export_model(source, tmp_path / "normed", precision="fp32", truncate_norm=True)
    schemas = [json.loads((tmp_path / name / "manifest.json").read_text())["schema"] for name in ("plain", "normed")]
    assert schemas == [1, 2]
    monkeypatch.setattr(manifests, "NEWER_SCHEMA", 1)
    with pytest.raises(BundleFormatError, match="schema version 2"):
        read_bundle(tmp_path / "normed")


@pytest.mark.parametrize("value", ["batch_norm", 3, None])
def test_unknown_truncation(checkpoint: Checkpoints, tmp_path: Path, value: object) -> None:
    """A manifest that says anything else is refused."""
    export_model(checkpoint(), tmp_path / "out", precision="fp32", truncate_norm=True)
    path = tmp_path / "out" / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "truncation": value}))
    with pytest.raises(BundleFormatError, match="truncation is"):
        read_bundle(tmp_path / "out")


def test_static_models_have_none(tmp_path: Path) -> None:
    """The option is refused where it has no effect."""
    (tmp_path / "words.txt").write_text("cat 0.5 0.5\ndog 0.1 0.2\n")
    with pytest.raises(InputError, match="truncate_norm"):
        export_model(tmp_path / "words.txt", tmp_path / "out", truncate_norm=True)
