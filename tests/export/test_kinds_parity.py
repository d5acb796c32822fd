"""Sparse models and those with a vector for each token, as sentence-transformers saves them, beside its numbers."""

import json
import string
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders.kindfolders import TEXTS, VOCAB, backbone, change, largest

from edge_embed import Embedder
from edge_embed.errors import ExportError
from edge_embed_export import export_model

pytestmark = [
    pytest.mark.parity,
    pytest.mark.skipif(not find_spec("sentence_transformers"), reason="needs sentence-transformers (extra parity)"),
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.usefixtures("short_receipt"),
]
needs_multi = pytest.mark.skipif(
    not find_spec("sentence_transformers") or not find_spec("sentence_transformers.multi_vector_encoder"),
    reason="needs sentence-transformers from 6.0",
)


def bundle(folder: Path, **options: Any) -> Embedder:
    target = folder.parent / f"{folder.name}-bundle"
    export_model(folder, target, **{"precision": "fp32", "floor": -1, "verify": "skip", "overwrite": True, **options})
    return Embedder(target, threads=1)


# sparse


def splade_modules(source: Path, **pooling: Any) -> list[Any]:
    """The network and SpladePooling, by the names of the installed release."""
    from sentence_transformers.sparse_encoder import models

    return [models.MLMTransformer(str(source)), models.SpladePooling(**pooling)]


def sparse_rows(model: Any, role: str | None = None, **options: Any) -> list[np.ndarray]:
    encode = getattr(model, f"encode_{role}" if role else "encode")
    found = [encode([text], convert_to_sparse_tensor=False, **options)[0] for text in TEXTS]
    return [np.asarray(row.cpu() if hasattr(row, "cpu") else row) for row in found]


def our_rows(embedder: Embedder, role: str | None = None) -> list[np.ndarray]:
    rows = []
    for vector in embedder.encode_sparse(TEXTS, role=role):
        row = np.zeros(embedder.manifest.dim, np.float32)
        row[vector.ids] = vector.weights
        rows.append(row)
    return rows


@pytest.mark.parametrize("kind", ["Bert", "ModernBert"])
@pytest.mark.parametrize(
    "pooling", [{}, {"pooling_strategy": "sum"}, {"pooling_strategy": "max", "activation_function": "log1p_relu"}]
)
def test_splade(tmp_path: Path, kind: str, pooling: dict[str, Any]) -> None:
    from sentence_transformers import SparseEncoder

    source = backbone(tmp_path / "network", kind, "ForMaskedLM")
    SparseEncoder(modules=splade_modules(source, **pooling), device="cpu").save_pretrained(str(tmp_path / "model"))
    expected = sparse_rows(SparseEncoder(str(tmp_path / "model"), device="cpu"))
    of_one = max(1.0, *(float(row.max()) for row in expected))  # sums of all tokens are numbers of 10 and more
    assert largest(our_rows(bundle(tmp_path / "model")), expected) < 1e-5 * of_one


@pytest.mark.parametrize("most", [1, 7])
def test_splade_keeps_the_largest_weights(tmp_path: Path, most: int) -> None:
    """`max_active_dims` of the folder is what it gives."""
    from sentence_transformers import SparseEncoder

    source = backbone(tmp_path / "network", head="ForMaskedLM")
    made = SparseEncoder(modules=splade_modules(source), device="cpu", max_active_dims=most)
    made.save_pretrained(str(tmp_path / "model"))
    change(tmp_path / "model/config_sentence_transformers.json", max_active_dims=most)  # release 5 does not save it
    expected = sparse_rows(SparseEncoder(str(tmp_path / "model"), device="cpu", max_active_dims=most))
    assert max(np.count_nonzero(row) for row in expected) == most
    assert largest(our_rows(bundle(tmp_path / "model")), expected) < 1e-5


