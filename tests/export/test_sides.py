"""Routers, default prompts, prompts that are not pooled and modules of static models, without torch."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import architectures
from builders.bert import Checkpoints, word_tokenizer
from builders.reference import REFERENCES
from click.testing import CliRunner
from safetensors.numpy import load_file, save_file

from edge_embed import Document, Embedder, Index
from edge_embed.cli.main import main
from edge_embed.errors import BundleFormatError, ExportError, InputError
from edge_embed_export import export_model
from edge_embed_export.modules.folder import Folder
from edge_embed_export.modules.routers import read_router
from edge_embed_export.sources.prompts import left_out as left_out_of
from edge_embed_runtime.bundle.bundle import read_bundle
from edge_embed_runtime.bundle.manifest import MANIFEST, Manifest
from edge_embed_runtime.inputs.prompts import left_out

pytestmark = pytest.mark.usefixtures("short_receipt")

TEXTS = ["the river bank", "", "a cat at night", "money in the bank " * 20]
KINDS = "sentence_transformers.models."


def change(path: Path, **fields: Any) -> None:
    path.write_text(json.dumps({**(json.loads(path.read_text()) if path.exists() else {}), **fields}))


def settings(folder: Path, **fields: Any) -> None:
    change(folder / "config_sentence_transformers.json", **fields)


def dense(folder: Path, seed: int, width: int = 16, **config: Any) -> None:
    folder.mkdir(parents=True)
    said = {"in_features": 32, "out_features": width, "bias": True, "activation_function": "torch.nn.Tanh", **config}
    (folder / "config.json").write_text(json.dumps(said))
    random = np.random.default_rng(seed)
    weight, bias = random.standard_normal((width, 32)), random.standard_normal(width)
    arrays = {"linear.weight": weight.astype(np.float32), "linear.bias": bias.astype(np.float32)}
    save_file(arrays, folder / "model.safetensors")


def router(folder: Path, file: str = "router_config.json", **parameters: Any) -> None:
    """Put a Router with a Dense for each side behind the pooling of a folder."""
    ways = {"query": ["query_0_Dense"], "document": ["document_0_Dense"]}
    types = {name: f"{KINDS}Dense" for names in ways.values() for name in names}
    for seed, name in enumerate(types):
        dense(folder / "2_Router" / name, seed)
    (folder / "2_Router" / file).write_text(json.dumps({"types": types, "structure": ways, "parameters": parameters}))
    listed = json.loads((folder / "modules.json").read_text())[:2]
    kind = "Router" if file == "router_config.json" else "Asym"
    listed.append({"idx": 2, "name": "2", "path": "2_Router", "type": KINDS + kind})
    (folder / "modules.json").write_text(json.dumps(listed))


def export(source: Path, target: Path, **options: Any) -> Manifest:
    return export_model(source, target, precision="fp32", overwrite=True, **options)


def pooled(folder: Path, base: Path, side: str) -> np.ndarray[Any, Any]:
    """Vectors of TEXTS: those of the plain model, through a side's Dense layer."""
    arrays = load_file(folder / "2_Router" / f"{side}_0_Dense" / "model.safetensors")
    # mean pooling by hand, because a bundle brings vectors to length 1
    embedder = Embedder(base, threads=1)
    means = np.stack([tokens.vectors.mean(axis=0) for tokens in embedder.encode_tokens(TEXTS)])
    found = np.tanh(means @ arrays["linear.weight"].T + arrays["linear.bias"])
    return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True))


# --- routers


