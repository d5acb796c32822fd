"""purpose.py and formats.py: folders that cannot be exported as they are; prompts without room; idle options."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders.architectures import decoder
from builders.bert import Checkpoints, word_tokenizer
from builders.heads import multi_folder, sparse_folder
from click.testing import CliRunner
from safetensors.numpy import save_file

from edge_embed import Document, Embedder, Index
from edge_embed.cli.main import main
from edge_embed.errors import EdgeEmbedError, ExportError, InputError, SourceError, UnsupportedModelError
from edge_embed_export import GraphOptions, export_model
from edge_embed_export.families.known import describe
from edge_embed_runtime.bundle.bundle import Bundle, read_bundle
from edge_embed_runtime.inputs.prompts import LEAST_ROOM

pytestmark = pytest.mark.usefixtures("short_receipt")
SETTINGS = "config_sentence_transformers.json"


def change(path: Path, **fields: Any) -> None:
    content = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**content, **fields}))


def without(folder: Path, module: str) -> Path:
    """The folder without a module in its list."""
    path = folder / "modules.json"
    path.write_text(json.dumps([m for m in json.loads(path.read_text()) if not m["type"].endswith(f".{module}")]))
    return folder


def plain(folder: Path, architecture: str) -> Path:
    """A folder of transformers, without what sentence-transformers adds."""
    (folder / "modules.json").unlink()
    change(folder / "config.json", architectures=[architecture])
    return folder


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (["pytorch_model.bin"], "pytorch_model.bin, a pickle, .*AutoModel.from_pretrained"),
        (["weights.ckpt"], "a pickle"),
        (["tf_model.h5"], "weights of TensorFlow.*from_tf=True"),
        (["flax_model.msgpack"], "weights of Flax.*from_flax=True"),
        (["openvino/openvino_model.xml"], "openvino/openvino_model.xml, a model for OpenVINO"),
        (["model.Q4_K_M.gguf"], "a model for llama.cpp.*take the folder that it was made from"),
        (["coreml/x/y"], "Core ML"),
        (["weights.hdf5"], "ELMo"),
        ([], "model.safetensors is missing"),
    ],
)
@pytest.mark.parametrize("configured", [True, False])
def test_other_weights(files: list[str], said: str, configured: bool, checkpoint: Checkpoints, tmp_path: Path) -> None:
    """What lies in a folder in place of model.safetensors is named, with what to do, also where no config is."""
    source = checkpoint()
    (source / "model.safetensors").unlink()
    for name in files:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(b"x")
    if not configured:
        (source / "config.json").unlink()
        said = said.replace("model.safetensors is", "config.json is")
    with pytest.raises(EdgeEmbedError, match=said):
        export_model(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_other_files(tmp_path: Path) -> None:
    """A file is named as what it is; .bin may be word vectors."""
    for name, said in (("m.gguf", "llama.cpp"), ("pytorch_model.bin", "a pickle"), ("model.onnx.pt", "a pickle")):
        (tmp_path / name).write_bytes(b"x")
        with pytest.raises(ExportError, match=said):
            export_model(tmp_path / name, tmp_path / "out")
    (tmp_path / "model.bin").write_bytes(b"x")
    with pytest.raises(SourceError) as caught:
        export_model(tmp_path / "model.bin", tmp_path / "out")
    assert "pickle" not in str(caught.value)


@pytest.mark.parametrize(
    ("files", "said", "instead"),
    [
        (["vocab.txt"], "holds vocab.txt and no tokenizer.json", r"vocab.txt lacks the token '\[CLS\]'"),
        (["vocab.json", "merges.txt"], "holds vocab.json, merges.txt and no tokenizer.json", None),
        (["sentencepiece.bpe.model"], "holds sentencepiece.bpe.model and no", "sentencepiece.bpe.model.*transformers"),
        ([], "tokenizer.json is missing", None),
    ],
)
def test_other_tokenizers(
    files: list[str], said: str, instead: str | None, checkpoint: Checkpoints, tmp_path: Path
) -> None:
    """What lies there is named, and how tokenizer.json is made of it; of a table as well.

    instead: what is said of a checkpoint, whose vocabulary is read (see test_tokenizervocab.py)
    """
    source = checkpoint()
    (source / "tokenizer.json").unlink()
    for name in files:
        (source / name).write_text("x")
    with pytest.raises(EdgeEmbedError, match=instead or f"{said}.*AutoTokenizer.from_pretrained.*save_pretrained"):
        export_model(source, tmp_path / "out")
    table = tmp_path / "table"
    table.mkdir()
    (table / "config.json").write_text('{"model_type": "model2vec"}')
    save_file({"embeddings": np.ones((25, 4), np.float32)}, table / "model.safetensors")
    for name in files:
        (table / name).write_text("x")
    with pytest.raises(SourceError, match=f"{said}.*AutoTokenizer"):
        export_model(table, tmp_path / "out")


@pytest.mark.parametrize(
    "architecture", ["BertForSequenceClassification", "BertForTokenClassification", "BertForQuestionAnswering"]
)
def test_cross_encoders(architecture: str, checkpoint: Checkpoints, tmp_path: Path) -> None:
    """They give scores: refused by name; the encoder alone on request, which the manifest, info and stderr say."""
    source = plain(checkpoint(), architecture)
    pairs = architecture.endswith("SequenceClassification")  # exported as a cross-encoder where no kind is asked for
    for kind in ("sparse", "multi", *([] if pairs else [None])):
        with pytest.raises(ExportError, match=f"holds {architecture}, a cross-encoder or classifier.*--kind dense"):
            export_model(source, tmp_path / "out", kind=kind)  # type: ignore[arg-type]
    made = CliRunner().invoke(main, ["export", str(source), str(tmp_path / "out"), "--kind", "dense"])
    assert made.exit_code == 0, made.output
    assert f"note: the folder holds {architecture}" in made.stderr
    assert read_bundle(tmp_path / "out").manifest.pooling == "mean"
    shown = CliRunner().invoke(main, ["info", str(tmp_path / "out")]).output
    assert f"notes: the folder holds {architecture}" in shown


def test_cross_encoders_of_sentence_transformers(checkpoint: Checkpoints, tmp_path: Path) -> None:
    """They are told by the library's own words too; what the folder calls an embedder is one, whatever its config."""
    told = checkpoint("told")
    change(told / SETTINGS, model_type="CrossEncoder")
    older = checkpoint("older")
    (older / "modules.json").unlink()
    change(older / "config.json", sentence_transformers={"activation_fn": "torch.nn.Sigmoid", "version": "4.1"})
    for source in (told, older):
        with pytest.raises(ExportError, match=r"names .'BertModel'.*no sequence classification head"):
            export_model(source, tmp_path / "out")
    embedder = checkpoint("embedder", architectures=["BertForSequenceClassification"])
    assert "notes" not in export_model(embedder, tmp_path / "out", precision="fp32").provenance


