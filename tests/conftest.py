"""Models for the tests: the embedded default bundle, and small random checkpoints in the shape of real ones."""

import json
import os
import signal
import sqlite3
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_embed import Embedder
from edge_embed.embedder import default_bundle
from edge_embed_export import export_model, finish, quantizing, verifying
from edge_embed_quantize.table import CompactTable

# the checkout, for tests of bench/: behind what is installed, so that its packages are what is tested
sys.path.append(str(Path(__file__).resolve().parents[1]))

# a shell's background job ignores SIGINT, and so would the commands that tests interrupt
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

WORDS = ["the", "a", "bank", "of", "river", "money", "at", "is", "in", "to", "and", "cat", "dog", "house", "garden",
         "water", "night", "day", "red", "blue"]  # fmt: skip
TINY = {
    "model_type": "bert",
    "architectures": ["BertModel"],
    "vocab_size": 5 + len(WORDS),
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "hidden_act": "gelu",
    "max_position_embeddings": 40,
    "type_vocab_size": 2,
    "layer_norm_eps": 1e-12,
}


def word_tokenizer() -> dict[str, Any]:
    """A WordPiece tokenizer definition over WORDS, in the form of a BERT checkpoint's tokenizer.json."""
    vocab = {token: i for i, token in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS])}
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    special = [{"id": i, "content": token, **plain} for token, i in list(vocab.items())[:5]]
    cls, sep = ({"SpecialToken": {"id": token, "type_id": 0}} for token in ("[CLS]", "[SEP]"))
    return {
        "version": "1.0",
        "truncation": {"max_length": 8, "strategy": "LongestFirst", "stride": 0, "direction": "Right"},
        "padding": {
            "strategy": {"Fixed": 8},
            "direction": "Right",
            "pad_to_multiple_of": None,
            "pad_id": 0,
            "pad_type_id": 0,
            "pad_token": "[PAD]",
        },
        "added_tokens": special,
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": True,
            "strip_accents": None,
            "lowercase": True,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [cls, {"Sequence": {"id": "A", "type_id": 0}}, sep],
            "pair": [cls, {"Sequence": {"id": "A", "type_id": 0}}, sep, {"Sequence": {"id": "B", "type_id": 1}}, sep],
            "special_tokens": {
                "[CLS]": {"id": "[CLS]", "ids": [2], "tokens": ["[CLS]"]},
                "[SEP]": {"id": "[SEP]", "ids": [3], "tokens": ["[SEP]"]},
            },
        },
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {
            "type": "WordPiece",
            "unk_token": "[UNK]",
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": vocab,
        },
    }


def bert_tensors(config: dict[str, Any], seed: int = 0) -> dict[str, np.ndarray[Any, Any]]:
    """Random weights under the names of transformers' BertModel."""
    random = np.random.default_rng(seed)
    h, f = config["hidden_size"], config["intermediate_size"]

    def normal(*shape: int) -> np.ndarray[Any, Any]:
        return (random.standard_normal(shape) * 0.2).astype(np.float32)

    tensors = {
        "embeddings.word_embeddings.weight": normal(config["vocab_size"], h),
        "embeddings.position_embeddings.weight": normal(config["max_position_embeddings"], h),
        "embeddings.token_type_embeddings.weight": normal(config["type_vocab_size"], h),
    }
    shapes = {
        "attention.self.query": (h, h),
        "attention.self.key": (h, h),
        "attention.self.value": (h, h),
        "attention.output.dense": (h, h),
        "intermediate.dense": (f, h),
        "output.dense": (h, f),
    }
    norms = ["embeddings.LayerNorm"]
    for i in range(config["num_hidden_layers"]):
        layer = f"encoder.layer.{i}"
        for name, shape in shapes.items():
            tensors[f"{layer}.{name}.weight"], tensors[f"{layer}.{name}.bias"] = normal(*shape), normal(shape[0])
        norms += [f"{layer}.attention.output.LayerNorm", f"{layer}.output.LayerNorm"]
    for name in norms:
        tensors[f"{name}.weight"], tensors[f"{name}.bias"] = 1 + normal(h), normal(h)
    return tensors


Checkpoints = Callable[..., Path]


