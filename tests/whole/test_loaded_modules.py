"""Which modules one query, and one search, load: each costs time at every start of a small program."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from edge_embed import Document, Embedder, Index
from edge_embed_runtime.native import library

HERE = Path(__file__).with_name("loaded_modules.json")
SAY = """
import json, sys
ours = sorted(name for name in sys.modules if name.startswith("edge_embed"))
others = sorted({name.partition(".")[0] for name in sys.modules} & set(sys.argv[2:]))
print(json.dumps([ours, others]))
"""
PROGRAMS = {
    "query": "from edge_embed import Embedder\nEmbedder().encode(['a text'])",
    "query in onnxruntime": "from edge_embed import Embedder\nEmbedder(engine='onnxruntime').encode(['a text'])",
    "static query": "from edge_embed import Embedder\nEmbedder('static').encode(['a text'])",
    "search": "import sys\nfrom edge_embed import Embedder, Index\n"
    "with Index.open(sys.argv[1], Embedder('static'), read_only=True) as index:\n    assert index.search('ferry')",
    "help": "from edge_embed.cli.main import main\ntry:\n    main(['--help'])\nexcept SystemExit:\n    pass",
}
# What is large, or is not in every install: a program that needs none of it must load none of it.
LARGE = ["onnxruntime", "numpy", "tokenizers", "usearch", "onnx", "torch", "transformers", "click", "packaging", "rich"]


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("index") / "notes.db"
    with Index.open(path, Embedder("static")) as made:
        made.add([Document("a", "The ferry to the island leaves at nine.")])
    return path


# Only on CPUs whose products of int8 saturate.
SATURATING = {"edge_embed_runtime.onnxfile.nodes", "edge_embed_runtime.onnxfile.uint8"}
# Only where the native library was built.
NATIVE = {"edge_embed_runtime.native.hamming"}
# Only where golden texts pass for the first time, which is then written down.
FIRST = {"edge_embed_runtime.system.writing"}


def loaded(program: str, path: Path) -> list[list[str]]:
    command = [sys.executable, "-c", PROGRAMS[program] + SAY, str(path), *LARGE]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    ours, others = json.loads(done.stdout.splitlines()[-1])
    return [[name for name in ours if name not in SATURATING | NATIVE | FIRST], others]


@pytest.mark.parametrize("program", PROGRAMS)
def test_modules(program: str, index: Path) -> None:
    """Exactly those in loaded_modules.json; this file, run as a program, writes it: look at what has changed."""
    if program == "query" and library.native() is None:
        pytest.skip(f"the default bundle is for the native engine: {library.reason()}")
    expected = json.loads(HERE.read_text())[program]
    ours, others = loaded(program, index)
    assert ours == expected["ours"]
    assert others == expected["others"]


def write() -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "notes.db"
        with Index.open(path, Embedder("static")) as made:
            made.add([Document("a", "The ferry to the island leaves at nine.")])
        found = {name: dict(zip(("ours", "others"), loaded(name, path), strict=True)) for name in PROGRAMS}
    HERE.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    write()
