"""docs/handover.md: each block runs as it stands there, where its package is installed."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from whole import pages

pytestmark = pytest.mark.frameworks
for package in ("polars", "pyarrow", "ray"):
    pytest.importorskip(package)

PAGE = pages.ROOT / "docs" / "handover.md"


def sections() -> dict[str, list[pages.Block]]:
    """The blocks below each heading of the second level; "" for those before the first."""
    text = PAGE.read_text("utf-8")
    headings = [(text.count("\n", 0, found.start()) + 1, found[1]) for found in re.finditer(r"^## (.+)$", text, re.M)]
    found: dict[str, list[pages.Block]] = {}
    for block in pages.blocks(PAGE):
        name = next((title for line, title in reversed(headings) if line < block.line), "")
        found.setdefault(name, []).append(block)
    return found


@contextmanager
def working_in(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def run(blocks: list[pages.Block], names: dict[str, Any]) -> str:
    """Run blocks in the working folder; gives what the shell ones print."""
    printed = ""
    for block in blocks:
        if block.language == "python":
            exec(compile("\n" * (block.line - 1) + block.code, PAGE.name, "exec"), names)  # noqa: S102 - our page
        else:
            done = subprocess.run(["sh", "-e", "-c", block.code], capture_output=True, text=True, check=False)  # noqa: S607
            assert done.returncode == 0, f"{PAGE.name}:{block.line}: {done.stderr}"
            printed += done.stdout
    return printed


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The folder with the shards of the page, and what its first blocks define."""
    folder = tmp_path_factory.mktemp("handover")
    command = folder / "bin" / "edge-embed"  # of the packages that are tested
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m edge_embed "$@"\n')
    command.chmod(0o755)
    names: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patch, working_in(folder):
        patch.setenv("PATH", f"{command.parent}{os.pathsep}{os.environ['PATH']}")
        run(sections()[""], names)
        yield folder, names


def test_merge(shards: tuple[Path, dict[str, Any]]) -> None:
    with working_in(shards[0]):
        said = run(sections()["Merge into one device index"], shards[1])
    assert re.fullmatch(r"notes\.db: 4 documents stored; 4 now, 4 passages\n1\. ferry  .*\n.*ferry.*\n", said), said


def test_sections() -> None:
    """Those that are tested are all."""
    assert set(sections()) == {"", "Merge into one device index", "LanceDB", "DuckDB", "Qdrant", "Milvus", "pgvector"}


@pytest.mark.parametrize(
    ("title", "packages"),
    [
        ("LanceDB", ["lancedb"]),
        ("DuckDB", ["duckdb"]),
        ("Qdrant", ["qdrant_client"]),
        ("Milvus", ["pymilvus", "milvus_lite"]),
    ],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning:pymilvus", "ignore::DeprecationWarning:milvus_lite")
def test_stores(shards: tuple[Path, dict[str, Any]], title: str, packages: list[str]) -> None:
    for name in packages:
        pytest.importorskip(name)
    with working_in(shards[0]):
        run(sections()[title], shards[1])


def test_pgvector(shards: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    """PostgreSQL comes with the package pgserver."""
    pytest.importorskip("psycopg")
    pytest.importorskip("pgvector")
    pgserver = pytest.importorskip("pgserver")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(shards[0]))
    server = pgserver.get_server(str(shards[0] / "postgres"), cleanup_mode="stop")
    try:
        monkeypatch.setenv("DATABASE_URL", server.get_uri())
        with working_in(shards[0]):
            run(sections()["pgvector"], shards[1])
    finally:
        server.cleanup()
