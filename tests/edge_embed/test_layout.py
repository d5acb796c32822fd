"""The promises of the layout: what the device half imports, what is typed."""

import subprocess
import sys
from importlib import import_module
from importlib.metadata import metadata, version
from pathlib import Path

import pytest

import edge_embed

FORBIDDEN = ("onnx", "torch", "transformers", "optimum", "safetensors", "huggingface_hub", "httpx", "requests")

DEVICE = """
import socket, sys, tempfile
def refuse(*a, **k): raise AssertionError("network")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
from click.testing import CliRunner
from edge_embed.cli.main import main
result = CliRunner().invoke(main, ["demo"])
assert result.exit_code == 0, result.output
print([name for name in sys.modules if name.split(".")[0] in FORBIDDEN])
"""


def test_device_half_imports_no_workstation_package_and_no_network() -> None:
    """demo embeds, stores and searches without onnx, torch, transformers or optimum, and opens no connection."""
    program = f"FORBIDDEN = {FORBIDDEN!r}\n{DEVICE}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_help_is_light() -> None:
    """`edge-embed --help` loads neither numpy nor onnxruntime."""
    heavy = ("numpy", "onnxruntime", "tokenizers", "sqlite3")
    program = f"import sys, edge_embed.cli.main; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_version_is_said_once() -> None:
    """Package, metadata and changelog agree."""
    assert edge_embed.__version__ == version("edge-embed")
    changelog = (Path(__file__).parents[2] / "CHANGELOG.md").read_text()
    assert f"## [{edge_embed.__version__}]" in changelog


def test_base_dependencies() -> None:
    """The device install stays small."""
    required = [line for line in metadata("edge-embed").get_all("Requires-Dist") or [] if "extra ==" not in line]
    assert sorted(line.split(">")[0] for line in required) == ["click", "numpy", "onnxruntime", "tokenizers", "usearch"]


@pytest.mark.parametrize("package", ["edge_embed", "edge_embed_runtime", "edge_embed_export", "edge_embed_quantize"])
def test_packages_are_typed(package: str) -> None:
    """Type checkers may read our annotations."""
    assert (Path(str(import_module(package).__file__)).parent / "py.typed").exists()