@pytest.mark.parametrize(
    ("file", "parameters", "default"),
    [
        (
            "router_config.json",
            {"default_route": "document", "allow_empty_key": True, "route_mappings": {}},
            "document",
        ),
        ("router_config.json", {"default_route": "query"}, "query"),
        ("router_config.json", {"default_route": None, "allow_empty_key": True}, "query"),
        ("config.json", {"allow_empty_key": True}, "query"),
        ("config.json", {}, "query"),
    ],
)
def test_each_side_its_own_dense(
    checkpoint: Checkpoints, tmp_path: Path, file: str, parameters: dict[str, Any], default: str
) -> None:
    """Of Router and of Asym; a text without a role goes where the folder says; each side can be a bundle of its own."""
    source = checkpoint()
    export(source, tmp_path / "plain")
    router(source, file, **parameters)
    manifest = export(source, tmp_path / "b")
    expected = {side: pooled(source, tmp_path / "plain", side) for side in ("query", "document")}
    embedder = Embedder(tmp_path / "b", threads=1)
    for side, vectors in expected.items():
        assert np.abs(embedder.encode(TEXTS, role=side) - vectors).max() < 1e-5
        export(source, tmp_path / side, side=side)
        alone = Embedder(tmp_path / side, threads=1).encode(TEXTS, role=side)
        assert np.abs(alone - vectors).max() < 1e-5
    assert np.abs(embedder.encode(TEXTS) - expected[default]).max() < 1e-5
    assert (manifest.dim, embedder.adapters) == (16, ("query", "document"))
    assert json.loads((tmp_path / "b" / MANIFEST).read_text())["schema"] == 1  # devices have adapters already
    int8 = export_model(source, tmp_path / "int8")
    assert min(figures["min"] for figures in int8.receipt["adapters"].values()) > 0.98
    one = Embedder(tmp_path / "int8", threads=1)
    alone = np.vstack([one.encode([text], role="document") for text in TEXTS])
    assert np.array_equal(alone, one.encode(TEXTS, role="document"))


def test_sides_of_other_shapes(checkpoint: Checkpoints, tmp_path: Path) -> None:
    """One bundle cannot hold them: refused with what to do, and what to do works."""
    source = checkpoint()
    router(source)
    other = source / "2_Router" / "query_0_Dense"
    for file in other.iterdir():
        file.unlink()
    other.rmdir()
    dense(other, 5, activation_function="torch.nn.ReLU")
    with pytest.raises(ExportError, match=r"other shapes or activation functions.*--side query"):
        export(source, tmp_path / "b")
    assert export(source, tmp_path / "b", side="query").side == "query"


def test_routes_are_found_as_the_library_does(tmp_path: Path) -> None:
    """By task and kind of input, by task, by kind of input, by name; what is not known is refused by its name."""
    module = tmp_path / "r"
    module.mkdir()

    def written(ways: dict[str, list[str]], **parameters: Any) -> Any:
        types = {name: f"{KINDS}Dense" for names in ways.values() for name in names}
        content = {"types": types, "structure": ways, "parameters": parameters}
        (module / "router_config.json").write_text(json.dumps(content))
        found = read_router(tmp_path, "r")
        return [Path(entries[0]["path"]).name for entries in (found.query, found.document)]

    two = {"a": ["1"], "b": ["2"]}
    mapped = {"('query', 'text')": "a", "(None, 'text')": "b", "('query', None)": "b"}
    assert written(two, route_mappings=mapped) == ["1", "2"]
    assert written({"query": ["1"], "doc": ["2"]}) == ["1", "2"]
    assert written({"text": ["1"], "image": ["2"]}) == ["1", "1"]
    assert written({"any": ["1"]}) == ["1", "1"]
    refused = [
        ((two, {}), r"structure has the routes \['a', 'b'\], and none for 'query'"),
        ((two, {"route_mappings": {"nonsense(": "a"}}), "not a Router's"),
        ((two, {"route_mappings": mapped, "gate": 1}), "the parameter 'gate' of a Router is not known"),
        ((two, {"route_mappings": mapped, "default_route": "c"}), "default_route is 'c'"),
        (({"query": ["../../x"], "document": ["2"]}, {}), "is not in the folder"),
    ]
    for (ways, parameters), said in refused:
        with pytest.raises(ExportError, match=said):
            written(ways, **parameters)


def test_a_side_is_for_its_role_alone(checkpoint: Checkpoints, tmp_path: Path) -> None:
    """Texts of the other role are refused, also by an index; a model without sides has no use for one."""
    source = checkpoint()
    with pytest.raises(InputError, match="there is no use for a side"):
        export(source, tmp_path / "b", side="query")
    router(source)
    run = CliRunner().invoke(main, ["export", str(source), str(tmp_path / "d"), "--side", "document", "--json"])
    assert run.exit_code == 0, run.output
    assert json.loads(run.stdout)["schema"] == 2
    embedder = Embedder(tmp_path / "d", threads=1)
    with pytest.raises(InputError, match=r"is for the role 'document': texts of the role 'query' need"):
        embedder.encode_query(["a"])
    export(source, tmp_path / "q", side="query")
    query = Embedder(tmp_path / "q", threads=1).encode_query(["the river"])[0]
    with Index.open(tmp_path / "x.db", embedder) as index:
        index.add([Document("1", "the river bank"), Document("2", "a cat")])
        with pytest.raises(InputError, match="need the bundle of the other side"):
            index.search("the river")
        assert len(index.search(vector=query, k=2)) == 2


