"""verdict.py: what `doctor --tune` stores, and what an embedder makes of it."""

import json
import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnxruntime
import pytest

from edge_embed import Embedder
from edge_embed.errors import GoldenError, StorageError
from edge_embed_runtime.embed import embedder as module
from edge_embed_runtime.model import network, options, session
from edge_embed_runtime.model.session import products_saturate
from edge_embed_runtime.system import tuning as verdict
from edge_embed_runtime.system.cpu import default_threads
from edge_embed_runtime.system.tuning import Choice, Verdict, forget_verdict, machine_key, recall, store_verdict

RELEASE = onnxruntime.__version__
NAME, OTHER = "0" * 32, "f" * 32
posix = pytest.mark.skipif(sys.platform == "win32", reason="modes and links of POSIX")


@pytest.fixture
def stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A verdict of this machine for the bundle NAME, in a cache folder of the test's own."""
    for variable in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.setenv(variable, str(tmp_path))
    path = store_verdict(Verdict(machine_key(RELEASE), 30.0, {NAME: Choice(True, 1)}))
    assert path == tmp_path / "edge_embed" / "verdict.json"
    return path


def test_round_trip(stored: Path) -> None:
    """What was stored is recalled for that bundle, and nothing for another."""
    assert recall(NAME, RELEASE) == Choice(True, 1)
    assert recall(OTHER, RELEASE) is None
    store_verdict(Verdict(machine_key(RELEASE), None, {OTHER: Choice(False, None)}))
    assert recall(OTHER, RELEASE) == Choice(False, None)


def test_bundles_of_one_machine_are_kept(stored: Path) -> None:
    """A second bundle joins the first, the newest 64 are kept; the verdict of another machine goes as a whole."""
    store_verdict(Verdict(machine_key(RELEASE), 30.0, {OTHER: Choice(False, 2)}))
    assert (recall(NAME, RELEASE), recall(OTHER, RELEASE)) == (Choice(True, 1), Choice(False, 2))
    many = {f"{i:032x}": Choice(False, 1) for i in range(1, 64)}
    store_verdict(Verdict(machine_key(RELEASE), 30.0, many))
    assert recall(NAME, RELEASE) is None
    assert recall(OTHER, RELEASE) == Choice(False, 2)
    store_verdict(Verdict(machine_key("0.0"), 30.0, {NAME: Choice(True, 1)}))
    assert recall(OTHER, RELEASE) is None
    assert recall(NAME, "0.0") == Choice(True, 1)


