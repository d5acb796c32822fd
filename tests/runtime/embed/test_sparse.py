"""Sparse bundles: what a SPLADE model computes, one vector per text, what is refused."""

import json
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders.bert import ACTIVATIONS, Checkpoints, bert, word_tokenizer
from builders.heads import KINDS, mlm_tensors, rewrite, sparse_folder
from builders.olderbundles import saturating
from click.testing import CliRunner
from safetensors.numpy import load_file, save_file

from edge_embed import Embedder
from edge_embed.cli.main import main
from edge_embed.errors import BundleFormatError, ExportError, GoldenError, InputError
from edge_embed_export import export_model
from edge_embed_export.transformer import heads as headgraph
from edge_embed_runtime.bundle.bundle import Bundle, read_bundle, write_bundle
from edge_embed_runtime.bundle.manifest import MODEL, TOKENIZER, Golden
from edge_embed_runtime.vectors.sparse import SparseVector, from_dense

pytestmark = pytest.mark.usefixtures("short_receipt")
TEXTS = ["the river bank", "money at the bank and in the house", "a cat", "", "the dog is in the garden at night " * 9]


def by_hand(source: Path, ids: list[int], pooling: str, activation: str) -> np.ndarray[Any, Any]:
    """The weights [vocab] of one text in float64, written from SPLADE's paper."""
    tensors, config = load_file(source / "model.safetensors"), json.loads((source / "config.json").read_text())
    head = {
        n.removeprefix("cls.predictions."): a.astype(np.float64) for n, a in tensors.items() if n.startswith("cls.")
    }
    x = bert(tensors, config, ids) @ head["transform.dense.weight"].T + head["transform.dense.bias"]
    x = ACTIVATIONS["gelu"](x)
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + config["layer_norm_eps"])
    x = x * head["transform.LayerNorm.weight"] + head["transform.LayerNorm.bias"]
    decoder = head.get("decoder.weight", tensors["embeddings.word_embeddings.weight"].astype(np.float64))
    weights = np.log1p(np.maximum(x @ decoder.T + head["bias"], 0))
    weights = np.log1p(weights) if activation == "log1p_relu" else weights
    return np.asarray(weights.max(0) if pooling == "max" else weights.sum(0))


def dense_row(vector: SparseVector, dim: int = 25) -> np.ndarray[Any, Any]:
    row = np.zeros(dim)
    row[vector.ids] = vector.weights
    return row


@pytest.fixture
def int8(checkpoint: Checkpoints, tmp_path: Path) -> Path:
    export_model(sparse_folder(checkpoint()), tmp_path / "int8")
    return tmp_path / "int8"


@pytest.mark.parametrize(("pooling", "activation"), [("max", "relu"), ("sum", "log1p_relu")])
def test_weights_are_the_models(
    checkpoint: Checkpoints, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pooling: str, activation: str
) -> None:
    """The float32 bundle agrees with the model computed by hand to 1e-5, a few columns of the vocabulary at a time."""
    monkeypatch.setattr(headgraph, "DECODED_COLUMNS", 10)
    source = sparse_folder(checkpoint(), pooling=pooling, activation=activation)
    export_model(source, tmp_path / "fp32", precision="fp32")
    embedder = Embedder(tmp_path / "fp32")
    assert (embedder.kind, embedder.dim) == ("sparse", 25)
    for text, vector in zip(TEXTS, embedder.encode_sparse(TEXTS), strict=True):
        expected = by_hand(source, embedder.tokenizer.encode(text).tolist(), pooling, activation)
        assert np.abs(dense_row(vector) - expected).max() < 1e-5
        assert 0 < len(vector) < 25
        assert (np.diff(vector.ids) > 0).all()
        assert (vector.weights > 0).all()


@pytest.mark.parametrize(("exact", "pooling"), [(None, "max"), (True, "max"), (None, "sum")])
def test_int8_stays_close_and_has_one_vector(
    checkpoint: Checkpoints, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exact: bool | None, pooling: str
) -> None:
    """int8 keeps a cosine of 0.99 on a random model; the same bits alone, in any batch, on one thread or two."""
    monkeypatch.setattr(headgraph, "DECODED_COLUMNS", 10)
    source = sparse_folder(checkpoint(), pooling=pooling)
    export_model(source, tmp_path / "int8")
    if exact:
        saturating(tmp_path / "int8")
    embedder = Embedder(tmp_path / "int8", threads=1, exact=exact)
    assert embedder.exact is bool(exact)
    vectors = embedder.encode_sparse(TEXTS)
    for text, vector in zip(TEXTS, vectors, strict=True):
        row, expected = dense_row(vector), by_hand(source, embedder.tokenizer.encode(text).tolist(), pooling, "relu")
        assert row @ expected / np.linalg.norm(row) / np.linalg.norm(expected) > 0.99
        assert embedder.encode_sparse([text]) == [vector]
    for other in (embedder.encode_sparse(TEXTS[::-1], batch_tokens=7)[::-1], embedder.encode_sparse(TEXTS * 30)[:5]):
        assert other == vectors
    assert Embedder(tmp_path / "int8", threads=2, exact=exact).encode_sparse(TEXTS * 3)[5:10] == vectors
    receipt = embedder.manifest.receipt
    assert receipt["cosine_to_fp32"]["min"] > 0.98
    assert receipt["same_top32_tokens"] > 0.8
    assert receipt["retrieval"]["ndcg@10_fp32"] >= 0
    assert receipt["tokens_per_text"] > 0


