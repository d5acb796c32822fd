"""The plugin of `llm`, in the real program."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("llm")
import click
from builders.docpages import run_whole_page
from click.testing import CliRunner, Result

from edge_embed import Embedder, InputError, MediaError, TruncationWarning
from edge_embed.integrations.llm import EdgeEmbeddingModel, register_commands, register_embedding_models

pytestmark = pytest.mark.frameworks
ROOT = Path(__file__).resolve().parents[3]
NOTES = {"ferry": "The ferry to the island leaves at nine.", "cat": "A cat sleeps on the sofa.", "sum": "2 + 2 = 4"}


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that says of edge-embed what its installation does: the entry points of pyproject.toml."""
    folder = tmp_path_factory.mktemp("installed")
    points = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["entry-points"]["llm"]
    said = folder / "edge_embed-0.dist-info"
    said.mkdir()
    (said / "METADATA").write_text("Metadata-Version: 2.1\nName: edge-embed\nVersion: 0\n")
    (said / "entry_points.txt").write_text("[llm]\n" + "".join(f"{name} = {place}\n" for name, place in points.items()))
    return folder


class Program:
    """`llm` with a folder of its own."""

    def __init__(self, plugin: Path, folder: Path) -> None:
        path = os.pathsep.join([str(plugin), os.environ.get("PYTHONPATH", "")])
        self.environment = {**os.environ, "PYTHONPATH": path, "LLM_USER_PATH": str(folder)}
        self.environment.pop("LLM_LOAD_PLUGINS", None)

    def __call__(self, *arguments: object, stdin: str | bytes = "", status: int = 0) -> str:
        given = stdin if isinstance(stdin, bytes) else stdin.encode()
        command = [sys.executable, "-m", "llm", *map(str, arguments)]
        done = subprocess.run(command, input=given, capture_output=True, check=False, env=self.environment)
        assert done.returncode == status, done.stderr.decode()
        return (done.stderr if status else done.stdout).decode()


@pytest.fixture
def program(plugin: Path, tmp_path: Path) -> Program:
    return Program(plugin, tmp_path / "llm")


@pytest.fixture
def user_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LLM_USER_PATH", str(tmp_path / "llm"))
    return tmp_path / "llm"


def test_embed_store_and_find(program: Program, tmp_path: Path) -> None:
    """A collection is embedded once, and found by meaning; what is stored are our vectors."""
    rows = "".join(json.dumps({"id": key, "text": text}) + "\n" for key, text in NOTES.items())
    (tmp_path / "rows.jsonl").write_text(rows)
    program("embed-multi", "notes", tmp_path / "rows.jsonl", "--format", "nl", "-m", "edge-embed/static", "--store")
    program("embed", "notes", "dog", "-c", "A dog barks.")
    found = program("similar", "notes", "-c", "when does the ship go?", "-n", "1")
    assert json.loads(found)["id"] == "ferry"
    assert json.loads(program("similar", "notes", "dog", "-n", "1"))["id"] == "cat"
    (tmp_path / "files").mkdir()
    for name, text in NOTES.items():
        (tmp_path / "files" / f"{name}.txt").write_text(text)
    program("embed-multi", "files", "--files", tmp_path / "files", "*.txt", "-m", "edge-embed")
    assert json.loads(program("similar", "files", "-c", "an animal", "-n", "1"))["id"] == "cat.txt"
    stored = sqlite3.connect(tmp_path / "llm" / "embeddings.db").execute(
        "SELECT embedding FROM embeddings e JOIN collections c ON c.id = collection_id "
        "WHERE name = 'notes' AND e.id = 'cat'"
    )
    expected = Embedder("static", threads=1).encode([NOTES["cat"]])[0]
    assert np.array_equal(np.frombuffer(stored.fetchone()[0], "<f4"), expected)


