"""bench/: what the command lines of both comparisons share, and their tables."""

import sys
from pathlib import Path
from types import ModuleType

import click
import pytest
from click.testing import CliRunner

from bench import report
from bench.encode import __main__ as encode
from bench.encode import run as encode_run
from bench.search import __main__ as search
from bench.search import run as search_run
from edge_embed.embedder import bundle_path
from edge_embed.errors import InputError


@pytest.mark.parametrize(("command", "module"), [(encode.main, encode_run), (search.main, search_run)])
def test_names_of_embedded_bundles(command: click.Command, module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """As every other command takes them; without one the default is measured."""
    asked = []

    def read(path: Path) -> None:
        asked.append(path)
        raise InputError("far enough")

    monkeypatch.setattr(module, "read_bundle", read)
    monkeypatch.delenv("EDGE_EMBED_BUNDLE", raising=False)
    for arguments in (["--bundle", "static"], []):
        result = CliRunner().invoke(command, arguments)
        assert (result.exit_code, result.stderr.splitlines()[-1]) == (1, "Error: far enough")
    assert asked == [bundle_path("static"), bundle_path(None)]


def test_table() -> None:
    """As wide as it needs to be, names to the left, figures to the right; brackets are no markup."""
    rows = [["[red]ours", "1"], ["n" * 150, "10"]]
    assert list(report.table(["\nname", "p50\nms"], rows)) == [
        f"{'':<150}  p50",
        f"{'name':<150}   ms",
        f"{'[red]ours':<150}    1",
        f"{'n' * 150}   10",
    ]


@pytest.mark.parametrize("command", [encode.main, search.main])
def test_without_rich(command: click.Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is measured it says what to install; JSON needs nothing."""
    monkeypatch.setitem(sys.modules, "rich.table", None)
    monkeypatch.setenv("EDGE_EMBED_BUNDLE", "nowhere")
    result = CliRunner().invoke(command, [])
    assert result.exit_code == 1
    assert "pip install 'edge-embed[bench]'" in result.stderr
    assert "nowhere" in CliRunner().invoke(command, ["--json"]).stderr