def test_masked_language_models(checkpoint: Checkpoints, tmp_path: Path) -> None:
    """As published they are dense, with a note; sparse where the folder says so or the caller."""
    folder = sparse_folder(checkpoint(), modules=False)
    manifest = export_model(folder, tmp_path / "dense", precision="fp32")
    assert (manifest.kind, manifest.pooling) == ("dense", "mean")
    assert "BertForMaskedLM, a language model" in manifest.provenance["notes"]
    assert "--kind sparse" in manifest.provenance["notes"]
    manifest = export_model(folder, tmp_path / "sparse", precision="fp32", kind="sparse")
    assert (manifest.kind, "notes" in manifest.provenance) == ("sparse", False)
    change(folder / SETTINGS, model_type="SparseEncoder", similarity_fn_name="dot")
    assert export_model(folder, tmp_path / "said", precision="fp32").kind == "sparse"
    (folder / SETTINGS).unlink()
    (folder / "idf.json").write_text(json.dumps({"cat": 1.5}))
    assert export_model(folder, tmp_path / "idf", precision="fp32").kind == "sparse"


@pytest.mark.parametrize("said", ["dot", "dot_product", "euclidean", "manhattan"])
@pytest.mark.parametrize("unit", [True, False])
def test_similarity(said: str, unit: bool, checkpoint: Checkpoints, tmp_path: Path) -> None:
    """Models that do not rank by cosines are refused, or exported on request; vectors of length 1 rank alike."""
    source = checkpoint()
    change(source / SETTINGS, similarity_fn_name=said)
    if not unit:
        without(source, "Normalize")
    if unit and said != "manhattan":
        assert "notes" not in export_model(source, tmp_path / "out", precision="fp32").provenance
        return
    with pytest.raises(ExportError, match=f"similarity_fn_name is {said!r}.*--similarity cosine"):
        export_model(source, tmp_path / "out")
    made = CliRunner().invoke(main, ["export", str(source), str(tmp_path / "out"), "--similarity", "cosine"])
    assert made.exit_code == 0, made.output
    assert f"note: made for {said}, exported for cosines" in made.stderr
    shown = CliRunner().invoke(main, ["info", str(tmp_path / "out")]).output
    assert f"notes: made for {said}, exported for cosines" in shown