# --- default prompts


def test_default_prompt(checkpoint: Checkpoints, tmp_path: Path) -> None:
    """It is put before texts without a role, and of roles that the folder does not name; none of it in the golden
    vectors; an older device refuses such a bundle."""
    source = checkpoint()
    plain = export(source, tmp_path / "plain")
    settings(source, prompts={"retrieval": "money to "}, default_prompt_name="retrieval")
    manifest = export(source, tmp_path / "b")
    assert (manifest.default_role, manifest.golden) == ("retrieval", plain.golden)
    assert "stands for query and document" in manifest.provenance["notes"]
    embedder, bare = Embedder(tmp_path / "b", threads=1), Embedder(tmp_path / "plain", threads=1)
    expected = bare.encode(["money to " + text for text in TEXTS])
    for role in (None, "query", "document", "retrieval"):
        assert np.array_equal(embedder.encode(TEXTS, role=role), expected)
    assert np.array_equal(embedder.encode(TEXTS, prompt=""), bare.encode(TEXTS))
    tokens = embedder.encode_tokens(["a cat"])[0]
    assert np.array_equal(tokens.vectors, bare.encode_tokens(["a cat"], prompt="money to ")[0].vectors)
    assert json.loads((tmp_path / "b" / MANIFEST).read_text())["schema"] == 2
    assert manifest.fingerprint != replace(manifest, default_role="").fingerprint
    settings(source, prompts={"retrieval": "money to ", "query": "", "document": "a "})
    assert export(source, tmp_path / "b").prompts == {"retrieval": "money to ", "document": "a "}
    embedder = Embedder(tmp_path / "b", threads=1)
    assert np.array_equal(embedder.encode(TEXTS, role="query"), bare.encode(TEXTS))
    assert np.array_equal(embedder.encode(TEXTS), expected)


def test_default_prompt_that_is_none(checkpoint: Checkpoints, tmp_path: Path) -> None:
    """A name without a prompt is refused, as the library does; an empty one is none; unknown keys are refused."""
    source = checkpoint()
    settings(source, prompts={"query": ""}, default_prompt_name="query")
    assert export(source, tmp_path / "b").default_role == ""
    for name in ("other", 3):
        settings(source, default_prompt_name=name)
        with pytest.raises(ExportError, match=r"default_prompt_name is .*none of its prompts"):
            export(source, tmp_path / "b")
    settings(source, default_prompt_name=None, query_instruction="q")
    with pytest.raises(ExportError, match="'query_instruction'"):
        export(source, tmp_path / "b")


def test_manifests_of_the_second_schema(checkpoint: Checkpoints, tmp_path: Path) -> None:
    """What they say is checked, also that the model can do it."""
    source = checkpoint()
    settings(source, prompts={"query": "money to "}, default_prompt_name="query")
    export(source, tmp_path / "b")
    manifest = read_bundle(tmp_path / "b").manifest
    path = tmp_path / "b" / MANIFEST
    wrong = [
        ({"default_role": "x"}, "default_role is 'x'"),
        ({"left_out": "x"}, "left_out is 'x'"),
        ({"side": "x"}, "side is 'x'"),
        ({"left_out": "prompt"}, "the model cannot do"),
    ]
    for fields, said in wrong:
        path.write_bytes(replace(manifest, **fields).to_json())
        with pytest.raises(BundleFormatError, match=said):
            Embedder(tmp_path / "b")
    path.write_text(json.dumps({**json.loads(manifest.to_json()), "schema": 99}))
    with pytest.raises(BundleFormatError, match="schema version 99"):
        Embedder(tmp_path / "b")