@pytest.fixture
def checkpoint(tmp_path: Path) -> Checkpoints:
    """Writes a sentence-transformers folder with a small random BERT: checkpoint(hidden_act="relu", pooling="cls")."""

    def write(name: str = "checkpoint", pooling: str = "mean_tokens", dense: str | None = None, **config: Any) -> Path:
        from safetensors.numpy import save_file

        folder = tmp_path / name
        folder.mkdir()
        merged = {**TINY, **config}
        modules = [("Transformer", ""), ("Pooling", "1_Pooling")]
        (folder / "config.json").write_text(json.dumps(merged))
        (folder / "tokenizer.json").write_text(json.dumps(word_tokenizer()))
        (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 24}))
        (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n# A random model\n")
        save_file(bert_tensors(merged), folder / "model.safetensors")
        (folder / "1_Pooling").mkdir()
        modes = ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens")
        pooled = {f"pooling_mode_{mode}": mode == pooling for mode in modes}
        (folder / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": 32, **pooled}))
        if dense is not None:
            modules.append(("Dense", "2_Dense"))
            (folder / "2_Dense").mkdir()
            (folder / "2_Dense" / "config.json").write_text(
                json.dumps({"in_features": 32, "out_features": 16, "bias": True, "activation_function": dense})
            )
            random = np.random.default_rng(1)
            arrays = {
                "linear.weight": random.standard_normal((16, 32)).astype(np.float32),
                "linear.bias": random.standard_normal(16).astype(np.float32),
            }
            save_file(arrays, folder / "2_Dense" / "model.safetensors")
        modules.append(("Normalize", "3_Normalize"))
        kinds = "sentence_transformers.models."
        listed = [{"idx": i, "name": str(i), "path": p, "type": kinds + k} for i, (k, p) in enumerate(modules)]
        (folder / "modules.json").write_text(json.dumps(listed))
        return folder

    return write


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, so that no worker runs one alone at the end."""
    items.sort(key=lambda item: item.path.parent.name != "faults")


@pytest.fixture
def whole_receipt() -> None:
    """Exports of this test measure what they measure for users, `short_receipt` or not."""


@pytest.fixture
def short_receipt(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exports measure themselves on a few texts."""
    if "whole_receipt" not in request.fixturenames:
        judged, texts = quantizing.records("judged"), quantizing.calibration_texts
        monkeypatch.setattr(finish, "calibration_texts", lambda part: texts(part)[::32])
        monkeypatch.setattr(finish, "records", lambda _: [judged[0], {**judged[-1], "relevant": ["p000"]}])
        monkeypatch.setattr(finish, "SPEED_ROUNDS", 1)


@pytest.fixture
def with_reference() -> None:
    """Exports of this test are compared with the reference where it is installed."""


@pytest.fixture(autouse=True)
def no_reference(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exports are compared with no reference, which takes seconds each time, unless a test wants it."""
    if "with_reference" not in request.fixturenames:
        monkeypatch.setattr(verifying, "installed", lambda: False)


@pytest.fixture(scope="session", autouse=True)
def no_verdict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What `doctor --tune` stored for whoever runs the tests counts in no test."""
    with pytest.MonkeyPatch.context() as patch:
        for variable in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
            patch.setenv(variable, str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def bundle() -> Path:
    """The embedded default bundle."""
    return default_bundle()


@pytest.fixture(scope="session")
def embedder() -> Embedder:
    return Embedder(threads=1)


@pytest.fixture
def tiny_bundle(checkpoint: Checkpoints, tmp_path: Path) -> Path:
    """An int8 bundle of the small random BERT."""
    export_model(checkpoint(), tmp_path / "tiny")
    return tmp_path / "tiny"


def refused_after_fork(use: Callable[[], object], kind: type[Exception]) -> bool:
    """Whether a call in a forked child raises an error of this kind that speaks of the fork."""
    child = os.fork()
    if child == 0:
        try:
            use()
        except kind as error:
            os._exit(0 if "fork" in str(error) else 2)
        os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def alter(path: Path, *statements: str, parameters: tuple[Any, ...] = ()) -> None:
    """Change a closed index file behind the index's back; `parameters` are those of each statement."""
    db = sqlite3.connect(path)
    for statement in statements:
        db.execute(statement, parameters)
    db.commit()
    db.close()


def unpack(planes: Sequence[tuple[int, NDArray[np.uint8]]]) -> NDArray[np.uint8]:
    """The codes that `pack` packed."""
    wholes, shift = [], 0
    for width, packed in planes:
        parts = [(packed >> (i * width)) & (2**width - 1) for i in range(8 // width)]
        wholes.append(np.concatenate(parts, axis=-1) << shift)
        shift += width
    return np.asarray(sum(wholes), np.uint8)


def rows_of(table: CompactTable) -> np.ndarray[Any, Any]:
    """Every row [vocab, n] that an embedding table in few bits stands for."""
    others = unpack(table.planes).astype(np.float32) - 2 ** (table.bits - 1)
    return (np.vstack([table.frequent, others]) * table.scale.astype(np.float32))[table.place.astype(int)]


def slow_but(names: Iterable[Any], quick: Collection[Any]) -> list[Any]:
    """Values of a parameter: those of `quick` for every run of the tests, the others for that of the slow ones."""
    return [name if name in quick else pytest.param(name, marks=pytest.mark.slow) for name in names]
