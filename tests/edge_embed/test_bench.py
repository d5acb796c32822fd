"""`edge-embed bench`: the figures of this device, and the names under which scripts keep them."""

import json
from pathlib import Path
from typing import Any

import pytest
from builders.bert import Checkpoints
from builders.heads import sparse_folder
from click.testing import CliRunner, Result

from edge_embed.cli.main import main
from edge_embed.measuring import children, device
from edge_embed_export import export_model

# What a script that keeps results over months reads. A name may come; one that goes or changes means another SCHEMA.
SCHEMA_1 = {
    "": {"benchmark", "schema", "date", "machine", "versions", "model", "settings", "figures"},
    "machine": {"cpu", "flags", "cores", "architecture", "system", "load"},
    "versions": {"python", "edge-embed", "numpy", "onnxruntime", "tokenizers", "usearch"},
    "model": {"bundle", "fingerprint", "kind", "dim", "size_mb", "exact", "engine"},
    "settings": {"threads", "max_rss_mb", "engine", "repeat", "seconds", "documents", "query_tokens", "passage_tokens"},
    "figures": {
        "start_s", "start_cpu_s", "start_peak_rss_mb",
        "query_p50_ms", "query_p99_ms", "query_cpu_ms", "query_peak_rss_mb",
        "texts_per_s", "texts_per_cpu_s", "passages_per_s", "passages_per_cpu_s", "batch_peak_rss_mb",
        "build_s", "index_mb",
        "search_p50_ms", "search_p99_ms", "search_cpu_ms", "search_peak_rss_mb",
        "vector_search_p50_ms", "vector_search_p99_ms",
    },
}  # fmt: skip
QUICK = ("--bundle", "static", "--repeat", "1", "--seconds", "0")


def bench(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["bench", *arguments])


@pytest.fixture(scope="module")
def measured() -> dict[str, Any]:
    done = bench(*QUICK, "--documents", "300", "--threads", "1", "--json")
    assert done.exit_code == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_schema(measured: dict[str, Any]) -> None:
    """Exactly these names, with every figure of the embedded static bundle a number over 0."""
    assert {"": set(measured)} | {name: set(measured[name]) for name in SCHEMA_1 if name} == SCHEMA_1
    assert (measured["schema"], measured["benchmark"]) == (1, "device")
    assert all(isinstance(value, float) and value > 0 for value in measured["figures"].values())
    assert list(device.FIGURES) == list(measured["figures"])
    wanted = {"threads": 1, "max_rss_mb": None, "repeat": 1, "seconds": 0.0, "documents": 300}
    assert wanted.items() <= measured["settings"].items()
    assert (measured["model"]["bundle"], measured["model"]["dim"]) == ("static-minilm-l6-v2", 240)


def test_figures_hold_together(measured: dict[str, Any]) -> None:
    """Medians under tails; a search with its embedding over the index alone; memory over that of an interpreter."""
    figures = measured["figures"]
    for name in ("query", "search", "vector_search"):
        assert figures[f"{name}_p50_ms"] <= figures[f"{name}_p99_ms"]
    assert all(20 < value < 2000 for name, value in figures.items() if name.endswith("peak_rss_mb"))
    assert figures["texts_per_cpu_s"] > figures["passages_per_cpu_s"]
    assert figures["index_mb"] > 300 * 240 / 1e6


def test_sparse(checkpoint: Checkpoints, tmp_path: Path, short_receipt: None) -> None:
    """Bundles of other kinds are measured, but for a search; a model of few tokens gets shorter texts."""
    export_model(sparse_folder(checkpoint()), tmp_path / "sparse")
    done = bench("--bundle", str(tmp_path / "sparse"), *QUICK[2:], "--json")
    assert done.exit_code == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["model"]["kind"] == "sparse"
    assert (found["settings"]["query_tokens"], found["settings"]["passage_tokens"]) == ([10, 14], [19, 24])
    assert found["figures"]["passages_per_s"] > 0
    assert found["figures"]["search_p50_ms"] is found["figures"]["index_mb"] is None


def test_text_without_search() -> None:
    """Every figure with its name, its number and what it is; none of a search that was left out."""
    done = bench(*QUICK, "--documents", "0")
    assert done.exit_code == 0, done.stderr
    lines = [line.split(maxsplit=2) for line in done.stdout.split("\n\n")[1].splitlines()]
    assert [name for name, _, _ in lines] == [name for name in device.FIGURES if "search" not in name][:-2]
    assert all(float(value.replace(",", "")) > 0 and device.FIGURES[name] == what for name, value, what in lines)


def test_arithmetic() -> None:
    """Times of all processes count as one list; rates, peaks and starts are medians of the processes."""
    timed = [{"seconds": [0.001, 0.002, 0.003], "cpu": 0.003}, {"seconds": [0.009], "cpu": 0.005}]
    rates = [{"seconds": [1.0, 1.0], "cpu": 4.0, "texts": 64}] * 2
    answers = {
        "start": [{"ready": ready, "cpu": 0.5, "peak": 50_000_000} for ready in (0.3, 0.1, 0.2)],
        "query": [{"query": each, "peak": peak} for each, peak in zip(timed, (60_000_000, 70_000_000), strict=True)],
        "batch": [{"texts": each, "passages": each, "peak": None} for each in rates],
    }
    found = device.figures(answers)
    assert (found["start_s"], found["start_peak_rss_mb"], found["query_peak_rss_mb"]) == (0.2, 50.0, 65.0)
    assert found["query_p50_ms"] == pytest.approx(2.5)
    assert found["query_cpu_ms"] == pytest.approx(2.0)
    assert (found["texts_per_s"], found["passages_per_cpu_s"], found["batch_peak_rss_mb"]) == (32.0, 16.0, None)
    assert not {name for name in found if "search" in name or name == "index_mb"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(("--bundle", "nowhere"), "nowhere"), ((*QUICK, "--max-rss", "20"), "max_rss_mb=20 cannot be kept")],
)
def test_what_cannot_be_measured(arguments: tuple[str, ...], message: str) -> None:
    """Exit status 1 and one line; with --json an object besides."""
    done = bench(*arguments, "--json")
    assert done.exit_code == 1
    assert message in json.loads(done.stdout)["error"]["message"]
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_process_that_dies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which one, and how."""
    monkeypatch.setattr(device, "MODULE", "edge_embed.measuring.missing")
    done = bench(*QUICK)
    assert done.exit_code == 1
    assert done.stderr.startswith("edge-embed: build: while starting: ")
    assert "No module named edge_embed.measuring.missing" in done.stderr


def test_what_was_bench_before() -> None:
    """`bench encode` and `bench search`, whatever follows, say where they are now; other words are wrong."""
    for name in ("encode", "search"):
        done = bench(name, "--quick", "--peers", "none", "folder")
        assert done.exit_code == 2
        assert f"python -m bench.{name}" in done.stderr
    assert "No such command 'decode'" in bench("decode").stderr
    assert "encode" not in bench("--help").stdout


def test_how_a_process_died() -> None:
    """By signal, or by its last words; other lines than JSON objects say nothing."""
    assert children.death(-9, "") == "its process died: SIGKILL"
    assert children.death(3, "Traceback\n  ...\nOSError: no\n\n") == "its process ended with status 3: OSError: no"
    assert children.message('{"a": 1}') == {"a": 1}
    assert children.message("[1]") == children.message('{"a": ') == {}