def test_another_machine_or_release(stored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another version of onnxruntime, another CPU, or one that lost a feature, is another machine."""
    assert recall(NAME, RELEASE + ".1") is None
    with monkeypatch.context() as patch:
        patch.setattr(verdict, "cpu_identity", lambda: "another CPU")
        assert recall(NAME, RELEASE) is None
    with monkeypatch.context() as patch:
        patch.setattr(verdict, "cpu_features", lambda: ("avx512_vnni",))
        assert recall(NAME, RELEASE) is None
    assert recall(NAME, RELEASE) == Choice(True, 1)


def change(**changes: Any) -> Callable[[dict[str, Any]], str]:
    return lambda content: json.dumps({**content, **changes})


@pytest.mark.parametrize(
    "write",
    [
        lambda _: "",
        lambda content: json.dumps(content)[:-9],
        lambda _: "[" * 20_000,
        lambda _: "[]",
        lambda _: "null",
        lambda _: "9" * 20_000,
        lambda content: json.dumps(content) + " " * verdict.MAX_BYTES,
        lambda _: "\ud800",
        change(schema=2),
        change(machine="this one"),
        change(scan_ms="fast"),
        change(scan_ms=-1.0),
        change(scan_ms=float("nan")),
        change(bundles=[NAME]),
        change(bundles=None),
        change(bundles={NAME: None}),
        change(bundles={NAME: {"exact": True}}),
        change(bundles={NAME: {"exact": 1, "threads": 1}}),
        change(bundles={NAME: {"exact": True, "threads": 0}}),
        change(bundles={NAME: {"exact": True, "threads": True}}),
        change(bundles={NAME: {"exact": True, "threads": 10**9}}),
        change(bundles={NAME: {"exact": True, "threads": "2"}}),
        change(bundles={NAME: {"exact": True, "threads": 1, "run": "this"}}),
        change(bundles={NAME: {"exact": True, "threads": 1}, "../../x": {"exact": True, "threads": 1}}),
        change(bundles={f"{i:032x}": {"exact": True, "threads": 1} for i in range(65)}),
    ],
)
def test_damaged_and_hostile_files(stored: Path, write: Callable[[dict[str, Any]], str]) -> None:
    """A file that is no verdict in every respect counts as none, and the next one takes its place."""
    stored.write_bytes(write(json.loads(stored.read_text())).encode("utf-8", "surrogatepass"))
    assert recall(NAME, RELEASE) is None
    store_verdict(Verdict(machine_key(RELEASE), 30.0, {NAME: Choice(True, 1)}))
    assert recall(NAME, RELEASE) == Choice(True, 1)


@posix
def test_only_a_file_of_our_own(stored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is for its user's eyes; one that others may write, own or linked here, a pipe or a folder, counts as none."""
    assert stat.S_IMODE(stored.stat().st_mode) == 0o600
    stored.chmod(0o620)
    assert recall(NAME, RELEASE) is None
    stored.chmod(0o644)
    assert recall(NAME, RELEASE) is not None
    with monkeypatch.context() as patch:
        patch.setattr(os, "geteuid", lambda: stored.stat().st_uid + 1)
        assert recall(NAME, RELEASE) is None
    elsewhere = stored.with_name("elsewhere")
    elsewhere.hardlink_to(stored)
    assert recall(NAME, RELEASE) is None
    stored.unlink()
    assert recall(NAME, RELEASE) is None
    stored.symlink_to(elsewhere)
    assert recall(NAME, RELEASE) is None
    stored.unlink()
    os.mkfifo(stored)
    assert recall(NAME, RELEASE) is None
    stored.unlink()
    stored.mkdir()
    assert recall(NAME, RELEASE) is None


def test_forget(stored: Path) -> None:
    """It is removed once; a second time there was none."""
    assert forget_verdict() == stored
    assert recall(NAME, RELEASE) is None
    assert forget_verdict() is None
    stored.mkdir()
    with pytest.raises(StorageError, match="cannot be removed"):
        forget_verdict()


def test_folder_that_cannot_be_written(tmp_path: Path, stored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the path and what to set; nothing half written stays, and the old verdict does."""
    new = Verdict(machine_key(RELEASE), 30.0, {OTHER: Choice(True, 1)})

    def fail(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(StorageError, match="No space left"):
            store_verdict(new)
    assert [path.name for path in stored.parent.iterdir()] == [stored.name]
    assert (recall(NAME, RELEASE), recall(OTHER, RELEASE)) == (Choice(True, 1), None)
    (tmp_path / "file").write_text("")
    for variable in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.setenv(variable, str(tmp_path / "file"))
    assert recall(NAME, RELEASE) is None
    assert forget_verdict() is None
    with pytest.raises(StorageError, match="set XDG_CACHE_HOME"):
        store_verdict(new)


def test_without_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user without a home folder has no verdict; a relative path in the environment is none."""

    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    for variable in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.setenv(variable, "relative")
    monkeypatch.setattr(Path, "home", no_home)
    assert recall(NAME, RELEASE) is None
    assert forget_verdict() is None
    with pytest.raises(StorageError, match="no home folder"):
        store_verdict(Verdict(machine_key(RELEASE)))


def test_embedder_uses_the_verdict(stored: Path, older_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The CPU is not probed, one form is loaded, threads are its own where none are given, and not too many."""
    embedder = Embedder(older_bundle)
    exact, loads = products_saturate(), []
    original = session.load_session

    def load(*arguments: Any, exact: bool, **options: Any) -> Any:
        loads.append(exact)
        return original(*arguments, exact=exact, **options)

    monkeypatch.setattr(session, "load_session", load)
    monkeypatch.setattr(session, "products_saturate", None)
    monkeypatch.setattr(options, "default_threads", lambda: 4)
    for threads, given, used in ((2, None, 2), (64, None, 4), (2, 3, 3), (None, None, 4)):
        choices = {embedder.fingerprint: Choice(exact, threads)}
        store_verdict(Verdict(machine_key(RELEASE), 30.0, choices))
        made = Embedder(older_bundle, threads=given)
        assert (made.threads, made.exact, made.golden_cosine) == (used, exact, embedder.golden_cosine)
    assert loads == [exact] * 4


def test_golden_vectors_overrule_the_verdict(stored: Path, older_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A form that does not reproduce them here is left for the other one."""
    embedder = Embedder(older_bundle)
    right = embedder.exact
    store_verdict(Verdict(machine_key(RELEASE), 30.0, {embedder.fingerprint: Choice(not right, None)}))
    cosines = iter([0.9, 1.0])
    monkeypatch.setattr(network, "golden_cosine", lambda *_: next(cosines))
    made = Embedder(older_bundle)
    assert (made.exact, made.threads, made.golden_cosine) == (right, default_threads(), 1.0)


def test_one_form_and_no_other(stored: Path, older_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`exact` asks neither the CPU nor a verdict, and a form that is wrong here is an error."""
    right = products_saturate()
    monkeypatch.setattr(session, "products_saturate", None)
    monkeypatch.setattr(network, "recall", None)
    assert module.Embedder(older_bundle, exact=right).exact is right
    monkeypatch.setattr(network, "golden_cosine", lambda *_: 0.9)
    with pytest.raises(GoldenError, match=r"cosine 0\.9000"):
        module.Embedder(older_bundle, exact=right)