def test_table_is_stored_once(checkpoint: Checkpoints, int8: Path, tmp_path: Path) -> None:
    """Words are looked up in, and multiplied by, the same rows; a decoder of its own comes on top."""
    source = sparse_folder(checkpoint("untied"))
    export_model(source, tmp_path / "tied")
    random = np.random.default_rng(9)
    rewrite(source, {"cls.predictions.decoder.weight": random.standard_normal((25, 32)).astype(np.float32)})
    export_model(source, tmp_path / "apart")
    sizes = [(tmp_path / name / MODEL).stat().st_size for name in ("tied", "apart")]
    assert 25 * 32 <= sizes[1] - sizes[0] < 25 * 32 + 200
    export_model(source, tmp_path / "fp32", precision="fp32")
    embedder = Embedder(tmp_path / "fp32")
    (vector,) = embedder.encode_sparse(["the river"])
    expected = by_hand(source, embedder.tokenizer.encode("the river").tolist(), "max", "relu")
    assert np.abs(dense_row(vector) - expected).max() < 1e-5


def test_plain_folder_and_older_names(checkpoint: Checkpoints, tmp_path: Path) -> None:
    """A BertForMaskedLM without modules.json is a SPLADE model where that is said; gamma and beta are known."""
    plain = sparse_folder(checkpoint(), modules=False)
    tensors = load_file(plain / "model.safetensors")
    named = {name.replace("LayerNorm.weight", "LayerNorm.gamma"): array for name, array in tensors.items()}
    named = {name.replace("LayerNorm.bias", "LayerNorm.beta"): array for name, array in named.items()}
    save_file(named, plain / "model.safetensors")
    listed = sparse_folder(checkpoint("listed"))
    for source in (plain, listed):
        export_model(source, tmp_path / source.name / "out", precision="fp32", kind="sparse")
    found, same = (Embedder(tmp_path / source.name / "out").encode_sparse(TEXTS) for source in (plain, listed))
    assert found == same
    export_model(plain, tmp_path / "dense", precision="fp32")
    assert Embedder(tmp_path / "dense").encode(["a cat"]).shape == (1, 32)


def test_other_methods_name_the_right_one(int8: Path, embedder: Embedder) -> None:
    """`encode` of a sparse bundle, and the other way round, say which method is meant; there is nothing to truncate."""
    sparse = Embedder(int8)
    with pytest.raises(InputError, match="weights of tokens: call encode_sparse"):
        sparse.encode(["a"])
    with pytest.raises(InputError, match="one vector for a text: call encode; encode_sparse is for"):
        embedder.encode_sparse(["a"])
    with pytest.raises(InputError, match="call encode_sparse; encode_multi is for"):
        sparse.encode_multi(["a"])
    with pytest.raises(InputError, match="call encode_sparse"):
        Embedder(int8, truncate_dim=8)
    with pytest.raises(InputError, match="write encode"):
        sparse.encode_sparse("a text")
    assert sparse.encode_sparse([]) == []


def test_fewer_weights_and_names(int8: Path) -> None:
    """`max_active_dims` keeps the largest weights; tokens have names for people."""
    embedder = Embedder(int8)
    (whole,), (few,) = (embedder.encode_sparse(["the cat"], max_active_dims=most) for most in (None, 3))
    assert len(few) == 3
    assert set(few.ids) <= set(whole.ids)
    assert (np.diff(few.ids) > 0).all()
    assert min(few.weights) >= sorted(whole.weights)[-3]
    named = whole.tokens(embedder, 3)
    assert {embedder.tokenizer.vocabulary()[token] for token, _ in named} == set(few.ids)
    assert [weight for _, weight in named] == sorted(map(float, few.weights), reverse=True)
    with pytest.raises(InputError, match="max_active_dims"):
        embedder.encode_sparse(["a"], max_active_dims=0)