def test_similarity_where_nothing_is_said(checkpoint: Checkpoints, tmp_path: Path) -> None:
    """Some models are known by their names; cosine, null and no Normalize module are what they always were."""
    named = without(checkpoint("multi-qa-mpnet-base-dot-v1"), "Normalize")
    with pytest.raises(ExportError, match="compared by dot"):
        export_model(named, tmp_path / "out")
    with pytest.raises(ExportError, match="compared by dot"):
        export_model(without(checkpoint("a"), "Normalize"), tmp_path / "out", source_name="facebook/contriever")
    with pytest.raises(ExportError, match="compared by dot"):
        export_model(plain(checkpoint("contriever-msmarco"), "BertModel"), tmp_path / "out")
    for i, said in enumerate(({}, {"similarity_fn_name": None}, {"similarity_fn_name": "cosine"})):
        source = without(checkpoint(f"b{i}"), "Normalize")
        change(source / SETTINGS, **said)
        manifest = export_model(source, tmp_path / f"out{i}", precision="fp32", similarity="cosine")
        assert "notes" not in manifest.provenance
    with pytest.raises(InputError, match="similarity is 'dot', expected 'cosine'"):
        export_model(source, tmp_path / "out", similarity="dot")
    with pytest.raises(InputError, match="similarity is for models that give one vector"):
        export_model(sparse_folder(checkpoint("s")), tmp_path / "out", similarity="cosine")


def test_similarity_of_static_models(tmp_path: Path) -> None:
    """A table of token vectors has no Normalize module either."""
    source = tmp_path / "table"
    (source / "0_StaticEmbedding").mkdir(parents=True)
    listed = [
        {"idx": 0, "name": "0", "path": "0_StaticEmbedding", "type": "sentence_transformers.models.StaticEmbedding"}
    ]
    (source / "modules.json").write_text(json.dumps(listed))
    (source / "0_StaticEmbedding" / "tokenizer.json").write_text(json.dumps(word_tokenizer()))
    rows = np.random.default_rng(0).standard_normal((25, 8)).astype(np.float32)
    save_file({"embedding.weight": rows}, source / "0_StaticEmbedding" / "model.safetensors")
    change(source / SETTINGS, similarity_fn_name="dot")
    with pytest.raises(ExportError, match="compared by dot"):
        export_model(source, tmp_path / "out")
    manifest = export_model(source, tmp_path / "out", precision="fp32", similarity="cosine")
    assert "exported for cosines" in manifest.provenance["notes"]


def test_list_names_no_model_that_is_refused() -> None:
    """`export --list` gives examples that can be exported as they are."""
    assert not [name for family in describe() for name in family["checkpoints"] if "-dot-" in name or "tas-b" in name]


def test_an_instruction_is_missing(checkpoint: Checkpoints, tmp_path: Path) -> None:
    """A card's instruction for queries that no file has is noted."""
    source = checkpoint("multilingual-e5-large-instruct")
    assert "instruction" in export_model(source, tmp_path / "a", precision="fp32").provenance["notes"]
    given = export_model(source, tmp_path / "c", precision="fp32", prompts={"search_query": "the cat: "})
    assert "notes" not in given.provenance
    change(source / SETTINGS, prompts={"query": "the cat: "})
    assert "notes" not in export_model(source, tmp_path / "b", precision="fp32").provenance


def test_code_that_does_otherwise(checkpoint: Checkpoints, tmp_path: Path) -> None:
    """What a model's own code does besides is noted where the model is known."""
    manifest = export_model(checkpoint("unixcoder-base"), tmp_path / "out", precision="fp32")
    assert "puts a token for the mode <encoder-only> before a text, the bundle does not" in manifest.provenance["notes"]


