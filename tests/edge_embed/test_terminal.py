"""terminal.py: nothing that is printed is obeyed by a terminal, in whatever place of a bundle or index it stood."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from builders.commands import run

from edge_embed import Document, Index
from edge_embed.cli.options import shorten
from edge_embed.cli.terminal import printable
from edge_embed.embedder import bundle_path
from edge_embed_runtime.bundle.bundle import read_bundle, write_bundle
from edge_embed_runtime.bundle.manifest import MANIFEST

EVIL = "x\x1b]0;pwn\x07\x1b[2J\x9b31m\u202egnp\u2066\r\x00\u2028\x7fy"
SHOWN = r"x\x1b]0;pwn\x07\x1b[2J\x9b31m\u202egnp\u2066\r\x00\u2028\x7fy"
OBEYED = [chr(n) for n in (*range(10), *range(11, 32), *range(127, 160), 0x2028, 0x202E, 0x2066)]


def clean(printed: str) -> bool:
    return not any(sign in printed for sign in OBEYED)


def test_printable() -> None:
    """Control characters are shown as Python writes them; every script, emoji and joined signs stay."""
    assert printable(EVIL) == SHOWN
    assert printable("a\tb\nc\ud800") == r"a\tb\nc\ud800"
    for text in ("é 日本 नमस्ते שלום", "👩\u200d👧 e\u0301", "10 € \\ %s {0.__class__}"):
        assert printable(text) == text


def test_shorten_shows_one_line() -> None:
    assert shorten("a\n b\x1b[31m c", 40) == r"a b\x1b[31m c"
    assert shorten("a" * 50, 10) == "a" * 9 + "…"


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An index whose key, text and metadata hold what a terminal obeys, and so does its name."""
    monkeypatch.chdir(tmp_path)
    name = "x\x1b[2J\u202e.db"
    with Index.create(name, space="s", dim=2, fields=["n"]) as made:
        documents = [Document(EVIL.replace("\x00", ""), f"ferry {EVIL.replace(chr(0), '')}", {"n": EVIL, "m\x1b": 1})]
        made.add_vectors(documents, np.ones((1, 2), np.float32))
    return name


def test_indexes(index: str, tmp_path: Path) -> None:
    """Names, keys, passages and metadata of an index, shown and in errors."""
    for command in (
        ["search", index, "ferry", "--mode", "text"],
        ["info", index],
        ["verify", index],
        ["compact", index],
        ["dump", index, "out\x1b.npz"],
        ["search", index, "ferry", "--mode", "text", "--where", "no\x1b=1"],
        ["search", index, "ferry", "--mode", "text", "--where", "\x1b"],
        ["search", index, "ferry"],
        ["search", f"{index}\x1b", "ferry", "--mode", "text"],
        ["search", index, "--vector", "\x1b.npy"],
        ["delete", index, "none\x1b"],
        ["encode", "none\x1b", "-o", "a.npy"],
        ["add", index, "none\x1b"],
        ["load", index, "none\x1b.npy"],
        ["export", "none\x1b", "out"],
        ["nothing\x1b"],
        ["search", index, "ferry", "--mode", "\x1b"],
    ):
        result = run(*command)
        assert clean(result.output), command
        assert clean(result.stderr), command
        assert result.stdout or result.stderr
    assert r"ferry x\x1b]0;pwn" in run("search", index, "pwn", "--mode", "text").stdout


def test_json_stays_exact(index: str) -> None:
    """Escaped as JSON has it: what is read from it is what is stored."""
    printed = run("search", index, "ferry", "--mode", "text", "--json").stdout
    assert clean(printed)
    (hit,) = json.loads(printed)["hits"]
    assert hit["key"] == EVIL.replace("\x00", "")
    assert hit["metadata"] == {"n": EVIL, "m\x1b": 1}


def test_bundles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bundle's name, prompts, provenance and everything else that its manifest says."""
    monkeypatch.chdir(tmp_path)
    bundle = read_bundle(bundle_path("static"))
    contents = {n: (bundle.path / n).read_bytes() for n in bundle.manifest.files}
    evil = {"provenance": {EVIL: EVIL}, "architecture": {EVIL: EVIL}, "quantization": {"a": {EVIL: [EVIL]}}}
    receipt = {"truncate_dims": {EVIL: {"trained": True, "ndcg@10": {EVIL: EVIL}}}}
    changed = replace(bundle.manifest, name=EVIL, pooling=EVIL, prompts={"query": EVIL}, receipt=receipt, **evil)
    write_bundle("b\x1b", changed, contents)
    for command in (["info", "b\x1b"], ["tokens", EVIL.replace("\x00", ""), "--bundle", "b\x1b"]):
        result = run(*command)
        assert clean(result.output), command
        assert SHOWN in result.stdout or command[0] == "tokens"
    (tmp_path / "b\x1b" / MANIFEST).unlink()
    assert clean(run("info", "b\x1b").stderr)