def test_dot_product() -> None:
    """Only tokens that both have count; equal weights keep the first tokens."""
    one, other = from_dense(np.array([0, 2, 0, 3], np.float32)), from_dense(np.array([5, 4, 1, 0], np.float32))
    assert one.dot(other) == 8
    assert one.dot(from_dense(np.zeros(4, np.float32))) == 0
    assert from_dense(np.ones(4, np.float32), 2).ids.tolist() == [0, 1]
    assert one != other
    assert one == from_dense(np.array([0, 2, 0, 3], np.float32))
    assert one != "text"


def test_golden_pairs(int8: Path) -> None:
    """The manifest has tokens and weights in turn, which the machine must reproduce."""
    bundle = read_bundle(int8)
    golden = bundle.manifest.golden[0]
    (vector,) = Embedder(int8).encode_sparse([golden.text])
    assert golden.vector[::2] == vector.ids.tolist()
    assert np.abs(np.log1p(golden.vector[1::2]) - vector.weights).max() < 1e-4
    wrong = Golden(golden.text, [float(x) for pair in zip(vector.ids, vector.weights[::-1], strict=True) for x in pair])
    with pytest.raises(GoldenError, match="does not reproduce"):
        Embedder(replace(bundle, manifest=replace(bundle.manifest, golden=[wrong])))
    outside = Golden(golden.text, [99.0, 1.0])
    with pytest.raises(GoldenError):
        Embedder(replace(bundle, manifest=replace(bundle.manifest, golden=[outside])))


@pytest.mark.parametrize("change", [{"kind": "other"}, {"golden": [Golden("a", [1.0, 2.0, 3.0])]}, {"dim": 2**21}])
def test_manifest_that_cannot_be(int8: Path, tmp_path: Path, change: dict[str, Any]) -> None:
    """An unknown kind, half a pair, and a vocabulary of two million tokens are refused."""
    bundle = read_bundle(int8)
    contents = {name: (int8 / name).read_bytes() for name in (MODEL, TOKENIZER)}
    write_bundle(tmp_path / "odd", replace(bundle.manifest, **change), contents)
    with pytest.raises(BundleFormatError, match="not a valid manifest"):
        read_bundle(tmp_path / "odd")


def test_dense_manifests_say_nothing_of_kinds(tiny_bundle: Path) -> None:
    """A dense bundle is written as before there were kinds, so that its fingerprint stays."""
    assert {"kind", "head"}.isdisjoint(json.loads((tiny_bundle / "manifest.json").read_text()))


def test_queries_by_table(checkpoint: Checkpoints, tmp_path: Path) -> None:
    """A model with idf.json runs on documents alone: a query is its tokens with the weights of the table."""
    source = sparse_folder(checkpoint())
    (source / "idf.json").write_text(json.dumps({"river": 2.5, "the": 0.25, "[CLS]": 9.0, "unheard": 1.0}))
    export_model(source, tmp_path / "bundle")
    embedder = Embedder(tmp_path / "bundle")
    ids = embedder.tokenizer.vocabulary()
    query, empty = embedder.encode_sparse(["the river of the river", ""], role="query")
    assert dict(zip(query.ids.tolist(), query.weights.tolist(), strict=True)) == {ids["the"]: 0.25, ids["river"]: 2.5}
    assert len(empty) == 0
    assert embedder.encode_sparse(["the river"], role="query", max_active_dims=1)[0].ids.tolist() == [ids["river"]]
    assert len(embedder.encode_sparse(["the river"], role="document")[0]) > 2
    damaged: Bundle = replace(read_bundle(tmp_path / "bundle"))
    for stored in ("!", "AAAA", 7):
        head = replace(damaged.manifest, head={"query_weights": stored, "saturations": 1})
        with pytest.raises(BundleFormatError, match="query weights"):
            Embedder(replace(damaged, manifest=head)).encode_sparse(["a"], role="query")
    for wrong in ({"river": -1}, {"river": "x"}, {"unheard": 1}):
        (source / "idf.json").write_text(json.dumps(wrong))
        with pytest.raises(ExportError, match=r"idf\.json"):
            export_model(source, tmp_path / "refused")


