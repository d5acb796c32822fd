"""The families that the native engine runs: the same model in both engines, and near the float model."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders.architectures import MODELS, Model, write
from builders.bert import WORDS

from edge_embed import Embedder
from edge_embed.errors import ExportError
from edge_embed_export import export_model
from edge_embed_export.calibration import texts as shipped
from edge_embed_export.receipt import finish
from edge_embed_runtime.native.library import reason

TEXTS = ["the river bank", "money at the bank and in the house", "a cat", "", "the dog is in the garden at night " * 9]
# Two heads of 16 numbers; under the names of each config.
WIDE = {"distilbert": {"n_heads": 2}}
FAMILIES = ("bert", "roberta", "xlm_roberta", "distilbert", "mpnet", "electra", "ernie", "data2vec")

pytestmark = [
    pytest.mark.usefixtures("short_receipt", "known_words"),
    pytest.mark.skipif(bool(reason()), reason="needs the native library"),
]


def some_texts(part: str) -> list[str]:
    random = np.random.default_rng(len(part))
    return [" ".join(random.choice(WORDS, size)) for size in random.integers(0, 23, 96)]


@pytest.fixture
def known_words(monkeypatch: pytest.MonkeyPatch, short_receipt: None) -> None:
    monkeypatch.setattr(shipped, "calibration_texts", some_texts)
    monkeypatch.setattr(finish, "calibration_texts", lambda part: some_texts(part)[::8])


def wide(name: str) -> Model:
    """A family's small random model with heads of 16 numbers."""
    model = MODELS[name]()
    for table in (t for t in model.tensors if "relative_attention_bias" in t):
        model.tensors[table] = np.ascontiguousarray(model.tensors[table][:, :2])
    return dataclasses.replace(model, config=model.config | WIDE.get(name, {"num_attention_heads": 2}))


Exported = Callable[..., Any]


@pytest.mark.parametrize("name", FAMILIES)
def test_both_engines(tmp_path: Path, name: str) -> None:
    """Vectors of one bundle in both engines are near each other and the float model; texts have one vector in each."""
    source = write(wide(name), tmp_path / name)
    manifest = export_model(source, tmp_path / "int8", engine="native")
    assert manifest.engine == "native"
    export_model(source, tmp_path / "fp32", precision="fp32")
    native, other = (Embedder(tmp_path / "int8", threads=1, engine=engine) for engine in (None, "onnxruntime"))
    assert (native.engine, other.engine) == ("native", "onnxruntime")
    found, expected = native.encode(TEXTS), other.encode(TEXTS)
    assert (found * expected).sum(axis=1).min() > 0.9995
    assert (found * Embedder(tmp_path / "fp32").encode(TEXTS)).sum(axis=1).min() > 0.99
    assert np.array_equal(found, np.vstack([native.encode([text]) for text in TEXTS]))


def test_the_default_says_why_not_once(tmp_path: Path) -> None:
    """An engine that nobody asked for is no error, but one line of progress."""
    said: list[str] = []
    source = write(MODELS["albert"](), tmp_path / "albert")
    assert export_model(source, tmp_path / "int8", progress=said.append).engine == "onnxruntime"
    (line,) = (line for line in said if "engine" in line)
    assert line == "engine onnxruntime; not the native one: it has the activation 'gelu', this model 'gelu_tanh'"


@pytest.mark.parametrize("name", sorted(MODELS.keys() - set(FAMILIES)))
def test_others_are_refused_by_name(tmp_path: Path, name: str) -> None:
    """Where the native engine was asked for nothing is written, and the error says why."""
    model = MODELS[name]()
    source = write(model, tmp_path / name)
    with pytest.raises(ExportError, match="native engine cannot run this model: it"):
        export_model(source, tmp_path / "int8", engine="native", **model.options)
    assert not (tmp_path / "int8").exists()
