"""Every family: exported with one command, close to the model computed by hand, faithful in int8, one vector a text."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders.architectures import MODELS, TASKS, Model, write
from builders.bert import WORDS
from builders.checkpoints import read_checkpoint
from builders.reference import REFERENCES, vector
from click.testing import CliRunner
from safetensors.numpy import save_file

from edge_embed import Embedder
from edge_embed.cli.main import main
from edge_embed.errors import ExportError, SourceError
from edge_embed_export import export_model
from edge_embed_export.calibration import texts as shipped
from edge_embed_export.families import vision
from edge_embed_export.families.known import EVERY, FAMILIES, read_family
from edge_embed_export.receipt import finish
from edge_embed_export.transformer import builder as graph

TEXTS = ["the river bank", "money at the bank and in the house", "a cat", "", "the dog is in the garden at night " * 9]

pytestmark = pytest.mark.usefixtures("short_receipt", "known_words")


def some_texts(part: str) -> list[str]:
    """Texts of the words that the tiny tokenizer knows, others for calibration than for the receipt."""
    random = np.random.default_rng(len(part))
    return [" ".join(random.choice(WORDS, size)) for size in random.integers(0, 23, 96)]


@pytest.fixture
def known_words(monkeypatch: pytest.MonkeyPatch, short_receipt: None) -> None:
    monkeypatch.setattr(shipped, "calibration_texts", some_texts)
    monkeypatch.setattr(finish, "calibration_texts", lambda part: some_texts(part)[::8])


@pytest.fixture
def folder(tmp_path: Path) -> Callable[[str], tuple[Model, Path]]:
    """The small random model of a family, and its folder."""

    def make(name: str) -> tuple[Model, Path]:
        model = MODELS[name]()
        return model, write(model, tmp_path / name)

    return make


Folders = Callable[[str], tuple[Model, Path]]


def one_vector(bundle: Path) -> np.ndarray[Any, Any]:
    """Vectors of TEXTS; that of a text is the same alone, in a batch and in batches of other sizes, bit for bit."""
    embedder = Embedder(bundle, threads=1)
    vectors = embedder.encode(TEXTS)
    alone = np.vstack([embedder.encode([text]) for text in TEXTS])
    assert np.array_equal(vectors.view(np.uint32), alone.view(np.uint32))
    padded = embedder.network.run([embedder.tokenizer.encode(text) for text in TEXTS])
    assert np.array_equal(vectors.view(np.uint32), padded.view(np.uint32))
    return vectors


@pytest.mark.parametrize("name", MODELS)
def test_family_exports(folder: Folders, tmp_path: Path, name: str) -> None:
    """int8 by the command, within its floor, and fp32; a text has one vector in both, whatever the padding."""
    model, source = folder(name)
    extra = [f"--{option}={value}" for option, value in model.options.items()]
    run = CliRunner().invoke(main, ["export", str(source), str(tmp_path / "int8"), *extra, "--json"])
    assert run.exit_code == 0, run.output
    export_model(source, tmp_path / "fp32", precision="fp32", **model.options)
    exact, quantized = one_vector(tmp_path / "fp32"), one_vector(tmp_path / "int8")
    assert (exact * quantized).sum(axis=1).min() > 0.985
    receipt = json.loads((tmp_path / "int8" / "manifest.json").read_text())["receipt"]
    assert receipt["cosine_to_fp32"]["min"] > 0.99
    # texts differ, so vectors do
    assert (exact @ exact.T - np.eye(len(TEXTS))).max() < 0.9999


@pytest.mark.parametrize("name", REFERENCES)
def test_float_graph_is_the_model(folder: Folders, tmp_path: Path, name: str) -> None:
    """Within 1e-5 of the model written down a second time, for those that transformers does not know."""
    model, source = folder(name)
    assert not model.known
    export_model(source, tmp_path / "fp32", precision="fp32", **model.options)
    embedder = Embedder(tmp_path / "fp32", threads=1)
    for text, found in zip(TEXTS, embedder.encode(TEXTS), strict=True):
        assert np.abs(found - vector(name, model, embedder.tokenizer.encode(text).tolist())).max() < 1e-5


@pytest.mark.parametrize("name", MODELS)
def test_missing_tensor_is_named(folder: Folders, name: str) -> None:
    """A tensor that the family needs and the file has not."""
    model, source = folder(name)
    kept = {key: array for key, array in model.tensors.items() if not f".{key}".endswith(f".{model.missing}")}
    assert len(kept) == len(model.tensors) - 1
    save_file(kept, source / "model.safetensors")
    with pytest.raises(ExportError, match=f"no tensor '{model.missing}'"):
        read_family(read_checkpoint(source))


@pytest.mark.parametrize("name", MODELS)
def test_config_of_another_model_is_named(folder: Folders, name: str) -> None:
    """Weights and config.json that do not belong together."""
    model, source = folder(name)
    field, value = model.wrong
    (source / "config.json").write_text(json.dumps({**model.config, field: value}))
    with pytest.raises(ExportError, match=r"belong together|config says|which are|over 5 heads|no 4 layers"):
        read_family(read_checkpoint(source))


@pytest.mark.parametrize("name", MODELS)
def test_absurd_depth_is_refused_at_once(folder: Folders, name: str) -> None:
    """A number of layers that no model has is named before anything is read for it."""
    model, source = folder(name)
    config = {**model.config, **model.config.get("text_config", {})}
    field = next(key for key in ("num_hidden_layers", "n_layers", "n_layer", "num_layers") if key in config)
    changed = {**model.config, field: 2**30}
    if "text_config" in changed:
        changed["text_config"] = {**model.config["text_config"], field: 2**30}
    (source / "config.json").write_text(json.dumps(changed))
    with pytest.raises(ExportError, match="is 1073741824, expected at most 1000"):
        read_family(read_checkpoint(source))


def test_every_family_has_a_model(folder: Folders) -> None:
    """Each row of the list of families is taken by a checkpoint of these tests."""
    taken = set()
    for name in MODELS:
        checkpoint = read_checkpoint(folder(name)[1])
        kind = checkpoint.architecture
        taken.add(next(f.title for f in FAMILIES if kind in f.types and f.when(checkpoint)))
    assert taken == {family.title for family in FAMILIES}


def test_shared_layers_are_stored_once(folder: Folders, tmp_path: Path) -> None:
    """ALBERT's four layers of two kinds: weights of two are in the file, in int8 too."""
    _, source = folder("albert")
    for precision in ("fp32", "int8"):
        export_model(source, tmp_path / precision, precision=precision)
        onnx = pytest.importorskip("onnx")
        graph = onnx.load(tmp_path / precision / "model.onnx").graph
        weights = [value.name for value in graph.initializer if value.name.endswith("down.weight")]
        assert sorted(weights) == ["layers.0.down.weight", "layers.1.down.weight"]