def test_page(program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands of docs/llm.md run as they stand there."""
    for name in ("PYTHONPATH", "LLM_USER_PATH"):
        monkeypatch.setenv(name, program.environment[name])
    (printed,) = run_whole_page("llm.md", tmp_path, monkeypatch)
    found = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
    assert [one["id"] for one in found] == ["ferry.md", "cat.md"]


def test_bundles_of_the_user(program: Program, tmp_path: Path, colours: Path) -> None:
    """A bundle gets a name, and one with a tower for pictures takes their files; a damaged list of names is said."""
    assert "edge-embed/colours" in program("edge-embed", "register", "colours", colours)
    said = program("embed-models")
    assert [f"edge-embed{name}" in said for name in ("\n", "/static\n", "/colours\n")] == [True] * 3
    (tmp_path / "red.png").write_bytes(_png())
    vector = json.loads(program("embed", "-m", "edge-embed/colours", "--binary", "-i", tmp_path / "red.png"))
    expected = Embedder(colours, threads=1).encode_image([_png()])[0]
    assert np.array_equal(np.array(vector, np.float32), expected)
    (tmp_path / "no.png").write_bytes(b"no picture")
    said = program("embed", "-m", "edge-embed/colours", "--binary", "-i", tmp_path / "no.png", status=1)
    assert said.startswith("Error: ")
    assert said.count("\n") == 1
    (tmp_path / "llm" / "edge-embed.json").write_text("[")
    assert "repair it, or delete it" in program("embed-models", status=1)
    program("plugins")  # all else goes on


def test_names_of_bundles(user_folder: Path, tmp_path: Path, tiny_bundle: Path) -> None:
    """What is no bundle, or has no usable name, is refused, and what was registered stays."""
    user_folder.mkdir()
    group = click.Group()
    register_commands(group)

    def run(*arguments: object) -> Result:
        return CliRunner().invoke(group, ["edge-embed", *map(str, arguments)])

    assert run("register", "tiny", tiny_bundle).exit_code == 0
    for name, folder in (("static", tiny_bundle), (" ", tiny_bundle), ("a\nb", tiny_bundle), ("x", tmp_path)):
        wrong = run("register", name, folder)
        assert (wrong.exit_code, wrong.output[:7]) == (1, "Error: ")
    named: list[tuple[str, str]] = []
    register_embedding_models(lambda model: named.append((model.model_id, model.bundle)))
    expected = [("edge-embed", "minilm"), ("edge-embed/static", "static"), ("edge-embed/tiny", str(tiny_bundle))]
    assert named == expected
    assert run("register", "tiny", tiny_bundle).exit_code == 0
    another = shutil.copytree(tiny_bundle, tmp_path / "another")
    assert "is " + str(tiny_bundle) + " already" in run("register", "tiny", another).output
    assert run("forget", "tiny").exit_code == 0
    assert run("register", "tiny", another).exit_code == 0
    assert run("forget", "tiny").exit_code == 0
    assert "no bundle" in run("forget", "tiny").output


def test_in_python(colours: Path) -> None:
    """Batches, mixed items in their order, long texts, and errors that are ours."""
    model = EdgeEmbeddingModel("edge-embed/static", "static")
    texts = [f"text {n}" for n in range(600)]
    got = np.array(list(model.embed_multi(texts)), np.float32)
    assert np.array_equal(got, Embedder("static", threads=1).encode(texts))
    assert list(model.embed_multi([])) == []
    with pytest.warns(TruncationWarning):
        list(EdgeEmbeddingModel("x", "minilm").embed_multi(["word " * 5000]))
    with pytest.raises(ValueError, match="binary"):
        model.embed(b"bytes")
    with pytest.raises(InputError, match="lone surrogate"):
        model.embed("\ud800")
    mixed = EdgeEmbeddingModel("colours", str(colours))
    picture = _png()
    vectors = list(mixed.embed_multi(["red", picture, "blue", picture]))
    assert vectors[1] == vectors[3] == mixed.embed(picture)
    assert vectors[0] == mixed.embed("red")
    with pytest.raises(MediaError):
        mixed.embed(b"no picture")


def _png() -> bytes:
    import io

    from PIL import Image

    content = io.BytesIO()
    Image.new("RGB", (16, 16), "red").save(content, "png")
    return content.getvalue()


def test_llm_starts_without_our_models(program: Program) -> None:
    """What `llm` loads when it starts is this plugin and errors, no numpy and no runtime for our sake."""
    code = (
        "import sys, llm.cli, json; before = set(sys.modules); import edge_embed.integrations.llm as plugin; "
        "plugin.register_embedding_models(lambda model: None); print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        env={**program.environment, "LLM_LOAD_PLUGINS": ""},
    )  # fmt: skip
    loaded = set(json.loads(done.stdout))
    assert "edge_embed.integrations.llm" in loaded
    ours = {"edge_embed", "edge_embed_runtime"}
    assert {name.partition(".")[0] for name in loaded} == ours
    assert len(loaded) <= 8, loaded
