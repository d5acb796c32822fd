"""stamps.py: golden texts that passed here are not embedded again, and nothing that is not ours is believed."""

import json
import os
import shutil
import stat
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edge_embed import Embedder
from edge_embed.errors import GoldenError
from edge_embed_runtime.bundle.bundle import open_bundle
from edge_embed_runtime.model import golden, network
from edge_embed_runtime.model.golden import golden_stamp
from edge_embed_runtime.system import stamps, writing
from edge_embed_runtime.system.stamps import MAX_BYTES, MAX_STAMPS, Passed, forget, passed, remember

STAMP, OTHER = "0" * 64, "f" * 64
FOUND = Passed(0.9998, exact=False)
posix = pytest.mark.skipif(sys.platform == "win32", reason="modes and links of POSIX")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where stamps of this test lie; nothing is there yet."""
    for variable in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.setenv(variable, str(tmp_path / "cache"))
    return tmp_path / "cache" / "edge_embed" / "passed.json"


@pytest.fixture
def stored(cache: Path) -> Path:
    remember(STAMP, FOUND)
    return cache


def test_round_trip(stored: Path) -> None:
    """For this user's eyes; others join it, the newest are kept, and one that comes again is the newest."""
    assert (passed(STAMP), passed(OTHER), passed("")) == (FOUND, None, None)
    assert sys.platform == "win32" or stat.S_IMODE(stored.stat().st_mode) == 0o600
    for i in range(1, MAX_STAMPS):
        remember(f"{i:064x}", Passed(1.0, exact=True))
    assert passed(STAMP) == FOUND
    remember(STAMP, Passed(0.9999, exact=True))
    remember(OTHER, FOUND)
    assert (passed(STAMP), passed(OTHER), passed(f"{1:064x}")) == (Passed(0.9999, exact=True), FOUND, None)
    assert stored.stat().st_size < MAX_BYTES
    assert (forget(), forget(), passed(STAMP)) == (stored, None, None)


def test_what_passes_is_believed(cache: Path) -> None:
    """The lowest cosine that golden texts may have, which is that of vectors of another engine."""
    lowest = Passed(min(golden.GOLDEN_COSINE, golden.OTHER_ENGINE_COSINE), exact=False)
    remember(OTHER, FOUND)
    remember(STAMP, lowest)
    assert (passed(STAMP), passed(OTHER)) == (lowest, FOUND)


def change(**changes: Any) -> Callable[[dict[str, Any]], str]:
    return lambda content: json.dumps({**content, **changes})


@pytest.mark.parametrize(
    "write",
    [
        lambda _: "", lambda content: json.dumps(content)[:-9], lambda _: "[" * 20_000, lambda _: "[]",
        lambda _: "9" * 20_000, lambda content: json.dumps(content) + " " * MAX_BYTES, lambda _: "\ud800",
        change(schema=2), change(passed=[STAMP]), change(passed=None), change(passed={STAMP: None}),
        change(passed={STAMP: [0.9998]}), change(passed={STAMP: [0.9998, 0]}), change(passed={STAMP: ["1", False]}),
        change(passed={STAMP: [float("nan"), False]}), change(passed={STAMP: [7.0, False]}),
        change(passed={STAMP: [0.99, False]}),
        change(passed={STAMP: [0.9998, False, 1]}), change(passed={STAMP: [0.9998, False], "x": [0.9998, False]}),
        change(passed={f"{i:064x}": [0.9998, False] for i in range(MAX_STAMPS + 1)}),
    ],
)  # fmt: skip
def test_damaged_and_hostile_files(stored: Path, write: Callable[[dict[str, Any]], str]) -> None:
    """A file that is wrong in any respect counts as none, and the next one takes its place."""
    stored.write_bytes(write(json.loads(stored.read_text())).encode("utf-8", "surrogatepass"))
    assert passed(STAMP) is None
    remember(STAMP, FOUND)
    assert passed(STAMP) == FOUND