def test_task_adapters(folder: Folders, tmp_path: Path) -> None:
    """Jina v3 has a vector per task, and one of its own; the task's instruction is the prompt of both roles."""
    model, source = folder("jina_v3")
    vectors = []
    for task in (None, *TASKS[:2]):
        manifest = export_model(source, tmp_path / str(task), precision="fp32", task=task)
        embedder = Embedder(tmp_path / str(task), threads=1)
        (found,) = embedder.encode(["the cat"])
        asked = dataclasses.replace(model, options={"task": task} if task else {})
        assert np.abs(found - vector("jina_v3", asked, embedder.tokenizer.encode("the cat").tolist())).max() < 1e-5
        vectors.append(found)
        assert manifest.prompts == (dict.fromkeys(("query", "document"), "the river ") if task else {})
    assert all(a @ b < 0.999 for i, a in enumerate(vectors) for b in vectors[:i])
    with pytest.raises(ExportError, match=r"task 'typo' is none of the model's.*text-matching"):
        export_model(source, tmp_path / "typo", task="typo")
    _, other = folder("bert")
    with pytest.raises(ExportError, match=r"'retrieval\.query' is none of the model's"):
        export_model(other, tmp_path / "typo", task="retrieval.query")


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("jina_v2", {"feed_forward_type": "swiglu"}, "activation 'swiglu'"),
        ("gte", {"rope_scaling": {"type": "su", "factor": 2}}, r"rope_scaling.rope_type is 'su'"),
        ("gte", {"rope_scaling": [1]}, "rope_scaling"),
        ("gte", {"pack_qkv": False}, "pack_qkv False is not supported"),
        ("nomic", {"prenorm": True}, "prenorm True"),
        ("nomic", {"activation_function": "mish"}, "activation 'mish'"),
        ("nomic_moe", {"num_experts": 3}, "experts"),
        ("nomic_moe", {"num_experts": 0}, "num_experts"),
        ("deberta", {"conv_kernel_size": 3}, "conv_kernel_size 3"),
        ("deberta", {"relative_attention": False}, "relative_attention"),
        ("deberta", {"pos_att_type": ["p2p"]}, "positions"),
        ("deberta", {"position_buckets": 64}, "rel_embeddings"),
        ("llama", {"rope_scaling": {"rope_type": "su", "factor": 2.0}}, "rope_type is 'su', which is not supported"),
        ("llama", {"rope_theta": 0}, "rope_theta is 0"),
        ("llama", {"num_key_value_heads": 3}, "3 heads of keys|config says"),
        ("gemma3", {"attn_logit_softcapping": 30.0}, "attn_logit_softcapping"),
        ("gemma2", {"layer_types": ["full_attention"]}, "layer_types"),
        ("gemma2", {"attn_logit_softcapping": -1}, "attn_logit_softcapping is -1"),
        ("gemma2", {"use_bidirectional_attention": True}, "use_bidirectional_attention"),
        ("deberta_v1", {"talking_head": True}, "talking_head True"),
        ("deberta_v1", {"relative_attention": False}, "relative_attention"),
        ("jina_v2_code", {"emb_pooler": "cls"}, "emb_pooler 'cls'"),
        ("umt5", {"relative_attention_num_buckets": 9}, "relative attention bias"),
        ("gemma3", {"layer_types": ["full_attention"]}, "layer_types has 1 entries for 3"),
        ("t5", {"relative_attention_num_buckets": 9}, "relative attention bias"),
        ("t5", {"feed_forward_proj": "gated-typo"}, "activation 'typo'"),
        ("mpnet", {"relative_attention_num_buckets": 16}, "buckets"),
        ("xlm_roberta", {"pad_token_id": -1}, "pad_token_id"),
        ("xlm_roberta", {"pad_token_id": 60}, "positions has no row 61"),
        ("albert", {"position_embedding_type": "relative_key"}, "relative_key"),
        ("modernbert", {"hidden_activation": "typo"}, "activation 'typo'"),
        ("modernbert", {"local_attention": -4}, "local_attention"),
        ("jina_v3", {"lora_alpha": "x"}, "lora_alpha"),
    ],
)
def test_what_a_family_has_no_form_for(folder: Folders, name: str, fields: dict[str, Any], message: str) -> None:
    """Refused by name, never guessed."""
    model, source = folder(name)
    (source / "config.json").write_text(json.dumps({**model.config, **fields}))
    with pytest.raises(ExportError, match=message):
        read_family(read_checkpoint(source, task=model.options.get("task")))