@pytest.mark.parametrize(("kind", "name"), [("sparse", "sparse_linear.pt"), ("multi", "colbert_linear.pt")])
def test_pickled_heads(kind: Any, name: str, checkpoint: Checkpoints, tmp_path: Path) -> None:
    """The heads of BGE-M3 are named; its dense vectors are not touched by that."""
    source = checkpoint()
    (source / name).write_bytes(b"x")
    with pytest.raises(ExportError, match=f"{name}, a pickle"):
        export_model(source, tmp_path / "out", kind=kind)
    assert export_model(source, tmp_path / "out", precision="fp32").kind == "dense"


def words(count: int) -> str:
    return "cat " * count


@pytest.mark.parametrize(
    ("tokens", "fits"), [(22 - LEAST_ROOM, True), (23 - LEAST_ROOM, False), (22, False), (99, False)]
)
def test_room_for_texts(tokens: int, fits: bool, checkpoint: Checkpoints, tmp_path: Path) -> None:
    """Prompts of a folder and of the caller: 24 tokens, two of them special, leave 22 for a prompt and a text."""
    source = checkpoint()
    given = {"prompts": {"passage": words(tokens)}}
    if fits:
        export_model(source, tmp_path / "out", precision="fp32", **given)  # type: ignore[arg-type]
        first, second = Embedder(tmp_path / "out").encode_document(["the dog", "red water"])
        assert not np.array_equal(first, second)
        return
    size = "all 22" if tokens >= 22 else f"{tokens} of the 22"
    with pytest.raises(ExportError, match=f"the prompt of 'passage' takes {size} tokens"):
        export_model(source, tmp_path / "out", **given)  # type: ignore[arg-type]
    change(source / SETTINGS, **given)
    with pytest.raises(ExportError, match=f"the prompt of 'passage' takes {size} tokens"):
        export_model(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_room_in_shorter_queries(checkpoint: Checkpoints, tmp_path: Path) -> None:
    """Queries of a ColBERT model are shorter than its documents."""
    source = multi_folder(checkpoint())
    with pytest.raises(ExportError, match="the prompt of 'query' takes 6 of the 10 tokens"):
        export_model(source, tmp_path / "out", prompts={"query": words(6)})
    export_model(source, tmp_path / "out", precision="fp32", prompts={"document": words(6)})
    embedder = Embedder(tmp_path / "out")
    embedder.encode_multi(["cat"], role="document", prompt=words(6))
    with pytest.raises(InputError, match="6 of the 10 tokens"):
        embedder.encode_multi(["cat"], role="query", prompt=words(6))


def test_room_when_texts_are_embedded(tiny_bundle: Path, tmp_path: Path) -> None:
    """A prompt of the caller, and one in a bundle that an earlier release wrote: an error, no equal vectors."""
    embedder = Embedder(tiny_bundle)
    embedder.encode(["a", "b"], prompt=words(22 - LEAST_ROOM))
    for call in (embedder.encode, embedder.encode_tokens):
        with pytest.raises(InputError, match="the prompt takes 18 of the 22 tokens that count, and leaves 4"):
            call(["a"], prompt=words(18))  # type: ignore[operator]
    loaded = read_bundle(tiny_bundle)
    manifest = type(loaded.manifest)(**{**vars(loaded.manifest), "prompts": {"document": words(40)}})
    old = Embedder(Bundle(tiny_bundle, manifest, loaded.model, loaded.tokenizer, loaded.stamp))
    assert old.encode(["a"]).shape == old.encode_query(["a"]).shape
    with (
        pytest.raises(InputError, match="the prompt of 'document' takes all 22 tokens"),
        Index.open(tmp_path / "i.db", old) as index,
    ):
        index.add([Document("1", "the cat")])


def decoder_folder(tmp_path: Path, name: str, **config: Any) -> Path:
    """A small random Mistral."""
    made, tensors = decoder("mistral", prefix="model.", sliding_window=None, **config)
    folder = tmp_path / name
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(made))
    (folder / "tokenizer.json").write_text(json.dumps(word_tokenizer()))
    save_file(dict(tensors), folder / "model.safetensors")
    return folder


