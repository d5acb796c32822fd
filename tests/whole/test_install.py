"""The lean install: data/lean.txt and our wheel in a fresh environment, its size, and what runs there."""

import json
import os
import subprocess
import sys
import tarfile
from importlib.resources import files
from pathlib import Path

import pytest
from builders.installs import environment, installed_bytes, pip, run

from edge_embed_runtime.errors import MissingExtraError
from edge_embed_runtime.index.index import Index
from edge_embed_runtime.search.hnswfile import graph_path

LEAN = Path(str(files("edge_embed") / "data" / "lean.txt"))
MOST_BYTES = 152_000_000
# Every module of a distribution that the lean install leaves out, which nothing may have imported.
LEFT_OUT = ("usearch", "numkong", "huggingface_hub", "google.protobuf", "flatbuffers", "packaging", "tqdm", "httpx")


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python of an environment with the lean install."""
    return environment(tmp_path_factory.mktemp("lean"), LEAN)


def test_lean_install_runs(python: Path, tmp_path: Path) -> None:
    """Everything of a device works with five packages: demo, add, search, verify, a reader; the size is kept."""
    (tmp_path / "a.txt").write_text("The ferry to the island leaves at nine.")
    assert json.loads(run(python, tmp_path, "demo", "--json"))["documents"] == 154
    run(python, tmp_path, "add", "notes.db", "a.txt")
    for mode in ("vector", "text", "hybrid"):
        assert "a.txt" in run(python, tmp_path, "search", "notes.db", "ferry", "--mode", mode)
    assert "whole" in run(python, tmp_path, "verify", "notes.db")
    assert "scanned faster" in run(python, tmp_path, "rebuild", "notes.db")
    assert installed_bytes(python, compiled=False) <= MOST_BYTES


def test_lean_install_says_what_a_graph_needs(python: Path, tmp_path: Path) -> None:
    """One line with the package to install; the index is whole."""
    (tmp_path / "a.txt").write_text("The ferry to the island leaves at nine.")
    run(python, tmp_path, "add", "notes.db", "a.txt")
    done = subprocess.run(
        [python, "-m", "edge_embed", "rebuild", "notes.db", "--graph", "always"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("edge-embed: a graph needs the package usearch")
    assert done.stderr.endswith("pip install usearch\n")
    assert "whole" in run(python, tmp_path, "verify", "notes.db")


def test_a_wheelhouse_of_an_installation(python: Path, tmp_path: Path) -> None:
    """The wheel put together from installed files is what was installed, and runs in another environment."""
    made = (
        "from importlib.metadata import distribution; from pathlib import Path; "
        "from edge_embed.wheelhouse.ownwheel import repack; "
        "print(repack(distribution('edge-embed'), Path('.')))"
    )
    wheel = subprocess.check_output([python, "-c", made], cwd=tmp_path, text=True).strip()
    target = tmp_path / "target"
    pip(python, "install", "--no-index", "--no-deps", "--target", str(target), str(tmp_path / wheel))
    where = "import edge_embed; print(edge_embed.__file__)"
    there = {**os.environ, "PYTHONPATH": str(target)}
    found = subprocess.check_output([python, "-c", where], cwd=tmp_path, env=there, text=True)
    assert Path(found.strip()).is_relative_to(target)
    done = subprocess.run(
        [python, "-m", "edge_embed", "demo"], cwd=tmp_path, env=there, check=False,
        capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


def test_wheel_and_sdist_have_the_page(python: Path, tmp_path: Path) -> None:
    """Every file of it, where the package looks for it."""
    checkout = Path(__file__).parents[2]
    expected = {path.name for path in (checkout / "edge_embed" / "service" / "page").iterdir()}
    assert len(expected) > 10
    where = "from importlib.resources import files; "
    where += "print(*(path.name for path in (files('edge_embed') / 'service' / 'page').iterdir()))"
    assert set(subprocess.check_output([python, "-I", "-c", where], text=True).split()) == expected
    pip(python, "install", "--target", str(tmp_path / "hatchling"), "hatchling")
    builder = {**os.environ, "PYTHONPATH": str(tmp_path / "hatchling")}
    command = [python, "-m", "hatchling", "build", "--target", "sdist", "--directory", str(tmp_path)]
    subprocess.run(command, cwd=checkout, env=builder, check=True, capture_output=True)
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as packed:
        names = [Path(name) for name in packed.getnames()]
    assert {name.name for name in names if name.parts[1:-1] == ("edge_embed", "service", "page")} == expected


def test_nothing_of_what_lean_leaves_out_is_imported(tmp_path: Path) -> None:
    """demo, add, search and verify in this environment, which may have it all."""
    program = f"""
import sys
from click.testing import CliRunner
from edge_embed.cli.main import main
open("a.txt", "w").write("The ferry leaves at nine.")
commands = "demo|add n.db a.txt|search n.db boat|search n.db ferry --mode text|verify n.db|rebuild n.db"
for line in commands.split("|"):
    result = CliRunner().invoke(main, line.split())
    assert result.exit_code == 0, result.output
print([name for name in {LEFT_OUT!r} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_a_graph_without_usearch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """rebuild says what to install; an index that has a graph is searched without it, and says why."""
    from edge_embed import Document

    rows = [Document(key=f"d{i}", text=f"text {i}") for i in range(50)]
    vectors = [[float(i % 7), float(i % 5), 1.0] for i in range(50)]
    with Index.create(tmp_path / "i.db", space="s", dim=3) as index:
        index.add_vectors(rows, vectors)
        assert index.rebuild("always").verdict is not None
        before = [hit.key for hit in index.search(vector=[1.0, 2.0, 0.5], k=5)]
    monkeypatch.setitem(sys.modules, "usearch", None)
    monkeypatch.setitem(sys.modules, "usearch.index", None)
    with Index.open(tmp_path / "i.db") as index:
        assert [hit.key for hit in index.search(vector=[1.0, 2.0, 0.5], k=5)] == before
        assert "pip install usearch" in index.stats()["graph"]["state"]
        with pytest.raises(MissingExtraError, match="pip install usearch"):
            index.rebuild("always")
        monkeypatch.setattr("edge_embed_runtime.maintenance.rebuild.GRAPH_CODES", 10)
        assert "pip install usearch" in index.rebuild("auto").graph
        assert not graph_path(tmp_path / "i.db").exists()
        assert [hit.key for hit in index.search(vector=[1.0, 2.0, 0.5], k=5)] == before
