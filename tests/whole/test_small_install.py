"""Installs without onnxruntime: for static bundles (data/static.txt), for those of the native engine (data/native.txt),
and what is said of everything else."""

import json
import os
import re
import subprocess
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from builders.installs import environment, installed_bytes, run
from builders.nativebundles import native_bundle

from edge_embed.embedder import default_bundle
from edge_embed_runtime import extras
from edge_embed_runtime.bundle.manifest import MANIFEST, read_manifest
from edge_embed_runtime.native import library

STATIC = Path(str(files("edge_embed") / "data" / "static.txt"))
MOST_BYTES = 110_000_000
NATIVE = STATIC.with_name("native.txt")
MOST_NATIVE_BYTES = 75_000_000
# What neither this install has nor a static bundle needs.
LEFT_OUT = ("onnxruntime", "usearch", "numkong", "onnx", "safetensors")
ADVICE = """A static bundle works without it: Embedder("static"), --bundle static or EDGE_EMBED_BUNDLE=static"""


@pytest.fixture
def small(tmp_path: Path) -> dict[str, str]:
    """The environment variables of a Python that has none of LEFT_OUT, however much is installed."""
    (tmp_path / "block").mkdir()
    absent = f"import sys; sys.modules.update(dict.fromkeys({LEFT_OUT!r}))"
    (tmp_path / "block" / "sitecustomize.py").write_text(absent)
    path = os.pathsep.join([str(tmp_path / "block"), *filter(None, sys.path)])
    kept = {name: value for name, value in os.environ.items() if name != "EDGE_EMBED_BUNDLE"}
    return {**kept, "PYTHONPATH": path, "XDG_CACHE_HOME": str(tmp_path), "LOCALAPPDATA": str(tmp_path)}


def command(small: dict[str, str], folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "edge_embed", *arguments],
        cwd=folder, env=small, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_static_needs_no_onnxruntime(small: dict[str, str], tmp_path: Path) -> None:
    """The commands of a device run with the static bundle, named by the option or in the environment."""
    (tmp_path / "a.txt").write_text("The ferry to the island leaves at nine.")
    chosen = ("--bundle", "static")
    for arguments, expected in (
        (("demo", *chosen), "154 questions"),
        (("add", "n.db", "a.txt", *chosen), "1 stored"),
        (("search", "n.db", "ferry", *chosen), "a.txt"),
        (("info", "static"), "lowest cosine 1.0"),
        (("verify", "n.db"), "whole"),
        (("rebuild", "n.db"), "scanned faster"),
        (("reembed", "n.db", *chosen), "static-minilm-l6-v2"),
        (("bench", *chosen, "--documents", "99", "--repeat", "1", "--seconds", "0"), "search_p50_ms"),
    ):
        done = command(small, tmp_path, *arguments)
        assert (done.returncode, expected in done.stdout + done.stderr) == (0, True), (arguments, done)
    done = command({**small, "EDGE_EMBED_BUNDLE": "static"}, tmp_path, "search", "n.db", "ferry", "--mode", "vector")
    assert (done.returncode, "a.txt" in done.stdout) == (0, True), done


