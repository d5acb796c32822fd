"""layerwise.py: models of which one layer at a time is in memory."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders.architectures import MODELS, write
from builders.bert import WORDS, Checkpoints
from builders.marks import slow_but

from edge_embed import Embedder
from edge_embed.errors import ExportError, InputError
from edge_embed_export import export_model
from edge_embed_export.calibration import layerwise
from edge_embed_export.calibration import texts as shipped
from edge_embed_export.receipt import finish
from edge_embed_export.transformer import builder as graph
from edge_embed_runtime.bundle.manifest import WEIGHTS

TEXTS = ["the river bank", "money at the bank and in the house", "a cat", "", "the dog is in the garden at night " * 9]
# Bytes of a model that is too large here, and of a weight in its second file.
LARGEST, LEAST = 10_000, 512
# Models with layers that share weights, which are small, are never run so.
LAYERED = [name for name in MODELS if name != "albert"]

pytestmark = pytest.mark.usefixtures("short_receipt", "known_words")


def some_texts(part: str) -> list[str]:
    """Texts of the words that the tiny tokenizer knows, others for calibration than for the receipt."""
    random = np.random.default_rng(len(part))
    return [" ".join(random.choice(WORDS, size)) for size in random.integers(0, 23, 64)]


@pytest.fixture
def known_words(monkeypatch: pytest.MonkeyPatch, short_receipt: None) -> None:
    monkeypatch.setattr(shipped, "calibration_texts", some_texts)
    monkeypatch.setattr(finish, "calibration_texts", lambda part: some_texts(part)[::8])


def compare(source: Path, folder: Path, patch: pytest.MonkeyPatch, **options: Any) -> None:
    """Both ways give the same bundle, but for how it lies in files and for speed, which only one way can measure."""
    patch.setattr(graph, "APART_BYTES", LEAST)
    export_model(source, folder / "whole", name="x", floor=0.0, **options)
    patch.setattr(graph, "LARGEST", LARGEST)
    made = export_model(source, folder / "layers", name="x", floor=0.0, **options)
    first, second = (Embedder(folder / name, threads=1) for name in ("whole", "layers"))
    assert WEIGHTS in made.files
    assert "speed" in first.manifest.receipt
    assert "speed" not in made.receipt
    if made.kind == "dense":
        assert np.array_equal(first.encode(TEXTS), second.encode(TEXTS))
    other = first.manifest
    for part in ("golden", "quantization", "layers", "codes", "architecture", "head"):
        assert getattr(other, part) == getattr(made, part)
    for part in made.receipt.keys() - {"bytes"}:
        assert other.receipt[part] == made.receipt[part], part


@pytest.mark.parametrize("name", slow_but(LAYERED, ("bert", "modernbert", "nvembed", "t5")))
def test_layer_by_layer_is_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """An int8 bundle of a model whose float form is never in memory is that of one whose form is."""
    compare(write(MODELS[name](), tmp_path / name), tmp_path, monkeypatch)


@pytest.mark.parametrize("options", [{"precision": "int4"}, {"precision": "fp32"}, {"table": "int4"}])
@pytest.mark.parametrize("name", slow_but(["mistral", "nvembed", "bert"], ("bert",)))
def test_other_forms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, options: dict[str, Any]) -> None:
    """Weights in four bits, in float32, and a table of few bits, too."""
    compare(write(MODELS[name](), tmp_path / name), tmp_path, monkeypatch, **options)


@pytest.mark.parametrize("precision", ["int8", "fp32"])
def test_prompts_that_are_not_pooled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str) -> None:
    """A text behind a prompt that is left out has another vector than the same text without one."""
    source = write(MODELS["nvembed"](), tmp_path / "nvembed")
    compare(source, tmp_path, monkeypatch, precision=precision, prompts={"query": "the river bank: "})
    whole, layers = (Embedder(tmp_path / name, threads=1) for name in ("whole", "layers"))
    assert layers.manifest.left_out == "instruction"
    assert layers.left_out("the river bank: ") > 0
    assert np.array_equal(whole.encode(TEXTS, role="query"), layers.encode(TEXTS, role="query"))


def test_recipes_of_another_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are taken layer by layer as well, and refused where they are another model's."""
    source = write(MODELS["mistral"](), tmp_path / "mistral")
    export_model(source, tmp_path / "a", floor=0.0)
    export_model(write(MODELS["nvembed"](), tmp_path / "other"), tmp_path / "b", floor=0.0)
    compare(source, tmp_path, monkeypatch, recipes=tmp_path / "a")
    with pytest.raises(ExportError, match="the recipes are for another model"):
        export_model(source, tmp_path / "c", recipes=tmp_path / "b")


def test_the_float_model_is_never_whole(
    checkpoint: Checkpoints, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No session has more than one layer's weights; of the table it has the rows of the texts."""
    largest: list[int] = []
    build = layerwise.Scratch.session

    def session(given: Any, *arguments: Any) -> Any:
        largest.append(given.bytes)
        return build(given, *arguments)

    monkeypatch.setattr(graph, "APART_BYTES", LEAST)
    monkeypatch.setattr(graph, "LARGEST", LARGEST)
    monkeypatch.setattr(layerwise.Scratch, "session", session)
    export_model(checkpoint("deep", num_hidden_layers=8, vocab_size=400), tmp_path / "b", floor=0.0)
    assert len(largest) > 8
    assert max(largest) < 4 * (12 * 32 * 32 + 40 * 32 + 26 * 32 + 1000)


def test_search_needs_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It tries many forms of the model: nobody waits for that layer by layer."""
    monkeypatch.setattr(graph, "APART_BYTES", LEAST)
    monkeypatch.setattr(graph, "LARGEST", LARGEST)
    source = write(MODELS["mistral"](), tmp_path / "mistral")
    with pytest.raises(InputError, match="search"):
        export_model(source, tmp_path / "b", search=True)
