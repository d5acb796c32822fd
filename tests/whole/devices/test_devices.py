"""The proof of CPUs: its judgement and its plan here, and with EDGE_EMBED_DEVICES=1 the short run under emulation."""

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import float32
import numpy as np
import probe
import pytest
from bed import Bed, MissingError
from table import Row, cells, compare_bits, cosines, markdown

from edge_embed import Embedder

HERE = Path(__file__).parent

GOOD = Row("max", "somewhere", "3.11", "aarch64", golden=1.0, to_host=(0.9996, 0.9998), one_vector=True, index=[],
           demo=True, natives={"numpy": "ok"})  # fmt: skip


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"golden": 0.998}, "golden"),
        ({"golden": float("nan")}, "golden"),
        ({"to_host": (0.9989, 0.9999)}, "0.99890"),
        ({"one_vector": False}, "batch"),
        ({"index": ["verify"]}, "verify"),
        ({"demo": False}, "demo"),
        ({"natives": {"numkong": "signal 4"}}, "numkong stopped by signal 4"),
        ({"broken": ["vectors: SIGILL"]}, "SIGILL"),
    ],
)
def test_a_broken_promise_is_said(change: dict[str, object], said: str) -> None:
    """A good row has nothing wrong with it, and each broken promise is named."""
    assert GOOD.judge() == []
    wrong = replace(GOOD, **change).judge()  # type: ignore[arg-type]
    assert len(wrong) == 1
    assert said in wrong[0]


def test_other_bits_than_the_first_devices_are_said() -> None:
    """By count of texts: all instruction sets of all devices; nothing is said where they are the same."""
    first = Row("host", "here", "3.11", "x86_64", bits={"avx2": (100, "aa"), "baseline": (100, "aa")})
    second = Row("max", "somewhere", "3.11", "aarch64", bits={"i8mm": (100, "aa"), "neon": (2000, "cc")})
    compare_bits([first, second])
    assert first.judge() == second.judge() == []
    second.bits["dotprod"] = (100, "bb")
    compare_bits([first, second])
    assert first.judge() == []
    assert second.judge() == ["dotprod: vectors of 100 texts have sha256 bb, expected aa"]


def test_many_texts_are_the_same_everywhere() -> None:
    """The texts whose vectors are compared to the bit: their own hash, and lengths up to the model's limit."""
    texts = probe.many_texts(2000)
    assert hashlib.sha256("\n".join(texts).encode()).hexdigest().startswith("1270cf8f5b00")
    assert texts[:100] == probe.many_texts(100)
    assert {len(text.split()) for text in texts} > {1, 2, 5, 11}
    assert max(len(text.split()) for text in texts) > 150


def test_cosines_are_of_rows() -> None:
    """The lowest and the mean cosine, whatever the length of a row."""
    assert cosines(np.array([[2.0, 0.0], [0.0, 1.0]]), np.array([[1.0, 0.0], [1.0, 1.0]])) == pytest.approx(
        (0.70711, 0.85355), abs=1e-5
    )


def test_the_table_shows_what_was_not_measured() -> None:
    """Each row has a cell for each column; what stopped a package is in it."""
    lines = markdown([GOOD, replace(GOOD, natives={"numkong": "signal 4"})]).splitlines()
    assert {line.count("|") for line in lines} == {lines[0].count("|")}
    assert "numkong: signal 4" in lines[3]
    assert cells(Row("max", "somewhere", "3.11", "aarch64"))[3:] == ["–"] * 14


def test_queries_have_as_many_tokens_as_is_said(embedder: Embedder) -> None:
    """The counted queries are different texts of one length."""
    assert {len(embedder.tokenizer.encode(text)) for text in probe.QUERIES} == {probe.QUERY_TOKENS}
    assert len(set(probe.QUERIES)) == 11


def test_the_float32_vectors_are_of_these_texts(embedder: Embedder) -> None:
    """They were made of texts.txt as it is, and this machine's int8 vectors are near them."""
    texts = probe.TEXTS.read_text(encoding="utf-8").splitlines()
    lowest, mean = cosines(embedder.encode(texts), float32.read())
    assert len(texts) >= 40
    assert lowest > 0.99
    assert mean > 0.998


def test_probe_on_this_machine(tmp_path: Path) -> None:
    """The steps that devices run work here: packages, one vector for a text, an index's life."""
    bed = Bed(tmp_path)
    for step, key, expected in (
        (["natives"], "natives", dict.fromkeys(probe.NATIVE, "ok")),
        (["vectors", str(tmp_path / "out.npy"), "--short"], "one_vector", True),
        (["bits", "4"], "texts", 4),
        (["index"], "index", []),
    ):
        command = [sys.executable, str(HERE / "probe.py"), *step]
        done = subprocess.run(command, capture_output=True, text=True, env=bed.environment(None), check=False)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)[key] == expected


def test_a_part_is_whole_or_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What fails while it is made is not taken for made, and is made again."""
    monkeypatch.setattr("bed.check_machine", lambda: None)
    bed = Bed(tmp_path)

    def fails(part: Path) -> None:
        (part / "half").touch()
        raise MissingError("no mirror")

    with pytest.raises(MissingError, match="no mirror"):
        bed.part("tools", fails)
    assert not (tmp_path / "tools").exists()
    assert not list(bed.part("tools", lambda _: None).iterdir())


@pytest.mark.skipif("EDGE_EMBED_DEVICES" not in os.environ, reason="set EDGE_EMBED_DEVICES=1 to emulate other CPUs")
def test_other_cpus_short_run() -> None:
    """A Raspberry Pi 4 and a Haswell, emulated: golden texts, vectors, an index; skipped where no bed can be built."""
    done = subprocess.run([sys.executable, str(HERE)], capture_output=True, text=True, check=False)
    if done.returncode == 77:
        pytest.skip(done.stderr.strip().splitlines()[-1])
    assert done.returncode == 0, done.stderr
    assert "cortex-a72" in done.stdout
    assert "Haswell" in done.stdout
