"""Texts of 1, 2, 3, limit - 1, limit and limit + 1 tokens: one vector each, alone and in a batch, in every family."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders.architectures import MODELS, VOCAB, Model, decoder, write
from builders.bert import WORDS, word_tokenizer
from builders.checkpoints import read_checkpoint
from numpy.typing import NDArray

from edge_embed import Embedder
from edge_embed.errors import EdgeEmbedError, ExportError
from edge_embed_export import export_model
from edge_embed_export.calibration import texts as shipped
from edge_embed_export.calibration.material import Texts
from edge_embed_export.calibration.quantizer import Quantizer
from edge_embed_export.families.known import read_family
from edge_embed_export.receipt import finish, lengths
from edge_embed_export.receipt.lengths import check_lengths
from edge_embed_export.sources.checkpoint import Checkpoint
from edge_embed_export.transformer.encoder import build
from edge_embed_export.transformer.spec import prepare
from edge_embed_export.transformer.workshop import Workshop
from edge_embed_runtime.inputs.tokenizer import Tokenizer, sanitize
from edge_embed_runtime.model.batching import pad
from edge_embed_runtime.model.session import make_session

Run = Callable[[Sequence[NDArray[np.int64]]], NDArray[np.float32]]
# above 1,024 tokens attention runs in blocks
LONG = 1100
# tables of positions, one row for each, which the small models have for 40
POSITIONS = ("position_embeddings.weight", "rel_embeddings.weight")
TEXTS = [" ".join(WORDS[i:][:n]) for n in (1, 5, 12, 18) for i in range(8)]


@pytest.fixture(autouse=True)
def few_texts(monkeypatch: pytest.MonkeyPatch, short_receipt: None) -> None:
    for module in (shipped, finish):
        monkeypatch.setattr(module, "calibration_texts", lambda _: TEXTS)


def _longer(config: Mapping[str, Any], limit: int) -> dict[str, Any]:
    key = "n_positions" if "d_kv" in config or "n_positions" in config else "max_position_embeddings"
    return {**config, key: limit}


def checkpoint(name: str, folder: Path, limit: int) -> Checkpoint:
    """A small random model for texts of `limit` tokens."""
    model = MODELS[name]()
    found = read_checkpoint(write(model, folder), task=model.options.get("task"))
    wider = {
        key: np.resize(array, (len(array) * (limit + 2) // 40, array.shape[1]))
        for key, array in model.tensors.items()
        if key.endswith(POSITIONS) and name != "deberta"  # whose table is of buckets
    }
    config = dict(found.config)
    if "text_config" in config:
        config["text_config"] = _longer(config["text_config"], limit)
    else:
        config = _longer(config, limit)
    return replace(found, config=config, tensors={**found.tensors, **wider}, max_tokens=limit)


# One family for each way to see in blocks; the others are slow tests.
BLOCKS = ("jina_v2", "modernbert", "qwen3")
LENGTHS = [
    *((name, 24) for name in MODELS),
    *(pytest.param(name, LONG, marks=[] if name in BLOCKS else pytest.mark.slow) for name in MODELS),
]


@pytest.mark.parametrize(("name", "limit"), LENGTHS)
def test_every_length(name: str, limit: int, tmp_path: Path) -> None:
    """Float and int8, up to the limit of the model; the same bits in batches with any of the others."""
    read = checkpoint(name, tmp_path / name, limit)
    shape, weights = read_family(read)
    weights = prepare(shape, weights)
    assert shape.max_tokens == (1024 if "deberta" in name and limit == LONG else limit)
    assert shape.blockwise == (limit == LONG and "deberta" not in name)
    tokenizer = Tokenizer(sanitize(read.tokenizer), shape.max_tokens)
    quantizer = Quantizer(Texts(shape, weights, tokenizer), weights, Workshop(tmp_path / "made"))
    int8 = quantizer.quantize(quantizer.default_recipes())
    random = np.random.default_rng(0)
    sizes = (1, 2, 3, shape.max_tokens - 1, shape.max_tokens)
    rows = [random.integers(0, VOCAB, size) for size in sizes]
    for model in (build(shape, weights), build(shape, int8.weights, int8.layers, int8.table)):
        session = make_session(model.SerializeToString(), 1)
        alone = [session.run(None, pad([row]))[0][0] for row in rows]
        assert np.isfinite(alone).all()
        for batch in ([0, 1], [0, 2, 1], [0, 3], [1, 4], [2, 3, 4], [4, 0]):
            together = session.run(None, pad([rows[i] for i in batch]))[0]
            for i, found in zip(batch, together, strict=True):
                assert np.array_equal(found.view(np.uint32), alone[i].view(np.uint32)), (sizes[i], batch)


def one_special_token() -> dict[str, object]:
    """A tokenizer that puts one token behind a text, as decoders' do."""
    found = word_tokenizer()
    processor = found["post_processor"]
    processor["single"], processor["pair"] = processor["single"][1:], processor["pair"][1:]
    return found