# --- prompts that are not pooled


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_prompt_is_not_pooled(checkpoint: Checkpoints, tmp_path: Path, precision: str) -> None:
    """The mean of what stands behind the prompt, its end token included; a text has one vector in any batch."""
    source = checkpoint()
    settings(source, prompts={"query": "money to the "})
    change(source / "1_Pooling" / "config.json", include_prompt=False)
    manifest = export_model(source, tmp_path / "b", precision=precision)
    assert manifest.left_out == "prompt"
    embedder = Embedder(tmp_path / "b", threads=1)
    tokens = embedder.encode_tokens(TEXTS, role="query")
    expected = np.stack([row.vectors[1 + 3 :].mean(axis=0) for row in tokens])
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    found = embedder.encode(TEXTS, role="query")
    assert np.abs(found - expected).max() < 1e-5
    assert np.array_equal(found, np.vstack([embedder.encode([text], role="query") for text in TEXTS]))
    assert np.array_equal(found, Embedder(tmp_path / "b", threads=3).encode(TEXTS[::-1], role="query")[::-1])
    plain = embedder.encode(TEXTS)
    means = np.stack([row.vectors.mean(axis=0) for row in embedder.encode_tokens(TEXTS)])
    assert np.abs(plain - means / np.linalg.norm(means, axis=1, keepdims=True)).max() < 1e-5


def test_late_chunking_without_the_prompt(checkpoint: Checkpoints, tmp_path: Path) -> None:
    """Passages are cut out of what stands behind the prompt, of which their own vectors are made as well."""
    source = checkpoint()
    settings(source, prompts={"document": "money to the "})
    change(source / "1_Pooling" / "config.json", include_prompt=False)
    export(source, tmp_path / "b")
    with Index.open(tmp_path / "x.db", Embedder(tmp_path / "b", threads=1), late_chunking=True) as index:
        index.add([Document("1", "the river bank at night. " * 12)])
        assert index.search("the river", k=1)


def test_nothing_left_of_a_text(checkpoint: Checkpoints, tmp_path: Path) -> None:
    """Without an end token a prompt can be all that an empty text has: then all of it is pooled, and nothing is NaN."""
    source = checkpoint()
    definition = word_tokenizer()
    definition["post_processor"]["single"] = definition["post_processor"]["single"][:2]
    (source / "tokenizer.json").write_text(json.dumps(definition))
    settings(source, prompts={"query": "money to the "})
    change(source / "1_Pooling" / "config.json", include_prompt=False)
    export(source, tmp_path / "b")
    embedder = Embedder(tmp_path / "b", threads=1)
    found = embedder.encode(["", "cat"], role="query")
    (whole, cat) = embedder.encode_tokens(["", "cat"], role="query")
    for vector, rows in zip(found, (whole.vectors, cat.vectors[4:]), strict=True):
        mean = rows.mean(axis=0)
        assert np.abs(vector - mean / np.linalg.norm(mean)).max() < 1e-5
    assert np.array_equal(found[:1], embedder.encode([""], role="query"))


def test_first_token_behind_a_prompt_is_refused(checkpoint: Checkpoints, tmp_path: Path) -> None:
    """Releases of the library disagree about it."""
    source = checkpoint(pooling="cls_token")
    change(source / "1_Pooling" / "config.json", include_prompt=False)
    with pytest.raises(ExportError, match="include_prompt false and takes the first token"):
        export(source, tmp_path / "b")
    change(source / "1_Pooling" / "config.json", include_prompt="no")
    with pytest.raises(ExportError, match="include_prompt is 'no'"):
        export(source, tmp_path / "b")


@pytest.mark.parametrize("name", ["gritlm", "nvembed"])
def test_models_by_their_own_code(tmp_path: Path, name: str) -> None:
    """GritLM leaves out its instruction and what stands before it; NV-Embed as many tokens as its instruction has."""
    model = architectures.MODELS[name]()
    source = architectures.write(model, tmp_path / name)
    export(source, tmp_path / "b")
    embedder = Embedder(tmp_path / "b", threads=1)
    prompt = "money to the "
    for text in ["the river bank", "a cat at night and the dog in the house", ""]:
        ids = embedder.tokenizer.encode(prompt + text)
        out = {"gritlm": 1 + 3, "nvembed": 3}[name]
        mean = REFERENCES[name](model, list(ids))[out:].mean(axis=0)
        found = embedder.encode([text], prompt=prompt)[0]
        assert np.abs(found - mean / np.linalg.norm(mean)).max() < 1e-5
    assert export(source, tmp_path / "named", source_name=f"x/{name}").left_out == embedder.manifest.left_out


