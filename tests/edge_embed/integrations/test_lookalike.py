"""Doors where what they open is not installed; the SentenceTransformer of a bundle works without torch."""

import copy
import importlib
import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from builders.architectures import MODELS, write
from builders.bert import bert_folder
from builders.heads import sparse_folder
from builders.served import prompted_bundle

from edge_embed.errors import InputError, MissingExtraError
from edge_embed.integrations.sentence_transformers import SentenceTransformer
from edge_embed.integrations.sentence_transformers import interface as door
from edge_embed_export import export_model

TEXTS = ["The cat sleeps.", "A kitten rests.", "Tax forms are due."]


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> SentenceTransformer:
    """One that finds no torch."""
    monkeypatch.setattr(door, "is_installed", lambda _: False)
    return SentenceTransformer("static", threads=1)


def test_arrays_without_torch(model: SentenceTransformer) -> None:
    """Vectors and similarities are numpy arrays, the device a name."""
    vectors = model.encode(TEXTS)
    assert (vectors.dtype, vectors.shape) == (np.float32, (3, 240))
    scores = model.similarity(vectors, vectors)
    assert isinstance(scores, np.ndarray)
    np.testing.assert_allclose(scores, vectors @ vectors.T, atol=1e-6)
    np.testing.assert_allclose(model.similarity_pairwise(vectors, vectors), np.ones(3), atol=1e-6)
    assert model.similarity(vectors[0], vectors).shape == (1, 3)
    assert model.encode(TEXTS, precision="ubinary").shape == (3, 30)
    assert model.device == "cpu"


def test_imports_no_torch() -> None:
    """Not even where it is installed, until something is to be a tensor."""
    code = (
        "import sys; from edge_embed.integrations.sentence_transformers import SentenceTransformer as S;"
        "S('static').encode(['a']); print({'torch', 'sentence_transformers', 'transformers'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_tensors_need_the_extra(model: SentenceTransformer, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("torch", "sentence_transformers"):
        monkeypatch.setitem(sys.modules, name, None)
    for options in ({"convert_to_tensor": True}, {"convert_to_numpy": False}, {"precision": "int8"}):
        with pytest.raises(MissingExtraError, match=r"pip install 'edge-embed\[sentence-transformers\]'"):
            model.encode(TEXTS, **options)


def test_mteb_needs_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mteb", None)
    monkeypatch.delitem(sys.modules, "edge_embed.integrations.mteb", raising=False)
    with pytest.raises(MissingExtraError, match=r"pip install 'edge-embed\[mteb\]'"):
        importlib.import_module("edge_embed.integrations.mteb")


def test_distances(model: SentenceTransformer) -> None:
    a, b = np.array([[0.0, 0.0], [3.0, 4.0]], np.float32), np.array([[3.0, 4.0]], np.float32)
    for name, expected in (("euclidean", [[-5], [0]]), ("manhattan", [[-7], [0]]), ("dot", [[0], [25]])):
        model.similarity_fn_name = name
        np.testing.assert_allclose(model.similarity(a, b), expected)
    model.similarity_fn_name = "euclidean"
    assert model.similarity(a[:0], b).shape == (0, 1)


def test_pickled_and_copied(model: SentenceTransformer) -> None:
    for other in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):  # noqa: S301 - our own
        np.testing.assert_array_equal(other.encode(TEXTS), model.encode(TEXTS))


def test_prompts_of_a_bundle(tmp_path: Path, short_receipt: None) -> None:
    """encode takes none, the roles theirs; a name, a text, and those given to the model take their place."""
    folder = prompted_bundle(tmp_path)
    model = SentenceTransformer(folder, threads=1)
    assert model.prompts == {"query": "river ", "document": "", "clustering": "a bank "}
    text = "the boat"
    plain, query, clustering, other = model.encode([text, f"river {text}", f"a bank {text}", f"a river {text}"])
    for found, expected in [
        (model.encode(text), plain),
        (model.encode_query(text), query),
        (model.encode_document(text), plain),
        (model.encode(text, prompt_name="clustering"), clustering),
        (model.encode(text, task="query"), plain),
        (model.encode(text, prompt_name="clustering", prompt="a river "), other),
        (model.encode_query(text, prompt=""), plain),
        (model.encode_query(text, prompt_name="clustering"), clustering),
    ]:
        np.testing.assert_array_equal(found, expected)
    own = SentenceTransformer(folder, prompts={"query": "a river "}, default_prompt_name="clustering", threads=1)
    np.testing.assert_array_equal(own.encode(text), clustering)
    np.testing.assert_array_equal(own.encode(text, prompt=""), plain)
    np.testing.assert_array_equal(own.encode_query(text), other)
    np.testing.assert_array_equal(own.encode_document(text), plain)
    with pytest.raises(InputError, match="default_prompt_name is 'none'"):
        SentenceTransformer(folder, default_prompt_name="none")


def test_the_default_prompt_of_a_bundle(tmp_path: Path, short_receipt: None) -> None:
    """encode puts it before texts, unless another name, or none, is set."""
    source = bert_folder(tmp_path / "source")
    settings = {"prompts": {"query": "river ", "document": ""}, "default_prompt_name": "query"}
    (source / "config_sentence_transformers.json").write_text(json.dumps(settings))
    export_model(source, tmp_path / "bundle", verify="skip")
    model = SentenceTransformer(tmp_path / "bundle", threads=1)
    prompted, plain = model.embedder.encode(["river the boat", "the boat"], prompt="")
    assert model.default_prompt_name == "query"
    np.testing.assert_array_equal(model.encode("the boat"), prompted)
    np.testing.assert_array_equal(model.encode_document("the boat"), plain)
    model.default_prompt_name = None
    np.testing.assert_array_equal(model.encode("the boat"), plain)


def test_adapters_of_roles(tmp_path: Path, short_receipt: None) -> None:
    """encode_query and encode_document have theirs, encode has that of the task that it is given, or none."""
    source = write(MODELS["jina_v3"](), tmp_path / "source")
    export_model(source, tmp_path / "bundle", precision="fp32", task="all", verify="skip")
    model = SentenceTransformer(tmp_path / "bundle", threads=1)
    texts = ["the river bank", "a cat"]
    query, document, none = (model.embedder.encode(texts, role=role) for role in ("query", "document", None))
    assert not np.allclose(query, document)
    assert not np.allclose(query, none)
    np.testing.assert_array_equal(model.encode_query(texts), query)
    np.testing.assert_array_equal(model.encode_document(texts), document)
    np.testing.assert_array_equal(model.encode(texts), none)
    np.testing.assert_array_equal(model.encode(texts, task="query", prompt_name="query"), query)
    np.testing.assert_array_equal(
        model.encode(texts, task="query"), model.embedder.encode(texts, role="query", prompt="")
    )


def test_another_kind_is_refused(tmp_path: Path, short_receipt: None) -> None:
    export_model(sparse_folder(bert_folder(tmp_path / "checkpoint")), tmp_path / "sparse")
    with pytest.raises(InputError, match="takes bundles of kind 'dense'"):
        SentenceTransformer(tmp_path / "sparse")