@pytest.mark.parametrize("kind", ["qwen3", "mistral"])
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_the_empty_text_of_a_decoder(kind: str, precision: str, tmp_path: Path) -> None:
    """One token, in a model of long texts; and a text that is cut to the limit has the vector of what is left."""
    normed = kind == "qwen3"
    model = Model(*decoder(kind, normed=normed, max_position_embeddings=LONG, sliding_window=200), pooling=None)
    folder = write(model, tmp_path / "source")
    (folder / "tokenizer.json").write_text(json.dumps(one_special_token()))
    export_model(folder, tmp_path / "b", precision=precision)
    embedder = Embedder(tmp_path / "b", threads=1)
    assert embedder.max_tokens == LONG
    texts = ["", "the", "the cat", *(" ".join(["cat"] * n) for n in (LONG - 2, LONG - 1, LONG))]
    assert [len(embedder.tokenizer.encode(text)) for text in texts] == [1, 2, 3, LONG - 1, LONG, LONG]
    vectors = embedder.encode(texts)
    padded = embedder.network.run([embedder.tokenizer.encode(text) for text in texts])
    for text, found, beside in zip(texts, vectors, padded, strict=True):
        alone = embedder.encode([text])[0]
        assert np.array_equal(alone.view(np.uint32), found.view(np.uint32))
        assert np.array_equal(alone.view(np.uint32), beside.view(np.uint32))
    assert np.array_equal(vectors[-1], vectors[-2])
    assert len(np.unique(vectors[:4], axis=0)) == 4


def test_latents_of_real_width(tmp_path: Path) -> None:
    """NV-Embed's heads of 64 and more numbers and its 512 latents: a text of one token has the same bits in a batch."""
    model = MODELS["nvembed"]()
    t, latent = model.tensors, "latent_attention_model"
    t.add(f"{latent}.latents", 512, 32, scale=1)
    t.linear(f"{latent}.cross_attend_blocks.0.fn.to_q", 2 * 96, 32, bias=False)
    t.linear(f"{latent}.cross_attend_blocks.0.fn.to_kv", 2 * 2 * 96, 32, bias=False)
    t.linear(f"{latent}.cross_attend_blocks.0.fn.to_out", 32, 2 * 96, bias=False)
    config = {**model.config, "latent_attention_config": {"num_cross_heads": 2, "cross_dim_head": 96}}
    shape, weights = read_family(read_checkpoint(write(replace(model, config=config), tmp_path / "source")))
    session = make_session(build(shape, prepare(shape, weights)).SerializeToString(), 1)
    rows = [np.arange(5, 5 + n) for n in (1, 2, 7, 19)]
    together = session.run(None, pad(rows))[0]
    for row, found in zip(rows, together, strict=True):
        assert np.array_equal(session.run(None, pad([row]))[0][0].view(np.uint32), found.view(np.uint32))


def exported(tmp_path: Path) -> Embedder:
    export_model(write(MODELS["bert"](), tmp_path / "source"), tmp_path / "b", precision="fp32")
    return Embedder(tmp_path / "b", threads=1)


def test_export_looks_at_every_length(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lengths that the bundle can meet, from that of the empty text to the limit, alone and together."""
    embedder = exported(tmp_path)
    seen = list[list[int]]()
    run = embedder.network.run

    def watched(rows: list[NDArray[np.int64]], adapter: int = 0) -> NDArray[np.float32]:
        seen.append([len(row) for row in rows])
        return run(rows, adapter)

    monkeypatch.setattr(embedder.network, "run", watched)
    check_lengths(embedder, tmp_path, "the river bank")
    assert seen == [[2], [3], [23], [24], [2, 24, 23], [3, 2]]
    seen.clear()
    monkeypatch.setattr(lengths, "LONGEST", 10)
    check_lengths(embedder, tmp_path, "the river bank")
    assert max(map(max, seen)) == 10


def test_what_the_lengths_find(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A length that fails and a vector that depends on the batch are named, and nothing is written."""
    embedder = exported(tmp_path)
    run = embedder.network.run

    def fails(rows: list[NDArray[np.int64]], adapter: int = 0) -> NDArray[np.float32]:
        if len(rows[0]) == 3:
            raise EdgeEmbedError("Reshape")
        return run(rows, adapter)

    def depends(rows: list[NDArray[np.int64]], adapter: int = 0) -> NDArray[np.float32]:
        return run(rows, adapter) + np.float32(len(rows) > 1) * np.float32(1e-3)

    for wrong, named in ((fails, "fails at texts of 3 tokens: Reshape"), (depends, "a text of 2 tokens has another")):
        monkeypatch.setattr(embedder.network, "run", wrong)
        with pytest.raises(ExportError, match=named):
            check_lengths(embedder, tmp_path, "the river bank")