@pytest.mark.parametrize("name", MODELS)
def test_odd_shapes_are_named(folder: Folders, name: str) -> None:
    """Every tensor in turn with a dimension too many, or none of its numbers: an error of ours, whichever it is."""
    model, source = folder(name)
    checkpoint = read_checkpoint(source, task=model.options.get("task"))
    for key, array in model.tensors.items():
        for odd in (array[None], array[:0]):
            broken = dataclasses.replace(checkpoint, tensors={**model.tensors, key: odd})
            with pytest.raises(ExportError):
                read_family(broken)


def test_list_names_every_family() -> None:
    """`edge-embed export --list` needs no folder; it names each family with its types and checkpoints."""
    result = CliRunner().invoke(main, ["export", "--list"])
    assert result.exit_code == 0, result.output
    for family in EVERY:
        assert family.title in result.output
        assert all(kind in result.output for kind in family.types)
    listed = json.loads(CliRunner().invoke(main, ["export", "--list", "--json"]).output)["families"]
    others = ["SPLADE, ColBERT", "cross-encoders", "ELMo", "static", "any other"]
    pictures = [row["family"] for row in vision.ROWS]
    assert [row["family"] for row in listed] == [*(family.title for family in EVERY), *pictures, *others]
    assert any("bge-m3" in row["checkpoints"] for row in listed)
    missing = CliRunner().invoke(main, ["export"])
    assert missing.exit_code == 2
    assert "SOURCE" in missing.output


def test_code_in_the_folder_is_never_run(folder: Folders, tmp_path: Path) -> None:
    """A folder with code of its own exports by its weights alone; of an unknown one the message says so."""
    model, source = folder("gte")
    trap = tmp_path / "trap"
    (source / "modeling.py").write_text(f"open({str(trap)!r}, 'w')")
    remote = {"auto_map": {"AutoModel": "modeling.NewModel"}}
    (source / "config.json").write_text(json.dumps({**model.config, **remote}))
    export_model(source, tmp_path / "b", precision="fp32")
    (source / "config.json").write_text(json.dumps({**model.config, **remote, "model_type": "mystery"}))
    with pytest.raises(ExportError, match=r"'mystery'.*code in the folder is never run.*--general"):
        export_model(source, tmp_path / "c")
    assert not trap.exists()


def test_source_error_is_no_crash(tmp_path: Path) -> None:
    """A folder without anything."""
    with pytest.raises(SourceError, match=r"config\.json is missing"):
        read_checkpoint(tmp_path)


def test_float_model_beyond_protobuf(folder: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the float model is too large for a file, int8 is made from it all the same: the same bytes, and receipt."""
    _, source = folder("xlm_roberta")
    plain = export_model(source, tmp_path / "plain", name="x")
    size = (tmp_path / "plain" / "model.onnx").stat().st_size
    monkeypatch.setattr(graph, "APART_BYTES", 1000)
    monkeypatch.setattr(graph, "LARGEST", size)
    made = export_model(source, tmp_path / "large", name="x")
    assert (tmp_path / "large" / "model.onnx").read_bytes() == (tmp_path / "plain" / "model.onnx").read_bytes()
    assert made.receipt["cosine_to_fp32"] == plain.receipt["cosine_to_fp32"]
    whole = export_model(source, tmp_path / "fp32", precision="fp32")
    assert whole.files["model.weights"].size > size
