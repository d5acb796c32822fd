"""bench/encode/towers: `python -m bench.encode --modality image`, in real child processes, with a tiny tower."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from builders.colours import COLOURS, colour_bundle
from click.testing import CliRunner, Result

from bench.common import OURS
from bench.encode.__main__ import main
from bench.encode.towers import run, table
from bench.encode.towers.candidates import CANDIDATES, file_of


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path, Path]:
    """A checkpoint, our bundle, and a folder where the float32 graph of the peers lies already: none is exported."""
    checkpoint, work = tmp_path / "checkpoint", tmp_path / "work"
    checkpoint.mkdir()
    (checkpoint / "config.json").write_text(json.dumps({"model_type": "clip"}))
    bundle = colour_bundle(tmp_path / "bundle")
    monkeypatch.setattr(run, "not_installed", lambda *_: "")
    measured = run._Run(run.Settings("image", str(checkpoint), str(bundle)), lambda _: None)
    work.mkdir()
    measured.find_models(work)
    shutil.copy(bundle / "image.onnx", file_of("onnxruntime-fp32", measured.job))
    return checkpoint, bundle, work


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def measured(folders: tuple[Path, Path, Path], *more: object) -> dict[str, Any]:
    checkpoint, bundle, work = folders
    options = ["--modality", "image", "--bundle", bundle, "--work", work, "--rounds", "2", "--batch", "1,4", "--json"]
    done = invoke(checkpoint, *options, *more)
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads(done.output)
    return found


@pytest.mark.slow
def test_a_run(folders: tuple[Path, Path, Path]) -> None:
    """The same graph in onnxruntime has our vectors; what cannot be loaded is named, and the others are measured."""
    result = measured(folders, "--peers", "torch,onnxruntime-fp32,onnxruntime-uint8")
    found = result["candidates"]
    assert set(found) == {OURS, "torch", "onnxruntime-fp32", "onnxruntime-uint8"}
    for name in (OURS, "onnxruntime-fp32", "onnxruntime-uint8"):
        assert set(found[name]["batches"]) == {"1", "4"}
        assert found[name]["batches"]["4"]["per_cpu_second"] > 0
        assert found[name]["peak_rss_mb"] > 20
    assert found["torch"]["reason"]
    read = result["reading"]
    assert 0 < read["small_full_ms"] < read["large_full_ms"]
    assert read["cosine_scaled_min"] > 0.9
    assert file_of("onnxruntime-uint8", _job(folders)).is_file()
    text = "\n".join(table.lines(result))
    assert "onnxruntime dynamic uint8 (as transformers.js)" in text
    assert "a JPEG of 12 megapixels" in text
    assert dict(run.ratios(result, "1")).keys() == {"onnxruntime-fp32", "onnxruntime-uint8"}


def _job(folders: tuple[Path, Path, Path]) -> Any:
    found = run._Run(run.Settings("image", str(folders[0]), str(folders[1])), lambda _: None)
    found.find_models(folders[2])
    return found.job


def test_table() -> None:
    """Ours first, how many times as fast it is, and what reading costs beside the model."""
    rates = {OURS: 24.0, "torch": 6.0, "onnxruntime-fp32": None}
    candidates = {
        name: {"title": CANDIDATES[name].title, **({"batches": {"1": {"per_cpu_second": rate}}} if rate else {})}
        for name, rate in rates.items()
    }
    candidates[OURS]["cosine_mean"] = 0.99996
    candidates["onnxruntime-fp32"]["reason"] = "not installed: torch"
    reading = {f"{name}_ms": 40.0 for name in ("small_full", "large_full", "large_scaled")}
    result = {
        "machine": {"cpu": "a CPU", "cores": 2, "flags": [], "architecture": "x86_64"},
        "model": {"bundle": "ours", "fingerprint": "f", "random": True},
        "date": "today",
        "modality": "image",
        "settings": {"batches": [1]},
        "candidates": candidates,
        "reading": {
            **reading,
            "model_ms": 20.0,
            "large_bytes": 3e6,
            "cosine_scaled_mean": 1.0,
            "cosine_scaled_min": 0.9,
        },
        "notes": ["a note"],
    }
    lines = list(table.lines(result))
    assert dict(run.ratios(result, "1")) == {"torch": 4.0}
    ours = next(line for line in lines if line.startswith(OURS))
    assert ours.split() == [OURS, "24.00", "41.7", "0.99996", "-", "-", "-"]
    assert next(line for line in lines if line.startswith("torch")).split()[2:6] == ["6.00", "166.7", "4.00", "x"]
    assert next(line for line in lines if line.startswith("the same, decoded scaled")).split()[-2:] == ["40.0", "2.00"]
    assert lines[-2:] == ["onnxruntime fp32 (as fastembed): not installed: torch", "a note"]
    assert "random weights of the real layout" in lines


def test_options_that_do_not_fit() -> None:
    done = invoke("--modality", "image", "--lengths", "8-16")
    assert (done.exit_code, "--modality image has no use for --lengths" in done.output) == (2, True)
    done = invoke("--modality", "image", "--peers", "fastembed")
    assert "'fastembed' is none of all, none, torch, onnxruntime-fp32" in done.output
    assert len(COLOURS) > 1
    assert set(run.PEERS) == set(CANDIDATES) - {OURS}


def test_a_bundle_needs_its_checkpoint(tmp_path: Path) -> None:
    done = invoke("--modality", "image", "--bundle", tmp_path)
    assert (done.exit_code, "give both" in done.output) == (1, True)
