"""export/prompts.py and what else a folder says about texts: roles, model cards, end tokens, modules."""

import json
from pathlib import Path
from typing import Any

import pytest
from builders.bert import Checkpoints
from builders.checkpoints import read_checkpoint
from click.testing import CliRunner

from edge_embed import Embedder
from edge_embed.cli.main import main
from edge_embed.errors import ExportError, InputError
from edge_embed_export import export_model
from edge_embed_export.modules.folder import Folder
from edge_embed_export.sources.prompts import read_prompts, with_roles

pytestmark = pytest.mark.usefixtures("short_receipt")


def change(path: Path, **fields: Any) -> None:
    path.write_text(json.dumps({**(json.loads(path.read_text()) if path.exists() else {}), **fields}))


@pytest.mark.parametrize(
    ("own", "query", "document"),
    [
        ({"query": "q: ", "document": "d: "}, "q: ", "d: "),
        ({"query": "q: ", "passage": "p: "}, "q: ", "p: "),
        (
            {"search_query": "search: ", "search_document": "stored: "},
            "search: ",
            "stored: ",
        ),
        ({"retrieval.query": "a", "retrieval.passage": "b", "text-matching": "c"}, "a", "b"),
        ({"query": "q: ", "search_query": "other: "}, "q: ", None),
        ({"classification": "classify: "}, None, None),
    ],
)
def test_roles_have_the_models_prompts(own: dict[str, str], query: str | None, document: str | None) -> None:
    """The model's own names stay; ours are added where the model has the side of a search under another name."""
    found = with_roles(own)
    assert {role: text for role, text in found.items() if role in own} == own
    assert (found.get("query"), found.get("document")) == (query, document)


@pytest.mark.parametrize(
    ("name", "query"),
    [
        ("intfloat/e5-small-v2", "query: "),
        ("intfloat/multilingual-e5-large", "query: "),
        ("BAAI/bge-base-en-v1.5", "Represent this sentence for searching relevant passages: "),
        ("BAAI/bge-small-zh-v1.5", "为这个句子生成表示以用于检索相关文章："),
        ("nomic-ai/nomic-embed-text-v1.5", "search_query: "),
        ("Snowflake/snowflake-arctic-embed-xs", "Represent this sentence for searching relevant passages: "),
        (
            "intfloat/multilingual-e5-large-instruct",
            "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery: ",
        ),
        ("BAAI/bge-m3", None),
        ("sentence-transformers/all-MiniLM-L6-v2", None),
    ],
)
def test_model_cards_fill_in(tmp_path: Path, name: str, query: str | None) -> None:
    """Where no file of the model has prompts, those of its card; a file that has some is believed."""
    assert read_prompts(Folder(tmp_path), ("checkpoint", name)).get("query") == query
    path = tmp_path / "config_sentence_transformers.json"
    path.write_text(json.dumps({"prompts": {"query": "", "document": ""}}))
    assert read_prompts(Folder(tmp_path), (name,))["query"] == (query or "")
    path.write_text(json.dumps({"prompts": {"query": "mine: "}}))
    assert read_prompts(Folder(tmp_path), (name,))["query"] == "mine: "


def test_manifest_holds_the_prompts(checkpoint: Checkpoints, tmp_path: Path) -> None:
    """By the command: from the named model's card, or with --prompt; the vectors are those of the whole text."""
    source = str(checkpoint())
    named = ["--source-name", "intfloat/e5-small", "--precision", "fp32", "--json"]
    run = CliRunner().invoke(main, ["export", source, str(tmp_path / "card"), *named])
    assert run.exit_code == 0, run.output
    assert json.loads(run.output)["prompts"] == {"query": "query: ", "document": "passage: "}
    given = [*named, "--prompt", "query=the river=", "--prompt", "topic=money "]
    run = CliRunner().invoke(main, ["export", source, str(tmp_path / "given"), *given])
    assert run.exit_code == 0, run.output
    embedder = Embedder(tmp_path / "given", threads=1)
    assert embedder.prompts == {"query": "the river=", "document": "passage: ", "topic": "money "}
    assert (embedder.encode(["bank"], role="topic") == embedder.encode(["money bank"])).all()
    for wrong in ("query", "=text"):
        run = CliRunner().invoke(main, ["export", source, str(tmp_path / "x"), "--prompt", wrong])
        assert (run.exit_code, "followed by =" in run.output) == (2, True)
    with pytest.raises(InputError, match="prompt of 'query'"):
        export_model(source, tmp_path / "x", prompts={"query": "\ud800"})


def test_end_token_that_transformers_adds(checkpoint: Checkpoints) -> None:
    """`add_eos_token` beside the code that obeys it: the text ends with it, once, with or without a template before.

    Without that code transformers itself passes over the setting (4.57 and 5.24).
    """
    code = {"AutoTokenizer": ["tokenization_qwen.Qwen2Tokenizer", "tokenization_qwen.Qwen2TokenizerFast"]}
    for template in ("none", "without the end", "with the end"):
        source = checkpoint(template)
        definition = json.loads((source / "tokenizer.json").read_text())
        if template == "none":
            definition["post_processor"] = None
        elif template == "without the end":
            del definition["post_processor"]["single"][-1]
        (source / "tokenizer.json").write_text(json.dumps(definition))
        change(source / "tokenizer_config.json", add_eos_token=True, eos_token={"content": "[SEP]"}, auto_map=code)
        export_model(source, source / "bundle", precision="fp32")
        start = [] if template == "none" else [2]
        assert Embedder(source / "bundle", threads=1).tokenizer.encode("the cat").tolist() == [*start, 5, 16, 3]


def test_text_without_any_token(checkpoint: Checkpoints, tmp_path: Path) -> None:
    """A tokenizer without special tokens would leave the empty text without a vector."""
    source = checkpoint()
    change(source / "tokenizer.json", post_processor=None)
    with pytest.raises(ExportError, match="adds no special token"):
        export_model(source, tmp_path / "b")


def test_max_tokens_can_be_given(checkpoint: Checkpoints, tmp_path: Path) -> None:
    """Instead of the folder's own limit, up to what the model has positions for."""
    source = checkpoint()
    for given, expected in ((None, 24), (10, 10), (33, 33), (1000, 40)):
        manifest = export_model(source, tmp_path / str(given), precision="fp32", max_tokens=given)
        assert manifest.max_tokens == expected
    with pytest.raises(InputError, match="max_tokens is 2"):
        export_model(source, tmp_path / "b", max_tokens=2)


def test_transformer_in_a_folder_of_its_own(checkpoint: Checkpoints, tmp_path: Path) -> None:
    """As old releases of sentence-transformers wrote it: 0_Transformer holds the model, its tokenizer and its limit."""
    source = checkpoint()
    plain = export_model(source, tmp_path / "plain", precision="fp32")
    inner = source / "0_Transformer"
    inner.mkdir()
    for name in ("config.json", "model.safetensors", "tokenizer.json", "sentence_bert_config.json"):
        (source / name).rename(inner / name)
    modules = json.loads((source / "modules.json").read_text())
    modules[0]["path"] = "0_Transformer"
    (source / "modules.json").write_text(json.dumps(modules))
    manifest = export_model(source, tmp_path / "b", precision="fp32")
    assert manifest.files == plain.files
    assert manifest.max_tokens == 24


def test_modules_are_in_the_folder(checkpoint: Checkpoints) -> None:
    """A path that leads out of the folder is refused."""
    source = checkpoint()
    modules = json.loads((source / "modules.json").read_text())
    modules[1]["path"] = "../1_Pooling"
    (source / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(ExportError, match="is not in the folder"):
        read_checkpoint(source)
