"""Doors whose package is not installed."""

import pkgutil
import subprocess
import sys

import pytest

from edge_embed import integrations

# By door the package that it needs, the extra that brings it, and what needs it.
DOORS = {
    "chroma": ("chromadb", "chroma", "import edge_embed.integrations.chroma"),
    "haystack": ("haystack", "haystack", "import edge_embed.integrations.haystack"),
    "langchain": ("langchain_core", "langchain", "import edge_embed.integrations.langchain"),
    "llamaindex": ("llama_index", "llamaindex", "import edge_embed.integrations.llamaindex"),
    "llm": ("llm", "llm", "import edge_embed.integrations.llm"),
    "mcp": ("mcp", "mcp", "import edge_embed.integrations.mcp.server"),
    "mteb": ("mteb", "mteb", "import edge_embed.integrations.mteb"),
    "ray": ("ray", "ray", "from edge_embed.integrations.ray import embed_dataset; embed_dataset(None)"),
    "sentence_transformers": (
        "torch",
        "sentence-transformers",
        "from edge_embed.integrations.sentence_transformers import SentenceTransformer as Model;"
        "Model('static').encode(['a'], convert_to_tensor=True)",
    ),
    "sklearn": ("sklearn", "sklearn", "import edge_embed.integrations.sklearn"),
}
# What the doors share, which needs no package.
SHARED = {"embedding", "metadata", "stores", "threads"}
CODE = """
import sys
sys.modules[{package!r}] = None  # as where it is not installed
try:
    {use}
except ImportError as error:
    print(type(error).__name__, error.package, error.extra, error)
"""


def test_every_door_is_here() -> None:
    assert {module.name for module in pkgutil.iter_modules(integrations.__path__)} == DOORS.keys() | SHARED


@pytest.mark.parametrize("door", DOORS)
def test_a_missing_extra_is_named(door: str) -> None:
    """The error has the line that installs what is missing."""
    package, extra, use = DOORS[door]
    code = CODE.format(package=package, use=use)
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"MissingExtraError {package} {extra} ")
    assert f"pip install 'edge-embed[{extra}]'" in done.stdout