def test_decoders_with_code_of_their_own(tmp_path: Path) -> None:
    """Their code may let tokens see both ways: refused, unless config.json says which."""
    own = {"AutoConfig": "configuration_x.MistralConfig", "AutoModel": "modeling_x.MistralModel"}
    with pytest.raises(UnsupportedModelError, match=r"modeling_x.MistralModel.*is never run.*\"is_causal\": false"):
        export_model(decoder_folder(tmp_path, "a", auto_map=own), tmp_path / "out")
    with pytest.raises(UnsupportedModelError, match=r"MistralXModel.*is never run"):
        export_model(decoder_folder(tmp_path, "x", architectures=["MistralXModel"]), tmp_path / "out")
    made = {}
    for name, config in (
        ("MistralBiModel", {"architectures": ["MistralBiModel"]}),
        ("MistralBiForMNTP", {"architectures": ["MistralBiForMNTP"]}),
        ("encoder", {"auto_map": {"AutoModel": "modeling_mistral_encoder.MistralEncoderModel"}}),
        ("both", {"auto_map": own, "is_causal": False}),
        ("causal", {"auto_map": own, "is_causal": True}),
        ("plain", {"auto_map": {"AutoConfig": "configuration_x.MistralConfig"}}),
    ):
        export_model(decoder_folder(tmp_path, name, **config), tmp_path / f"{name}.out", precision="fp32")
        made[name] = Embedder(tmp_path / f"{name}.out").encode(["the cat is in the house"])
    assert np.array_equal(made["causal"], made["plain"])
    assert not np.allclose(made["causal"], made["both"])
    for name in ("MistralBiModel", "MistralBiForMNTP", "encoder"):
        assert np.array_equal(made["both"], made[name])


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"table": "int4"}, "table"),
        ({"precision": "int4"}, "int4"),
        ({"max_tokens": 9}, "max_tokens"),
        ({"max_tokens": 9, "task": "x"}, "task, max_tokens"),
        ({"adapter": "x"}, "adapter"),
        ({"adapters": {"a": "x"}}, "adapters"),
        ({"truncate_dims": [1]}, "truncate_dims"),
        ({"kind": "sparse"}, "kind"),
        ({"similarity": "cosine"}, "similarity"),
        ({"graph": GraphOptions(pooling="mean")}, "graph"),
        ({"engine": "onnxruntime"}, "engine"),
    ],
)
def test_options_without_effect(options: dict[str, Any], named: str, tmp_path: Path) -> None:
    """Of a static model they are refused by name."""
    source = tmp_path / "v.txt"
    source.write_text("the 1 2\ncat 3 4\ndog 5 -6\n")
    with pytest.raises(InputError, match=f"is a static model, .*: there is no use for {named}$"):
        export_model(source, tmp_path / "out", **options)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"words": 9}, "words and sif are for files of word vectors"),
        ({"sif": 0.1}, "words and sif are for files of word vectors"),
        ({"task": "retrieval"}, "task 'retrieval' is none of the model's"),
        ({"task": "all"}, "it has none"),
        ({"graph": GraphOptions(pooling="cls")}, "holds no graph"),
        ({"graph": GraphOptions(convert=True, file="model.onnx")}, "choose one"),
        ({"precision": "fp32", "table": "int4"}, "have no use"),
        ({"search": True, "recipes": "x"}, "choose one"),
        ({"engine": "native", "graph": GraphOptions(convert=True)}, "exported from the checkpoint alone"),
        ({"engine": "native", "precision": "int4"}, "runs int8 models: .* with precision int4"),
        ({"engine": "native", "table": "int4"}, "runs int8 models: .* with table int4"),
    ],
)
def test_options_of_other_sources(options: dict[str, Any], said: str, checkpoint: Checkpoints, tmp_path: Path) -> None:
    """Of a transformer they are refused."""
    with pytest.raises(EdgeEmbedError, match=said):
        export_model(checkpoint(), tmp_path / "out", **options)


def test_recipes_of_an_embedded_bundle(checkpoint: Checkpoints, tmp_path: Path) -> None:
    """--recipes takes the name of an embedded bundle, as --bundle does."""
    arguments = ["export", str(checkpoint()), str(tmp_path / "out"), "--recipes"]
    refused = CliRunner().invoke(main, [*arguments, "minilm"])
    assert "does not exist" not in refused.output
    assert refused.output == CliRunner().invoke(main, [*arguments, str(Embedder().path)]).output