def test_end_token_of_nvembed(tmp_path: Path) -> None:
    """Its code puts it behind every text, though tokenizer_config.json says otherwise."""
    source = architectures.write(architectures.MODELS["nvembed"](), tmp_path / "nv")
    definition = word_tokenizer()
    definition["post_processor"]["single"] = definition["post_processor"]["single"][:2]
    (source / "tokenizer.json").write_text(json.dumps(definition))
    (source / "tokenizer_config.json").write_text(json.dumps({"eos_token": "[SEP]", "add_eos_token": False}))
    export(source, tmp_path / "b")
    assert Embedder(tmp_path / "b").tokenizer.encode("a").tolist()[-1] == 3


def test_instructor_is_known_by_its_name(checkpoint: Checkpoints, tmp_path: Path) -> None:
    """sentence-transformers leaves its instructions out of the pooling, whatever the folder says."""
    source = checkpoint()
    assert left_out_of(Folder(source), {}, ("hkunlp/instructor-large",)) == "prompt"
    assert left_out_of(Folder(source), {}, ("me/instructor-large-tuned", "instructor")) == ""
    manifest = export(source, tmp_path / "b", source_name="hkunlp/instructor-base")
    assert manifest.left_out == "prompt"
    assert "instruction put before queries" in manifest.provenance["notes"]
    assert Embedder(tmp_path / "b").left_out("money to ") == 3


def test_tokens_of_a_prompt(embedder: Embedder) -> None:
    """[CLS] and the prompt's own; none where there is no prompt."""
    tokenizer = embedder.tokenizer
    assert [left_out(tokenizer, "query: ", how) for how in ("prompt", "instruction", "")] == [3, 2, 0]
    assert left_out(tokenizer, "", "prompt") == 0


# --- instructions of cards


@pytest.mark.parametrize(
    ("name", "query", "note"),
    [
        ("intfloat/multilingual-e5-large-instruct", "Instruct: Given a web search query", "instruction of the model's"),
        ("intfloat/e5-mistral-7b-instruct", "Instruct: Given a web search query", "instruction of the model's card"),
        ("nvidia/NV-Embed-v2", "Instruct: Given a question", "instruction of the model's card"),
        ("GritLM/GritLM-7B", "<|embed|>\n", "has an instruction put before queries"),
        ("nomic-ai/modernbert-embed-base", "search_query: ", None),
    ],
)
def test_instructions_of_cards(
    checkpoint: Checkpoints, tmp_path: Path, name: str, query: str, note: str | None
) -> None:
    """Queries have them, and a note says that there are others."""
    source = checkpoint(max_position_embeddings=130)
    change(source / "sentence_bert_config.json", max_seq_length=120)
    manifest = export(source, tmp_path / "b", source_name=name)
    assert manifest.prompts["query"].startswith(query)
    assert (note or "") in manifest.provenance.get("notes", "")
    assert (note is None) == ("notes" not in manifest.provenance)
    given = export(source, tmp_path / "b", source_name=name, prompts={"query": "mine: "})
    assert given.prompts["query"] == "mine: "
    settings(source, prompts={"web_search_query": "look: "})
    assert export(source, tmp_path / "b", source_name=name).prompts["query"] == "look: "


# --- static models


@pytest.fixture
def static(tmp_path: Path) -> Callable[..., Path]:
    """Writes a StaticEmbedding folder: static(("Dense", {...}), ("Normalize", {}))."""

    def write(*behind: tuple[str, dict[str, Any]]) -> Path:
        folder = tmp_path / "static"
        folder.mkdir()
        rows = np.random.default_rng(3).standard_normal((25, 32)).astype(np.float32)
        save_file({"embedding.weight": rows}, folder / "model.safetensors")
        (folder / "tokenizer.json").write_text(json.dumps(word_tokenizer()))
        names = ["sentence_transformers.sentence_transformer.modules.static_embedding.StaticEmbedding"]
        for i, (kind, config) in enumerate(behind, start=1):
            if kind == "Dense":
                dense(folder / f"{i}_{kind}", i, **config)
            names.append(KINDS + kind)
        listed = [
            {"idx": i, "name": str(i), "path": f"{i}_{name.rsplit('.', 1)[-1]}" if i else "", "type": name}
            for i, name in enumerate(names)
        ]
        (folder / "modules.json").write_text(json.dumps(listed))
        return folder

    return write


