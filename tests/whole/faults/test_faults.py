"""The quick run of the harness: nothing acknowledged is lost, whatever fails, and the harness sees it where it is."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

if not hasattr(os, "fork"):
    pytest.skip("needs fork", allow_module_level=True)

from checks import CHECKS
from powercut import Call, Disk

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def rows() -> dict[str, dict[str, Any]]:
    """What the command says, by fault. In a process of its own: a fork of this one would inherit threads."""
    done = subprocess.run([sys.executable, str(HERE), "--json"], capture_output=True, text=True, check=False)
    assert done.stdout, done.stderr
    return {row["fault"]: row for row in json.loads(done.stdout)}


@pytest.mark.slow
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.fault)
def test_fault(rows: dict[str, dict[str, Any]], check: Any) -> None:
    """No acknowledged document is lost, none is torn, nothing crashes or hangs; a negative control does lose."""
    row = rows[check.fault]
    if row["skipped"]:
        pytest.skip(row["skipped"])
    assert row["runs"] > 0
    if check.control:
        assert row["lost"] + row["torn"] > 0
    else:
        assert row["failures"] == []
    assert row["good"]


def calls(*recorded: tuple[str, int, int, bytes] | tuple[str, int, int, bytes, bytes]) -> list[Call]:
    return [Call(*[*call, b""][:5]) for call in recorded]


def images(trace: list[Call], files: dict[str, bytes]) -> list[dict[str, bytes]]:
    """What many power cuts at the end of a trace leave."""
    disk = Disk(Path("/f"), files)
    for call in trace:
        disk.replay(call)
    return [disk.after_cut(random.Random(seed)) for seed in range(300)]  # noqa: S311 - not for secrets


def test_simulated_disk_keeps_what_was_synced() -> None:
    """After fsync a write is there; before it, each of its sectors may be missing, and the old data is there then."""
    write = ("w", 3, 0, b"b" * 1024)
    opened = ("o", 3, 0, b"/f/x")
    old = {"x": b"a" * 1024}
    synced = images(calls(opened, write, ("s", 3, 0, b"")), old)
    assert all(image == {"x": b"b" * 1024} for image in synced)
    found = {image["x"] for image in images(calls(opened, write), old)}
    assert found == {first * 512 + second * 512 for first in (b"a", b"b") for second in (b"a", b"b")}


def test_simulated_disk_forgets_names_that_were_not_synced() -> None:
    """A file that was made or renamed may be gone until its folder is synced; its data may be missing until it is."""
    trace = [("o", 3, os.O_CREAT, b"/f/new"), ("w", 3, 0, b"b" * 10), ("r", 0, 0, b"/f/new", b"/f/x")]
    found = images(calls(*trace), {"x": b"a" * 10})
    assert {"x": b"a" * 10} in found
    assert {"x": b""} in found
    assert {"x": b"b" * 10} in found
    whole = [*trace[:2], ("s", 3, 0, b""), trace[2], ("o", 4, 0, b"/f"), ("s", 4, 0, b"")]
    assert all(image == {"x": b"b" * 10} for image in images(calls(*whole), {"x": b"a" * 10}))


def test_a_failed_sync_loses_the_data() -> None:
    """As on Linux: what a failed fsync did not write, a later one that succeeds does not write either."""
    trace = calls(("o", 3, 0, b"/f/x"), ("w", 3, 0, b"b" * 5120), ("f", 3, 0, b""), ("s", 3, 0, b""))
    (left,) = {image["x"] for image in images(trace, {"x": b"a" * 5120})}
    assert set(left) == set(b"ab")