@pytest.mark.parametrize("limit", [None, 6, 80])
def test_queries_by_a_table(tmp_path: Path, limit: int | None) -> None:
    """A Router that looks queries up in a table; its tokenizer's limit counts no special tokens."""
    import torch
    import transformers
    from sentence_transformers import SparseEncoder
    from sentence_transformers.models import Router
    from sentence_transformers.sparse_encoder import models

    source = backbone(tmp_path / "network", head="ForMaskedLM")
    own = transformers.AutoTokenizer.from_pretrained(source)
    if limit is not None:
        own.model_max_length = limit
    table = models.SparseStaticEmbedding(own, torch.rand(len(VOCAB)) - 0.0, frozen=True)
    router = Router.for_query_document([table], splade_modules(source))
    SparseEncoder(modules=[router], device="cpu").save_pretrained(str(tmp_path / "model"))
    reference, embedder = SparseEncoder(str(tmp_path / "model"), device="cpu"), bundle(tmp_path / "model")
    for role in ("query", "document"):
        assert largest(our_rows(embedder, role), sparse_rows(reference, role)) < 1e-5, role


# a vector for each token


def multi(source: Path, *, skip: Any = None, tasks: Any = None, between: Any = (), **network: Any) -> Any:
    """A MultiVectorEncoder with a projection to 16 numbers. between: modules before the mask"""
    import torch
    from sentence_transformers import MultiVectorEncoder
    from sentence_transformers.base.modules import Dense, Normalize, Transformer
    from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask

    torch.manual_seed(4)
    prompts = network.pop("prompts", None)
    dense = Dense(32, 16, bias=False, activation_function=torch.nn.Identity(), module_input_name="token_embeddings")
    modules = [Transformer(str(source), **network), dense, *between]
    modules += [MultiVectorMask(skip, skiplist_tasks=tasks), Normalize(module_input_name="token_embeddings")]
    return MultiVectorEncoder(modules=modules, device="cpu", prompts=prompts)


def multi_rows(folder: Path) -> dict[str, list[np.ndarray]]:
    from sentence_transformers import MultiVectorEncoder

    model = MultiVectorEncoder(str(folder), device="cpu")
    return {
        role: [getattr(model, f"encode_{role}")([text], convert_to_numpy=True)[0] for text in TEXTS]
        for role in ("query", "document")
    }


def assert_same(folder: Path, embedder: Embedder) -> None:
    for role, expected in multi_rows(folder).items():
        assert largest(embedder.encode_multi(TEXTS, role=role), expected) < 1e-5, role


@needs_multi
@pytest.mark.parametrize("kind", ["Bert", "ModernBert"])
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("plain", {}),
        ("lengths", {"query_length": 8, "document_length": 20}),
        ("fixed", {"query_expansion": {"strategy": "fixed", "length": 12}, "document_length": 30}),
        ("attend", {"query_expansion": {"strategy": "fixed", "length": 12, "attend": True}}),
        ("token", {"query_expansion": {"strategy": "fixed", "length": 12, "attend": True, "token": "the"}}),
        ("min", {"query_expansion": {"strategy": "min", "length": 8}}),
        ("min-20", {"query_expansion": {"strategy": "min", "length": 8}, "query_length": 20, "document_length": 20}),
        ("skip", {"skip": list(string.punctuation)}),
        ("both", {"skip": [*string.punctuation, "no word"], "tasks": ["query", "document"]}),
        ("prompts", {"prompts": {"query": "who: ", "document": "what: "}, "document_length": 12, "query_length": 9}),
        ("markers", {"prompts": {"query": "[Q] ", "document": "[D] "}}),
    ],
)
def test_multi_vectors(tmp_path: Path, kind: str, name: str, settings: dict[str, Any]) -> None:
    multi(backbone(tmp_path / "network", kind), **settings).save_pretrained(str(tmp_path / name))
    assert_same(tmp_path / name, bundle(tmp_path / name))