def test_what_is_no_sparse_model(checkpoint: Checkpoints, tmp_path: Path) -> None:
    """A folder without the head, with a head of another size, an unknown pooling, a table of few bits: all named."""
    target = tmp_path / "refused"
    with pytest.raises(ExportError, match="a sparse model needs"):
        export_model(checkpoint("dense"), target, kind="sparse")
    source = sparse_folder(checkpoint())
    with pytest.raises(ExportError, match="stays int8"):
        export_model(source, target, table="int4")
    rewrite(source, {**mlm_tensors(25, 32), "cls.predictions.bias": np.zeros(7, np.float32)})
    with pytest.raises(ExportError, match=r"head\.bias"):
        export_model(source, target)
    (source / "1_SpladePooling/config.json").write_text(json.dumps({"pooling_strategy": "mean"}))
    with pytest.raises(ExportError, match="'mean'"):
        export_model(source, target)
    assert not target.exists()


def test_info_and_encode_tell_the_kind(int8: Path, tmp_path: Path) -> None:
    """`edge-embed info` shows what a bundle gives; `encode` names the method that fits."""
    shown = CliRunner().invoke(main, ["info", str(int8)])
    assert shown.exit_code == 0
    assert "weights       dim 25" in shown.output
    assert "same_top32_tokens" in shown.output
    output = str(tmp_path / "out.npy")
    told = CliRunner().invoke(main, ["encode", "-", "-o", output, "--bundle", str(int8)], input="a\n")
    assert told.exit_code == 1
    assert "encode_sparse" in told.output


@pytest.mark.parity
@pytest.mark.skipif(not (find_spec("torch") and find_spec("transformers")), reason="needs torch and transformers")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", ["BertForMaskedLM", "DistilBertForMaskedLM", "RobertaForMaskedLM", "MPNetForMaskedLM"])
def test_agrees_with_transformers(tmp_path: Path, name: str) -> None:
    """A small random model of each architecture, saved by transformers without modules.json: within 1e-4 of it."""
    import torch
    import transformers

    torch.manual_seed(0)
    sizes: dict[str, int] = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
    }
    if name.startswith("Distil"):
        sizes = {"dim": 32, "hidden_dim": 64, "n_layers": 2, "n_heads": 4}
    config = getattr(transformers, name.replace("ForMaskedLM", "Config"))(
        vocab_size=25, max_position_embeddings=40, **sizes
    )
    model = getattr(transformers, name)(config).eval()
    with torch.no_grad():  # as they are made, weights and biases say too little
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    model.save_pretrained(tmp_path / name)
    (tmp_path / name / "tokenizer.json").write_text(json.dumps(word_tokenizer()))
    (tmp_path / name / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    export_model(tmp_path / name, tmp_path / "fp32", precision="fp32", kind="sparse")
    embedder = Embedder(tmp_path / "fp32")
    for text, vector in zip(TEXTS, embedder.encode_sparse(TEXTS), strict=True):
        ids = torch.tensor(embedder.tokenizer.encode(text))[None]
        with torch.no_grad():
            logits = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
        expected = torch.log1p(torch.relu(logits)).max(dim=1).values[0].numpy()
        assert len(vector) > 2
        assert np.abs(dense_row(vector) - expected).max() < 1e-4


def test_router_with_a_table_for_queries(checkpoint: Checkpoints, tmp_path: Path) -> None:
    """A Router of sentence-transformers runs documents through the model, and looks queries up in a table."""
    source = sparse_folder(checkpoint())
    for name, content in (("document_1_SpladePooling", "1_SpladePooling/config.json"), ("document_0_MLM", None)):
        (source / name).mkdir()
        if content is not None:
            (source / content).rename(source / name / "config.json")
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        (source / name).rename(source / "document_0_MLM" / name)
    (source / "query_0_Static").mkdir()
    save_file({"weight": np.arange(25, dtype=np.float32)}, source / "query_0_Static/model.safetensors")
    (source / "modules.json").write_text(json.dumps([{"type": "sentence_transformers.models.Router", "path": ""}]))
    document = ["document_0_MLM", "document_1_SpladePooling"]
    types = {
        document[0]: KINDS + "MLMTransformer",
        document[1]: KINDS + "SpladePooling",
        "query_0_Static": KINDS + "SparseStaticEmbedding",
    }
    router = {"structure": {"query": ["query_0_Static"], "document": document}, "types": types}
    (source / "router_config.json").write_text(json.dumps(router))
    export_model(source, tmp_path / "bundle", precision="fp32")
    embedder = Embedder(tmp_path / "bundle")
    (query,) = embedder.encode_sparse(["the cat"], role="query")
    assert query.weights.tolist() == query.ids.tolist() == sorted(embedder.tokenizer.word("the cat"))
    assert len(embedder.encode_sparse(["the cat"])[0]) > 2
    (source / "router_config.json").write_text(json.dumps({"structure": {"query": ["gone"]}, "types": {}}))
    with pytest.raises(ExportError, match="not a Router's"):
        export_model(source, tmp_path / "refused")