LINEAR = {"activation_function": "torch.nn.modules.linear.Identity"}


def test_linear_modules_behind_a_table(static: Callable[..., Path], tmp_path: Path) -> None:
    """They are folded into its rows; the empty text has the vector of the bias."""
    source = static(("Dense", LINEAR), ("Normalize", {}))
    assert export(source, tmp_path / "b").dim == 16
    arrays = load_file(source / "1_Dense" / "model.safetensors")
    rows = load_file(source / "model.safetensors")["embedding.weight"]
    embedder = Embedder(tmp_path / "b")
    for text in ["the cat", "", "zzz money " * 900]:
        ids = embedder.tokenizer.encode(text)
        mean = rows[ids].mean(axis=0) if len(ids) else np.zeros(32)
        expected = mean @ arrays["linear.weight"].T + arrays["linear.bias"]
        assert np.abs(embedder.encode([text])[0] - expected / np.linalg.norm(expected)).max() < 1e-5


@pytest.mark.parametrize(
    ("behind", "said"),
    [
        ((("Dense", {}),), "1_Dense has the activation function torch.nn.Tanh"),
        ((("Normalize", {}), ("Dense", LINEAR)), "2_Dense adds a bias to vectors of length 1"),
        ((("LayerNorm", {}),), "1_LayerNorm is a module 'LayerNorm'"),
        ((("Dense", {**LINEAR, "module_input_name": "token_embeddings"}),), "reads 'token_embeddings'"),
        ((("Dense", {**LINEAR, "gate": 1}),), "the key 'gate'"),
    ],
)
def test_other_modules_behind_a_table(
    static: Callable[..., Path], tmp_path: Path, behind: tuple[tuple[str, dict[str, Any]], ...], said: str
) -> None:
    """Are refused by the name of their folder."""
    with pytest.raises(ExportError, match=said):
        export(static(*behind), tmp_path / "b")


def test_static_prompts(static: Callable[..., Path], tmp_path: Path) -> None:
    """Its own, the default among them, and the caller's."""
    source = static()
    settings(source, prompts={"query": "money to ", "other": "the river "}, default_prompt_name="other")
    export(source, tmp_path / "b", prompts={"document": "a dog "})
    embedder = Embedder(tmp_path / "b")
    for role, prompt in {"query": "money to ", "document": "a dog ", None: "the river ", "other": "the river "}.items():
        assert np.array_equal(embedder.encode(["cat"], role=role), embedder.encode([prompt + "cat"], prompt=""))


@pytest.mark.parametrize("option", ["--kind=dense", "--max-tokens=9", "--truncate-dims=8", "--task=x", "--side=query"])
def test_options_without_effect_on_a_table(static: Callable[..., Path], tmp_path: Path, option: str) -> None:
    """Are errors of one line."""
    run = CliRunner().invoke(main, ["export", str(static()), str(tmp_path / "b"), option])
    assert run.exit_code == 1
    assert "there is no use for" in run.stderr
    assert not (tmp_path / "b").exists()


def test_floor_of_float32(static: Callable[..., Path], tmp_path: Path) -> None:
    """There is nothing to lose."""
    options = ["--precision", "fp32", "--floor", "0.5"]
    run = CliRunner().invoke(main, ["export", str(static()), str(tmp_path / "b"), *options])
    assert run.exit_code == 2
    assert "there is no use for --floor" in run.stderr


def test_model2vec_without_a_type(tmp_path: Path) -> None:
    """Older releases of model2vec wrote no model_type: the table in the file says what it is."""
    rows = np.random.default_rng(3).standard_normal((25, 8)).astype(np.float32)
    save_file({"embeddings": rows}, tmp_path / "model.safetensors")
    (tmp_path / "tokenizer.json").write_text(json.dumps(word_tokenizer()))
    (tmp_path / "config.json").write_text(json.dumps({"tokenizer_name": "x", "apply_pca": 8, "apply_zipf": True}))
    assert export(tmp_path, tmp_path / "b").architecture["kind"] == "model2vec"


