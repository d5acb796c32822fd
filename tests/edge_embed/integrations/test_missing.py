"""Doors whose package is not installed."""

import subprocess
import sys

import pytest

# The door, the package that it needs, and the extra that brings it.
DOORS = [
    ("langchain", "langchain_core", "langchain"),
    ("llamaindex", "llama_index", "llamaindex"),
    ("haystack", "haystack", "haystack"),
    ("chroma", "chromadb", "chroma"),
    ("sklearn", "sklearn", "sklearn"),
]
CODE = """
import sys
sys.modules[{package!r}] = None  # as where it is not installed
try:
    import edge_embed.integrations.{door}
except ImportError as error:
    print(type(error).__name__, error.package, error.extra, error)
"""


@pytest.mark.parametrize(("door", "package", "extra"), DOORS, ids=[door for door, _, _ in DOORS])
def test_a_missing_extra_is_named(door: str, package: str, extra: str) -> None:
    """The error has the line that installs what is missing; nothing else of the door is imported before."""
    code = CODE.format(door=door, package=package)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"MissingExtraError {package} {extra} ")
    assert f"pip install 'edge-embed[{extra}]'" in done.stdout