@pytest.fixture(scope="module")
def native(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle for the native engine: the default one where it is one."""
    if library.reason():
        pytest.skip(f"needs the native library: {library.reason()}")
    default = default_bundle()
    if read_manifest(default / MANIFEST).engine == "native":
        return default
    return native_bundle(tmp_path_factory.mktemp("native"))


def judged_folder(folder: Path) -> Path:
    """The least that `eval` reads."""
    folder.mkdir()
    (folder / "corpus.jsonl").write_text('{"_id": "d1", "text": "a ferry"}\n{"_id": "d2", "text": "a bank"}\n')
    (folder / "queries.jsonl").write_text('{"_id": "q1", "text": "a ferry"}\n')
    (folder / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\nq1\td1\t1\n")
    return folder


def test_the_native_engine_needs_no_onnxruntime(native: Path, small: dict[str, str], tmp_path: Path) -> None:
    """The commands of a device run with a bundle that was made for it; doctor finds nothing wrong."""
    (tmp_path / "a.txt").write_text("The ferry to the island leaves at nine.")
    judged_folder(tmp_path / "judged")
    chosen = ("--bundle", str(native))
    for arguments, expected in (
        (("demo", *chosen, "--engine", "native"), "engine native"),
        (("add", "n.db", "a.txt", *chosen), "1 stored"),
        (("search", "n.db", "ferry", *chosen), "a.txt"),
        (("eval", "judged", *chosen), "ndcg@10"),
        (("info", str(native)), "engine        native"),
        (("verify", "n.db"), "whole"),
        (("encode", "a.txt", "-o", "v.npy", *chosen), ""),
    ):
        done = command(small, tmp_path, *arguments)
        assert (done.returncode, expected in done.stdout + done.stderr) == (0, True), (arguments, done)
    status, report = doctor(small, tmp_path, str(native))
    assert (status, report["verdict"]) == (0, "warnings")
    assert [bundle["problem"] for bundle in report["bundles"]] == [None]
    said = {finding["text"].split()[0]: finding["text"] for finding in report["findings"]}
    assert "Without it: no bundles except static ones and those for the native engine" in said["onnxruntime"]


def test_without_library_and_onnxruntime(native: Path, small: dict[str, str], tmp_path: Path) -> None:
    """Neither is here: one line, which says so."""
    (tmp_path / "a.txt").write_text("The ferry to the island leaves at nine.")
    done = command({**small, library.SWITCH: "0"}, tmp_path, "add", "n.db", "a.txt", "--bundle", str(native))
    assert (done.returncode, done.stdout) == (1, "")
    assert "needs the native library of edge-embed, which cannot be used here: EDGE_EMBED_NATIVE=0" in done.stderr
    assert "pip install 'onnxruntime>=1.22'" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("arguments", [("demo",), ("add", "n.db", "a.txt"), ("encode", "a.txt", "-o", "v.npy")])
def test_other_bundles_say_what_they_need(arguments: tuple[str, ...], small: dict[str, str], tmp_path: Path) -> None:
    """One line: which bundle, what is missing, how to get it, what works without."""
    (tmp_path / "a.txt").write_text("The ferry to the island leaves at nine.")
    done = command(small, tmp_path, *arguments, "--engine", "onnxruntime")
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(
        rf"edge-embed: bundle \S*all-minilm-l6-v2 needs onnxruntime, which is not installed: pip install "
        rf"'onnxruntime>=1.22' .*{re.escape(ADVICE)}\n",
        done.stderr,
    ), done.stderr
    assert not (tmp_path / "n.db").exists()


def test_the_exporter_says_what_it_needs(small: dict[str, str], tmp_path: Path) -> None:
    """Its modules import onnxruntime; a static bundle would be no help."""
    for arguments in (("export", "--list"), ("prune", "static", "out", "--keep", "9"), ("distill", "minilm", "out")):
        done = command(small, tmp_path, *arguments)
        assert done.returncode == 1
        assert done.stderr.startswith("edge-embed: the exporter needs onnxruntime, which is not installed")
        assert "Embedder" not in done.stderr


def test_python(small: dict[str, str], tmp_path: Path) -> None:
    """All public names can be imported; what needs onnxruntime raises MissingExtraError, also an ImportError."""
    program = """
import sys
import edge_embed
for name in edge_embed.__all__:
    getattr(edge_embed, name)
embedder = edge_embed.Embedder("static")
for call in (lambda: edge_embed.Embedder(engine="onnxruntime"), lambda: embedder.encode_tokens(["a"])):
    try:
        call()
    except edge_embed.EdgeEmbedError as error:
        print(type(error).__name__, isinstance(error, ImportError))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], env=small, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == ["MissingExtraError True", "InputError False"]


def test_why_there_is_no_onnxruntime(monkeypatch: pytest.MonkeyPatch) -> None:
    """A system that has none, a package that does not load and one that is not installed are told apart."""
    error = ImportError("DLL load failed")
    assert "cannot be imported here (DLL load failed)" in str(extras.without_onnxruntime("bundle b", error))
    monkeypatch.setattr(extras.importlib.util, "find_spec", lambda _: None)
    assert "pip install" in str(extras.without_onnxruntime("bundle b", error))
    monkeypatch.setattr(extras.sysconfig, "get_config_var", lambda _: ".cpython-312-x86_64-linux-musl.so")
    said = str(extras.without_onnxruntime("bundle b", error))
    assert "its C library is musl" in said
    assert "pip install" not in said
    assert said.endswith(ADVICE)


def doctor(small: dict[str, str], folder: Path, *arguments: str) -> tuple[int, dict[str, Any]]:
    done = command(small, folder, "doctor", "--json", *arguments)
    return done.returncode, json.loads(done.stdout)