@needs_multi
def test_markers_that_are_special_tokens(tmp_path: Path) -> None:
    """What sentence-transformers makes of a PyLate folder, saved again: its markers are special tokens in prompts."""
    from sentence_transformers import MultiVectorEncoder

    folder = pylate(tmp_path / "old", backbone(tmp_path / "network"), prompts={"query": "who: "})
    MultiVectorEncoder(str(folder), device="cpu").save_pretrained(str(tmp_path / "new"))
    assert_same(tmp_path / "new", bundle(tmp_path / "new"))
    change(tmp_path / "new/config_sentence_transformers.json", prompts={"query": "who [unused0]"})
    with pytest.raises(ExportError, match="a special token can only stand at the beginning"):
        bundle(tmp_path / "new")


def pylate(folder: Path, source: Path, **settings: Any) -> Path:
    """A folder as PyLate writes it: the modules of a native one without mask and norm, settings beside prompts."""
    multi(source).save_pretrained(str(folder))
    entries = json.loads((folder / "modules.json").read_text())[:2]
    entries[0]["type"] = "sentence_transformers.models.Transformer"
    entries[1]["type"] = "pylate.models.Dense.Dense"
    (folder / "modules.json").write_text(json.dumps(entries))
    for module in ("1_Dense",):
        change(folder / module / "config.json", module_input_name=None, module_output_name=None)
    own = {"query_length": 12, "document_length": 24, "query_prefix": "[unused0]", "document_prefix": "[unused1]"}
    own |= {"do_query_expansion": True, "attend_to_expansion_tokens": False, "model_type": "ColBERT"}
    own |= {"skiplist_words": list(string.punctuation), "similarity_fn_name": "MaxSim"}
    change(folder / "config_sentence_transformers.json", **{**own, **settings})
    return folder


@needs_multi
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("usual", {}),
        ("attend", {"attend_to_expansion_tokens": True}),
        ("plain", {"do_query_expansion": False}),
        ("all", {"skiplist_words": []}),
        ("punctuation", {"skiplist_words": None}),
        ("prompted", {"prompts": {"query": "who: ", "document": "what: "}}),
        ("unmarked", {"query_prefix": "", "document_prefix": ""}),
    ],
)
def test_pylate(tmp_path: Path, name: str, settings: dict[str, Any]) -> None:
    folder = pylate(tmp_path / name, backbone(tmp_path / "network"), **settings)
    assert_same(folder, bundle(folder))


@needs_multi
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("usual", {}),
        ("attend", {"attend_to_mask_tokens": True}),
        ("all", {"mask_punctuation": False}),
        ("words", {"query_token_id": "[Q]", "doc_token_id": "[D]"}),
    ],
)
def test_stanford(tmp_path: Path, name: str, settings: dict[str, Any]) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    folder = backbone(tmp_path / name)
    change(folder / "config.json", architectures=["HF_ColBERT"])
    weights = {f"bert.{key}": value for key, value in load_file(folder / "model.safetensors").items()}
    torch.manual_seed(5)
    weights["linear.weight"] = torch.randn(16, 32)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    own = {"query_maxlen": 12, "doc_maxlen": 24, "query_token_id": "[unused0]", "doc_token_id": "[unused1]", "dim": 16}
    change(folder / "artifact.metadata", **{**own, "similarity": "cosine", "nbits": 2, **settings})
    assert_same(folder, bundle(folder))


@needs_multi
def test_what_multi_vectors_are_refused(tmp_path: Path) -> None:
    from sentence_transformers.multi_vector_encoder.modules import HierarchicalTokenPooling

    source = backbone(tmp_path / "network")
    multi(source, between=[HierarchicalTokenPooling(2)]).save_pretrained(str(tmp_path / "pooled"))
    with pytest.raises(ExportError, match="HierarchicalTokenPooling"):
        bundle(tmp_path / "pooled")
    multi(source).save_pretrained(str(tmp_path / "long"))
    entries = json.loads((tmp_path / "long/modules.json").read_text())
    (tmp_path / "long/modules.json").write_text(json.dumps(entries[:-1]))
    with pytest.raises(ExportError, match="without a Normalize"):
        bundle(tmp_path / "long")
