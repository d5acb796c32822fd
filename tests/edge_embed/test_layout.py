"""The promises of the layout: what the device half imports, what is typed."""

import subprocess
import sys
from importlib import import_module
from importlib.metadata import metadata, version
from pathlib import Path

import click
import pytest

import edge_embed
from edge_embed import cli
from edge_embed.cli.main import COMMANDS, main

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


def loaded(program: str) -> set[str]:
    """The modules that a program has loaded at its end."""
    program = f"import sys\n{program}\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize(("arguments", "expected"), [("--help", set()), ("add --help", {"edge_embed.cli.add"})])
def test_help_is_light(arguments: str, expected: set[str]) -> None:
    """`edge-embed --help` loads no command, and the help of a command that command alone; neither loads numpy."""
    found = loaded(f"from edge_embed.cli.main import main\ntry: main({arguments.split()})\nexcept SystemExit: pass")
    assert found & {f"edge_embed.cli.{name}" for name in COMMANDS} == expected
    assert not found & {"numpy", "onnxruntime", "tokenizers", "sqlite3"}


@pytest.mark.parametrize("name", COMMANDS)
def test_summaries(name: str) -> None:
    """`edge-embed --help` shows the first sentence of each command's help, as one line of a terminal."""
    assert isinstance(main, click.Group)
    assert main.commands[name].get_short_help_str(100) == COMMANDS[name]
    assert len(COMMANDS[name]) <= 66


def test_every_command_is_listed() -> None:
    """A module of a command that is missing in COMMANDS would be a command that nobody can call."""
    shared = {"access", "completing", "describe", "evaluate", "main", "options", "terminal", "watch", "where"}
    modules = {path.stem for path in Path(str(cli.__file__)).parent.glob("[!_]*.py")} - shared
    assert modules | {"bench", "eval"} == set(COMMANDS)


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