@posix
def test_only_a_file_of_our_own(stored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that others may write, own or linked here, a pipe or a folder, counts as none; so does a folder of others."""
    for mode, found in ((0o620, None), (0o602, None), (0o644, FOUND)):
        stored.chmod(mode)
        assert passed(STAMP) == found
    mine = stored.stat().st_uid
    with monkeypatch.context() as patch:
        patch.setattr(os, "geteuid", lambda: mine + 1)
        assert passed(STAMP) is None
        before = stored.read_bytes()
        remember(OTHER, FOUND)
        assert stored.read_bytes() == before
    elsewhere = stored.with_name("elsewhere")
    elsewhere.hardlink_to(stored)
    assert passed(STAMP) is None
    stored.unlink()
    stored.symlink_to(elsewhere)
    assert passed(STAMP) is None
    remember(STAMP, FOUND)  # nothing is written through a link
    assert stored.is_symlink()
    stored.unlink()
    os.mkfifo(stored)
    assert passed(STAMP) is None
    stored.unlink()
    stored.mkdir()
    assert passed(STAMP) is None
    remember(STAMP, FOUND)
    assert list(stored.iterdir()) == []


@pytest.mark.parametrize("call", ["fsync", "replace", "open"])
def test_a_full_disk_and_a_folder_that_takes_nothing(
    cache: Path, monkeypatch: pytest.MonkeyPatch, embedder: Embedder, call: str
) -> None:
    """An embedder is loaded without a word, and nothing half written stays."""

    def fail(*_: Any, **__: Any) -> Any:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        if call == "replace":
            patch.setattr(Path, "replace", fail)
        else:
            patch.setattr(writing.os, call, fail) if call == "fsync" else patch.setattr(Path, "mkdir", fail)
        assert Embedder(threads=1).golden_cosine == pytest.approx(embedder.golden_cosine)
    assert not cache.exists()
    assert not cache.parent.exists() or list(cache.parent.iterdir()) == []
    cache.parent.parent.mkdir(exist_ok=True)
    if cache.parent.exists():
        cache.parent.rmdir()
    cache.parent.write_text("a file where the folder would be")
    remember(STAMP, FOUND)
    assert passed(STAMP) is None


def test_without_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user without a home folder has no stamps."""
    for variable in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.setenv(variable, "relative")
    monkeypatch.setattr(Path, "home", lambda: Path("\0"))
    remember(STAMP, FOUND)
    assert passed(STAMP) is None


def test_the_second_embedder_does_not_embed_them(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says of itself what the first one found, and gives the same vectors."""
    calls: list[int] = []
    original = network.golden_cosine
    monkeypatch.setattr(network, "golden_cosine", lambda *given: (calls.append(1), original(*given))[1])
    first = Embedder(threads=1, engine="onnxruntime")
    assert (len(calls), len(json.loads(cache.read_text())["passed"])) == (1, 1)
    second = Embedder(engine="onnxruntime")
    assert len(calls) == 1
    assert (second.golden_cosine, second.exact) == (first.golden_cosine, first.exact)
    assert second.encode(["a text"]).tobytes() == first.encode(["a text"]).tobytes()
    Embedder(truncate_dim=64, engine="onnxruntime")  # golden vectors are cut as well
    Embedder(exact=first.exact, engine="onnxruntime")
    Embedder(max_rss_mb=10_000, engine="onnxruntime")
    assert len(calls) == 4
    forget()
    Embedder(engine="onnxruntime")
    assert len(calls) == 5


def test_what_fails_leaves_no_stamp(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "golden_cosine", lambda *_: 0.9)
    with pytest.raises(GoldenError):
        Embedder(engine="onnxruntime")
    assert not cache.exists()


def test_another_form_than_was_asked_for_is_checked(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stamp of one form says nothing about the other, which `doctor --tune` may have chosen since."""
    right = Embedder(engine="onnxruntime").exact
    content = json.loads(cache.read_text())
    content["passed"] = {name: [cosine, not exact] for name, (cosine, exact) in content["passed"].items()}
    cache.write_text(json.dumps(content))
    calls: list[int] = []
    monkeypatch.setattr(network, "golden_cosine", lambda *_: (calls.append(1), 1.0)[1])
    assert (Embedder(exact=right, engine="onnxruntime").exact, len(calls)) == (right, 1)
    assert (Embedder(engine="onnxruntime").exact, len(calls)) == (not right, 1)


def test_everything_that_decides_is_in_the_stamp(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another golden vector, dimension, engine, library, CPU or release gives another, a copy of the bundle not."""
    loaded, library = open_bundle(bundle), tmp_path / "library.so"
    library.write_bytes(b"one")
    base = golden_stamp(loaded, "engine 1", library, 384)
    assert len(base) == 64
    shutil.copytree(bundle, tmp_path / "copy")
    assert golden_stamp(open_bundle(tmp_path / "copy"), "engine 1", library, 384) == base
    first = loaded.manifest.golden[0]
    other = replace(first, vector=[-first.vector[0], *first.vector[1:]])
    manifest = replace(loaded.manifest, golden=[other, *loaded.manifest.golden[1:]])
    found = [
        golden_stamp(replace(loaded, manifest=manifest), "engine 1", library, 384),
        golden_stamp(replace(loaded, manifest=replace(loaded.manifest, max_tokens=99)), "engine 1", library, 384),
        golden_stamp(loaded, "engine 2", library, 384),
        golden_stamp(loaded, "engine 1", library, 64),
    ]
    for name, value in (
        *(("cpu_identity", lambda: "another"), ("cpu_features", lambda: ("avx9",))),
        ("OWN_FILE", tmp_path / "copy" / "manifest.json"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(golden, name, value)
            found.append(golden_stamp(loaded, "engine 1", library, 384))
    library.write_bytes(b"another")
    found.append(golden_stamp(loaded, "engine 1", library, 384))
    assert len({base, *found}) == len(found) + 1
    for missing in (None, tmp_path / "nothing.so"):
        assert golden_stamp(loaded, "engine 1", missing, 384) == ""
    assert golden_stamp(replace(loaded, model=b"bytes"), "engine 1", library, 384) == ""
    assert golden_stamp(replace(loaded, manifest=replace(loaded.manifest, golden=[])), "engine 1", library, 384) == ""
    assert stamps.passed("") is None