def test_doctor_without_onnxruntime(small: dict[str, str], tmp_path: Path) -> None:
    """Without the native library too, it measures the static bundle and says that others do not work; one that is asked
    for is a problem."""
    small = {**small, library.SWITCH: "0"}
    status, report = doctor(small, tmp_path)
    assert (status, report["verdict"]) == (0, "warnings")
    assert [(bundle["name"], bundle["problem"]) for bundle in report["bundles"]] == [("static-minilm-l6-v2", None)]
    said = {finding["text"].split()[0]: finding for finding in report["findings"]}
    assert said["onnxruntime"]["level"] == "warning"
    assert "Without it: no bundles except static ones" in said["onnxruntime"]["text"]
    status, report = doctor(small, tmp_path, "static", "minilm", "--tune")
    assert (status, report["verdict"], report["tuned"]) == (1, "unusable", None)
    (problem,) = [finding["text"] for finding in report["findings"] if finding["level"] == "problem"]
    assert re.search("all-minilm-l6-v2 needs (onnxruntime|the native library)", problem)
    assert [bundle["problem"] is None for bundle in report["bundles"]] == [True, False]


def test_doctor_tunes_nothing_without_onnxruntime(small: dict[str, str], tmp_path: Path) -> None:
    """What is stored is how onnxruntime runs bundles here."""
    status, report = doctor({**small, "EDGE_EMBED_BUNDLE": "static"}, tmp_path, "--tune")
    assert (status, report["tuned"]) == (0, None)
    assert any("--tune stored nothing" in finding["text"] for finding in report["findings"])


def test_doctor_takes_names_of_embedded_bundles(tmp_path: Path) -> None:
    """As arguments and from the environment, with onnxruntime as well."""
    environment = {**os.environ, "EDGE_EMBED_BUNDLE": "static", "XDG_CACHE_HOME": str(tmp_path)}
    for arguments in ((), ("static",)):
        status, report = doctor(environment, tmp_path, *arguments)
        assert (status, [bundle["name"] for bundle in report["bundles"]]) == (0, ["static-minilm-l6-v2"])


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python of an environment with the smallest install."""
    return environment(tmp_path_factory.mktemp("static"), STATIC)


def test_small_install_runs(python: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """numpy, tokenizers and click alone: demo, add, search, verify; the size is kept."""
    monkeypatch.setenv("EDGE_EMBED_BUNDLE", "static")
    (tmp_path / "a.txt").write_text("The ferry to the island leaves at nine.")
    assert json.loads(run(python, tmp_path, "demo", "--json"))["documents"] == 154
    run(python, tmp_path, "add", "notes.db", "a.txt")
    for mode in ("vector", "text", "hybrid"):
        assert "a.txt" in run(python, tmp_path, "search", "notes.db", "ferry", "--mode", mode)
    assert "whole" in run(python, tmp_path, "verify", "notes.db")
    assert installed_bytes(python, compiled=False) <= MOST_BYTES


def test_native_install_runs(native: Path, tmp_path: Path) -> None:
    """numpy without OpenBLAS, tokenizers, click and our wheel with its library: demo, add, search, eval; the size is
    kept. numpy is compiled, which takes minutes: only with EDGE_EMBED_TEST_INSTALL=all."""
    if os.environ.get("EDGE_EMBED_TEST_INSTALL") != "all":
        pytest.skip("compiles numpy: set EDGE_EMBED_TEST_INSTALL=all")
    python = environment(tmp_path / "venv", NATIVE)
    (tmp_path / "a.txt").write_text("The ferry to the island leaves at nine.")
    judged_folder(tmp_path / "judged")
    chosen = ("--bundle", str(native), "--engine", "native")
    assert json.loads(run(python, tmp_path, "demo", "--json", *chosen))["engine"] == "native"
    run(python, tmp_path, "add", "notes.db", "a.txt", *chosen)
    for mode in ("vector", "text", "hybrid"):
        assert "a.txt" in run(python, tmp_path, "search", "notes.db", "ferry", "--mode", mode, *chosen)
    run(python, tmp_path, "eval", "judged", *chosen)
    assert "whole" in run(python, tmp_path, "verify", "notes.db")
    assert installed_bytes(python, compiled=False) <= MOST_NATIVE_BYTES
