"""bench/encode: `python -m bench.encode`. Peers are fakes here: made in the test, loaded in real child processes."""

import json
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import click
import numpy as np
import pytest
from builders.bert import Checkpoints
from click.testing import CliRunner, Result

from bench import common
from bench.encode import children, measure, peers, plan, plot, runtimes, table
from bench.encode.__main__ import main
from bench.encode.run import finish
from edge_embed import Embedder
from edge_embed.errors import InputError
from edge_embed.measuring import versions
from edge_embed.measuring.lengths import texts_of_length
from edge_embed_export import export_model
from edge_embed_export.calibration.texts import calibration_texts

MINILM = {"layers": 6, "hidden": 384}
TINY_RUN = ["--batch", "1,2", "--lengths", "8-12", "--threads", "1", "--rounds", "2", "--texts", "4"]

FAKES = """
import os
import numpy as np
from bench.encode import peers, runtimes

def unconvertible(source, folder, after):
    raise ValueError("no such\\noperator")

def converted(source, folder, after):
    (folder / "done").write_text(source.checkpoint_sha256)

class Good(runtimes.Ours):
    def __init__(self, source, folder, threads):
        assert (folder / "done").read_text() == source.checkpoint_sha256
        super().__init__(source, folder, threads)

class Drifting(runtimes.Ours):
    def encode(self, texts):
        vectors = super().encode(texts)
        vectors[:, 0] += 0.1 * (len(texts) > 1)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

class Foreign(runtimes.Ours):
    def token_ids(self, texts):
        return [ids[:-1] for ids in super().token_ids(texts)]

class Crashing(runtimes.Ours):
    calls = 0
    def encode(self, texts):
        self.calls += 1
        if self.calls > 2:
            os.kill(os.getpid(), 9)
        return super().encode(texts)

class Raising(runtimes.Ours):
    def encode(self, texts):
        raise RuntimeError("out of luck")

def peer(load, artefact=None, packages=()):
    return peers.Peer(load.__name__, packages, load, artefact, pools_itself=True)

peers.ARTEFACTS.update(bad=peers.Artefact((), unconvertible), worse=peers.Artefact((), converted, after="bad"),
                       fine=peers.Artefact((), converted))
peers.PEERS.clear()
peers.PEERS.update(
    good=peer(Good, "fine"), unconvertible=peer(Good, "worse"), drifting=peer(Drifting), foreign=peer(Foreign),
    crashing=peer(Crashing), raising=peer(Raising), missing=peer(Good, None, ("no-such-package",)),
)
"""


def command(*arguments: object) -> Result:
    return CliRunner().invoke(main, list(map(str, arguments)))