def word_folder(folder: Path, **settings: Any) -> Path:
    words = ["PADDING_TOKEN", "cat", "u.s.", "the", "bank", "..."]
    (folder / "0_WordEmbeddings").mkdir(parents=True)
    (folder / "1_Pooling").mkdir()
    rows = np.random.default_rng(4).standard_normal((len(words), 6)).astype(np.float32)
    save_file({"emb_layer.weight": rows}, folder / "0_WordEmbeddings" / "model.safetensors")
    kind = "sentence_transformers.models.tokenizer.WhitespaceTokenizer.WhitespaceTokenizer"
    said = {"tokenizer_class": kind, "update_embeddings": False, "max_seq_length": 1000000}
    (folder / "0_WordEmbeddings" / "wordembedding_config.json").write_text(json.dumps(said))
    tokenizer = {"vocab": words, "stop_words": ["the"], "do_lower_case": False, **settings}
    (folder / "0_WordEmbeddings" / "whitespacetokenizer_config.json").write_text(json.dumps(tokenizer))
    pooling = {"word_embedding_dimension": 6, "pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    listed = [
        {"idx": i, "name": str(i), "path": f"{i}_{kind}", "type": KINDS + kind}
        for i, kind in enumerate(("WordEmbeddings", "Pooling"))
    ]
    (folder / "modules.json").write_text(json.dumps(listed))
    return folder


def test_words_between_white_space(tmp_path: Path) -> None:
    """As they stand, without punctuation, in lower case; stop words count for nothing; a device of before refuses."""
    source = word_folder(tmp_path / "glove")
    export(source, tmp_path / "b")
    rows = load_file(source / "0_WordEmbeddings" / "model.safetensors")["emb_layer.weight"]
    embedder = Embedder(tmp_path / "b")
    cases = {
        "the CAT, (the) dog": [1],
        "u.s. U.S. (u.s.)": [2],  # the last two are u.s without its last point, which is no word
        "... cat... bank": [5, 1, 4],
        "The bank!": [4],
    }
    for text, ids in cases.items():
        total = rows[ids].sum(axis=0)
        assert np.abs(embedder.encode([text])[0] - total / np.linalg.norm(total)).max() < 1e-6, text
    assert abs(np.linalg.norm(embedder.encode(["", "zzz"]), axis=1) - 1).max() < 1e-6
    assert json.loads((tmp_path / "b" / MANIFEST).read_text())["schema"] == 2
    with Index.open(tmp_path / "x.db", embedder) as index:
        index.add([Document("1", "a cat at the bank " * 300), Document("2", "u.s.")])
        assert "cat at the bank" in index.search("cat", k=1)[0].text


@pytest.mark.parametrize(
    ("where", "fields", "said"),
    [
        ("0_WordEmbeddings/wordembedding_config.json", {"tokenizer_class": "x.PhraseTokenizer"}, "'x.PhraseTokenizer'"),
        ("0_WordEmbeddings/whitespacetokenizer_config.json", {"vocab": ["a"]}, "has not a row for each of the 1 words"),
        ("0_WordEmbeddings/whitespacetokenizer_config.json", {"ngrams": 2}, "'ngrams'"),
        ("1_Pooling/config.json", {"pooling_mode_max_tokens": True}, "pooled by their mean"),
        ("1_Pooling/config.json", {"include_prompt": False}, "prompts included"),
    ],
)
def test_words_that_cannot_be(tmp_path: Path, where: str, fields: dict[str, Any], said: str) -> None:
    """Are refused with the file and what it says."""
    source = word_folder(tmp_path / "glove")
    change(source / where, **fields)
    with pytest.raises(ExportError, match=said):
        export(source, tmp_path / "b")
    listed = json.loads((source / "modules.json").read_text())
    listed[0]["type"] = KINDS + "BoW"
    (source / "modules.json").write_text(json.dumps(listed))
    with pytest.raises(ExportError, match="BoW"):
        export(source, tmp_path / "b")