def run_json(*arguments: object) -> Any:
    result = command(*arguments, "--json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def run_worker_after(program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Child processes run this first."""
    worker = "from bench.encode import worker; worker.main()"
    monkeypatch.setattr(children, "WORKER", ("-c", f"{program}; {worker}"))


@pytest.fixture
def fakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fake peers in place of the real ones, here and in child processes; no integer peak, which takes a second."""
    (tmp_path / "fakes.py").write_text(FAKES)
    run_worker_after(f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import fakes", monkeypatch)
    monkeypatch.setattr(peers, "REFERENCES", ("missing", "foreign", "good"))
    installed = versions.installed_version
    monkeypatch.setattr(versions, "installed_version", lambda name: None if name == "onnx" else installed(name))
    monkeypatch.syspath_prepend(tmp_path)
    before = [(each, dict(each)) for each in (peers.PEERS, peers.ARTEFACTS)]
    import_module("fakes")
    yield
    del sys.modules["fakes"]
    for registry, content in before:
        registry.clear()
        registry.update(content)  # type: ignore[arg-type]


@pytest.fixture
def no_peers(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine where no peer is installed."""
    installed = versions.installed_version
    real = ("onnx", "onnxruntime", "numpy", "tokenizers", "edge-embed")
    monkeypatch.setattr(versions, "installed_version", lambda name: installed(name) if name in real else None)


def made_up(**rates: float) -> dict[str, Any]:
    """A result with these tokens per CPU second at 40-64 tokens, batch 16 and 1."""
    measured = {
        name: {
            "tokens_per_cpu_second": rate,
            "tokens_per_second": rate,
            "ms_per_text": 1.0,
            "cores": 1.0,
            "cosine_mean": 0.99,
            "cosine_min": 0.9,
        }
        for name, rate in rates.items()
    }
    rows = [{"threads": 1, "length": "40-64", "batch": b, "texts": 64, "tokens": 99} for b in (1, 16, 64)]
    return {
        "date": "2026-01-02T03:04:05+00:00",
        "machine": {"cpu": "A <fast> CPU & more", "flags": ["avx2"], "cores": 2, "architecture": "x86_64"},
        "model": {"bundle": "a-bundle", "fingerprint": "f00d"},
        "candidates": {name: {"title": f"the {name}", "batches": {}, "same_bits": True} for name in rates},
        "reference": None,
        "peak_operations_per_cpu_second": {"1": 1e12},
        "results": [finish({**row, "candidates": measured}, MINILM, 1e12) for row in rows],
        "notes": ["a note"],
    }


def test_our_embedder_alone(no_peers: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without weights and peers our embedder is measured, and each peer is named with what to install."""
    monkeypatch.setattr(plan, "default_checkpoint", lambda: None)
    run_worker_after("from bench.encode import peak; peak.SIZES = (256,)", monkeypatch)
    result = run_json(*TINY_RUN)
    facts = result["candidates"].pop("edge_embed")
    ours_too = {"edge_embed-onnxruntime"} & set(result["candidates"])  # of a bundle for the native engine
    peers_of_it = [name for name in result["candidates"] if name not in ours_too]
    assert peers_of_it == list(peers.PEERS)
    assert all("no float32 weights" in result["candidates"][name]["reason"] for name in peers_of_it)
    assert any("pip install 'edge-embed[bench-peers]'" in note for note in result["notes"])
    assert facts["same_bits"] is True
    assert facts["peak_rss_mb"] > 40
    assert facts["idle_cores"] < 0.5
    assert [(row["threads"], row["length"], row["batch"]) for row in result["results"]] == [
        (1, "8-12", 1),
        (1, "8-12", 2),
    ]
    for row in result["results"]:
        assert set(row["candidates"]) == {"edge_embed", *ours_too}
        ours = row["candidates"]["edge_embed"]
        assert ours["tokens_per_cpu_second"] > 100
        assert 0 < ours["cores"] < 1.5
        assert ours["ms_per_text"] == pytest.approx(1e3 * row["tokens"] / row["texts"] / ours["tokens_per_second"])
        assert 0 < row["share_of_integer_peak"] < 1
        assert row["best_peer"] is row["ratio_to_best_peer"] is None
    assert result["versions"]["ctranslate2"] is None
    assert result["versions"]["onnxruntime"]
    assert result["model"]["operations_per_token"] == 21_233_664


@pytest.mark.slow
def test_peers_that_fail_are_named(
    fakes: None, checkpoint: Checkpoints, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not installed, not convertible, raising, crashing, reading other tokens: each is named, the rest measured."""
    source = checkpoint()
    export_model(source, tmp_path / "tiny")
    work = tmp_path / "work"
    arguments = [source, "--bundle", tmp_path / "tiny", *TINY_RUN, "--work", work, "--plot", tmp_path / "a.svg"]
    result = run_json(*arguments)
    reasons = {name: facts.get("reason", "") for name, facts in result["candidates"].items()}
    assert "not installed: no-such-package" in reasons["missing"]
    assert reasons["unconvertible"] == "bad cannot be made: ValueError: no such operator"
    assert reasons["raising"] == "RuntimeError: out of luck"
    assert "other tokens" in reasons["foreign"]
    assert reasons["crashing"].startswith("its process")
    measured = {"edge_embed", "good", "drifting"}
    assert {name for name, reason in reasons.items() if not reason} == measured
    assert [set(row["candidates"]) for row in result["results"]] == [measured, measured]
    assert result["reference"] == "good"
    same = {name: result["candidates"][name]["same_bits"] for name in measured}
    assert same == {"edge_embed": True, "good": True, "drifting": False}
    alone, batch = (row["candidates"]["drifting"] for row in result["results"])
    assert alone["cosine_min"] == pytest.approx(1)
    assert batch["cosine_min"] < 0.999
    assert ElementTree.parse(tmp_path / "a.svg")  # noqa: S314 - our own file
    assert [path.name for path in work.glob("*.partial")] == []
    (made,) = work.glob("fine-*/done")
    before = made.stat().st_mtime_ns
    text = command(*arguments, "--peers", "good,missing").stdout
    assert made.stat().st_mtime_ns == before
    assert "Good: not installed: no-such-package" in text


def test_bits_depend_on_the_batch(embedder: Embedder) -> None:
    """A candidate that scales by its batch is caught; ours is the same bits."""
    texts = calibration_texts("receipt")[40:46]

    def per_batch(chosen: list[str]) -> np.ndarray[Any, Any]:
        vectors = embedder.encode(chosen)
        codes = np.round(vectors / np.abs(vectors).max() * 15).astype(np.float32)
        return codes / np.linalg.norm(codes, axis=1, keepdims=True)

    ours, theirs = (measure.compare_batches(encode, texts) for encode in (embedder.encode, per_batch))
    assert ours["same_bits"]
    assert ours["lowest_cosine"] == pytest.approx(1)
    assert not theirs["same_bits"]
    assert theirs["lowest_cosine"] < 0.9999
    assert ours["sha256"] != theirs["sha256"]


def test_vectors_are_checked() -> None:
    """Of the right shape, float32, of length 1."""
    good = np.eye(3, dtype=np.float32)
    assert measure.check_vectors(good, (3, 3)) is good
    for bad in (good[:2], good.astype(np.float64), 2 * good, good * np.float32("nan")):
        with pytest.raises(InputError, match="gave"):
            measure.check_vectors(bad, (3, 3))


def test_arithmetic() -> None:
    """Medians over rounds, the ratio to the fastest peer, the share of the peak."""
    figures = measure.figures([(2.0, 1.0), (4.0, 2.0), (40.0, 3.0)], texts=10, tokens=100)
    assert figures == {
        "tokens_per_cpu_second": 25,
        "tokens_per_second": 50,
        "ms_per_text": 200,
        "cpu_seconds_per_1000_texts": 400.0,
        "cores": 2,
    }
    rates = {n: {"tokens_per_cpu_second": float(r)} for n, r in {"edge_embed": 300, "a": 100, "b": 200}.items()}
    row = finish({"threads": 1, "candidates": rates}, MINILM, 21_233_664 * 600.0)
    assert (row["best_peer"], row["ratio_to_best_peer"], row["share_of_integer_peak"]) == ("b", 1.5, 0.5)
    assert measure.operations_per_token({"layers": 1, "hidden": 2, "intermediate": 3}) == (16 + 12) * 2
    assert finish({"threads": 1, "candidates": rates}, {"family": "other"}, 1.0)["share_of_integer_peak"] is None
    assert measure.ratio_to_best_peer({"a": {"tokens_per_cpu_second": 1.0}}) is None
    rates |= {name: {"tokens_per_cpu_second": 600.0} for name in (peers.OTHER, peers.IN_ONNXRUNTIME)}
    assert measure.ratio_to_best_peer(rates) == ("b", 1.5)
    assert measure.times_as_fast(rates, peers.OTHER) == 0.5
    assert measure.times_as_fast({"edge_embed": rates["a"]}, peers.OTHER) is None


@pytest.mark.parametrize("length", [(3, 5), (8, 16), (40, 64), (200, 256)])
def test_texts_of_length(embedder: Embedder, length: tuple[int, int]) -> None:
    """Within the class, spread over it, the same every time; cut nowhere inside a word."""
    sources = calibration_texts("receipt")
    texts = texts_of_length(embedder.tokenizer, sources, length, 16)
    counts = sorted(len(embedder.tokenizer.encode(text)) for text in texts)
    assert length[0] <= counts[0] <= length[0] + 2
    assert length[1] - 4 <= counts[-1] <= length[1]
    assert texts == texts_of_length(embedder.tokenizer, sources, length, 16)
    assert {word for text in texts for word in text.split()} <= {word for text in sources for word in text.split()}


def test_no_text_of_such_a_length(embedder: Embedder) -> None:
    """One long word cannot be cut."""
    with pytest.raises(InputError, match="4-4 tokens"):
        texts_of_length(embedder.tokenizer, ["antidisestablishmentarianism"], (4, 4), 2)


def test_table_and_plot() -> None:
    """Ours first, every candidate with its figures, well-formed SVG of batch 16 and batch 1."""
    result = made_up(edge_embed=20_000, slow=5_000, fast=10_000)
    result["candidates"]["gone"] = {"title": "the gone", "reason": "not installed: gone"}
    text = list(table.lines(result))
    assert any(line.split() == ["the", "edge_embed", "20,000", "20,000", "20,000"] for line in text)
    assert any(line.split() == ["ours", "/", "best", "peer", "2.00", "2.00", "2.00"] for line in text)
    assert any(line.startswith("share of int8 peak 1,000 GOP/s") and line.endswith("42%") for line in text)
    assert {"the gone: not installed: gone", "a note"} <= set(text)
    other = list(table.lines(made_up(edge_embed=20_000, fast=10_000, **{peers.OTHER: 8_000})))
    assert any(line.startswith("ours / edge_embed, the other bundle  ") and line.endswith("2.50") for line in other)
    assert any(line.split() == ["ours", "/", "best", "peer", "2.00", "2.00", "2.00"] for line in other)
    drawing = ElementTree.fromstring(plot.svg(result))  # noqa: S314 - made here
    name = "{http://www.w3.org/2000/svg}"
    labels = [str(label.text) for label in drawing.iter(f"{name}text")]
    assert next(label for label in labels if "batch" in label).startswith("40-64 tokens, batch 16, 1 thread")
    assert "A <fast> CPU & more" in labels[-1]
    assert labels.count("20,000  (0.9900)") == 2
    bars = [float(bar.attrib["width"]) for bar in drawing.iter(f"{name}rect")]
    assert bars == pytest.approx([bars[0] / divisor for divisor in (1, 2, 4, 1, 2, 4)], abs=0.1)


def test_options_are_explained() -> None:
    """`python -m bench.encode --help` says what each option does."""
    assert all(isinstance(option, click.Argument) or option.help for option in main.params)  # type: ignore[attr-defined]
    assert "bench-peers" in command("--help").stdout


def test_threads_are_fixed_before_imports() -> None:
    """For every library that reads them from the environment."""
    found = common.child_variables(2)
    assert {found[name] for name in common.THREAD_VARIABLES} == {"2"}
    assert (found["HF_HUB_OFFLINE"], found["OMP_WAIT_POLICY"]) == ("1", "PASSIVE")


def test_why_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is missing, of a peer and of what it is made with; models that an adapter cannot do."""
    source = runtimes.Source("b", "c", "d", "mean", dense=False, dim=8, max_tokens=8)
    installed = {"openvino", "nncf", "onnx", "torch", "transformers", "optimum"}
    monkeypatch.setattr(versions, "installed_version", lambda name: "1" if name in installed else None)
    assert (peers.why_not(peers.PEERS["openvino-int8"], source) or "").startswith("not installed: optimum-onnx (")
    monkeypatch.setattr(versions, "installed_version", lambda _: "1")
    assert peers.why_not(peers.PEERS["openvino-int8"], source) is None
    for changed in ({"pooling": "max"}, {"dense": True}):
        other = runtimes.Source(**{**vars(source), **changed})
        assert "cannot do this model" in (peers.why_not(peers.PEERS["openvino-int8"], other) or "")
        assert peers.why_not(peers.PEERS["st-fp32"], other) is None


def test_pool() -> None:
    """Padding does not count; rows have length 1."""
    hidden = np.array([[[1, 0], [0, 3], [9, 9]]], np.float32)
    mask = np.array([[1, 1, 0]])
    assert runtimes.pool(hidden, mask, "mean") == pytest.approx(np.array([[1, 3]]) / np.sqrt(10))
    assert runtimes.pool(hidden, mask, "cls") == pytest.approx(np.array([[1, 0]]))


def test_texts_of_your_own(no_peers: None, tmp_path: Path) -> None:
    """Taken as they are, empty lines left out."""
    (tmp_path / "texts").write_text("A first text.\n\nAnd a second one.\n")
    settings = plan.Settings(texts_file=str(tmp_path / "texts"), batches=(1, 2))
    made = plan.make_plan(settings, Embedder(threads=1).tokenizer)
    assert made.texts == ["A first text.", "And a second one."]
    assert made.cases == [{"length": "file", "batch": b, "texts": [0, 1]} for b in (1, 2)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--batch", "0"], "numbers from 1"),
        (["--batch", "1,,2"], "numbers from 1"),
        (["--threads", "two"], "numbers from 1"),
        (["--threads", "9999"], "numbers from 1"),
        (["--lengths", "16-8"], "'16-8' is not FEWEST-MOST"),
        (["--lengths", "8"], "'8' is not FEWEST-MOST"),
        (["--lengths", "2-8"], "3 at the least"),
        (["--peers", "chatgpt"], "'chatgpt' is none of all, none, fastembed"),
        (["--rounds", "0"], "--rounds"),
        (["--texts-file", "nowhere"], "does not exist"),
        (["nowhere"], "does not exist"),
        (["--lengths", "8-16", "--texts-file", __file__], "taken as they are"),
    ],
)
def test_wrong_usage(arguments: list[str], message: str) -> None:
    """Said by the option that is wrong, before anything is measured."""
    result = command(*arguments)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.replace("│", " ").split())


def test_settings_that_cannot_be_measured(no_peers: None, tmp_path: Path, checkpoint: Checkpoints) -> None:
    """Exit 1 and one line: too few texts, beyond the model's limit, other weights, no place for the plot."""
    (tmp_path / "empty").touch()
    for arguments, message in (
        (["--texts", 8], "batch 16 needs as many texts; there are 8"),
        (["--lengths", "200-300"], "at most 256 tokens"),
        ([checkpoint(), "--quick"], "was not made from the weights"),
        ([tmp_path, "--quick"], "model.safetensors is missing"),
        (["--texts-file", tmp_path / "empty"], "no text in it"),
        (["--plot", tmp_path / "none" / "a.svg"], "does not exist"),
    ):
        result = command(*arguments)
        assert (result.exit_code, result.stdout) == (1, "")
        assert message in result.stderr
