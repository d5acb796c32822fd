"""embedder.py: a text has one vector; shapes never depend on the input."""

import gzip
import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders.files import refused_after_fork

from edge_embed import Embedder
from edge_embed.errors import BundleFormatError, EdgeEmbedError, GoldenError, InputError
from edge_embed_export.calibration.texts import calibration_texts
from edge_embed_runtime.bundle.bundle import read_bundle
from edge_embed_runtime.model import network
from edge_embed_runtime.model import session as session_module
from edge_embed_runtime.model.batching import batches, pad
from edge_embed_runtime.model.session import make_session


@pytest.fixture(scope="module")
def texts() -> list[str]:
    """Real texts of 5 to 256 tokens."""
    raw = gzip.decompress((files("edge_embed") / "data" / "demo.jsonl.gz").read_bytes()).decode()
    return calibration_texts("receipt")[::4] + [json.loads(line)["text"] for line in raw.splitlines()[:20]]


@pytest.fixture(scope="module")
def alone(embedder: Embedder, texts: list[str]) -> np.ndarray:
    return np.vstack([embedder.encode([text]) for text in texts])


@pytest.mark.parametrize("batch_tokens", [1, 100, 512, 4096])
def test_same_bits_alone_and_in_any_batch(
    embedder: Embedder, texts: list[str], alone: np.ndarray, batch_tokens: int
) -> None:
    """What a text is batched with, and how much padding it gets, changes no bit of its vector."""
    together = embedder.encode(texts, batch_tokens=batch_tokens)
    assert np.array_equal(together.view(np.uint32), alone.view(np.uint32))
    shuffled = embedder.encode(texts[::-1], batch_tokens=batch_tokens)
    assert np.array_equal(shuffled[::-1].view(np.uint32), alone.view(np.uint32))


def test_same_bits_with_any_number_of_threads(texts: list[str], alone: np.ndarray) -> None:
    """One thread and two give the same bits."""
    assert np.array_equal(Embedder(threads=2).encode(texts).view(np.uint32), alone.view(np.uint32))


def test_vectors_are_of_length_one(alone: np.ndarray) -> None:
    """float32, every row L2-normalised."""
    assert alone.dtype == np.float32
    assert np.abs(np.linalg.norm(alone, axis=1) - 1).max() < 1e-6


def test_no_text_gives_no_rows(embedder: Embedder) -> None:
    """encode([]) has shape (0, dim)."""
    assert embedder.encode([]).shape == (0, 384)
    assert embedder.encode_query(()).shape == (0, 384)


@pytest.mark.parametrize("text", ["", "   ", "\n", "\x00", "\x00a", "[SEP]", "🦆" * 300, "x" * 100_000, "\u200b"])
def test_odd_texts_have_vectors(embedder: Embedder, text: str) -> None:
    """Empty, blank, control characters and very long words: one finite vector of length 1 each."""
    vector = embedder.encode([text])
    assert vector.shape == (1, 384)
    assert abs(float(np.linalg.norm(vector)) - 1) < 1e-5


@pytest.mark.parametrize("value", ["a text", b"bytes", 3, None, {"a"}, {"a": "b"}, np.array("a")])
def test_encode_takes_a_list(embedder: Embedder, value: object) -> None:
    """A single str is refused with the way to write it, as is anything without an order."""
    with pytest.raises(InputError, match="list of texts"):
        embedder.encode(value)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [[3], ["a", None], ["a", b"b"], ["ok", "\udcff"], [["nested"]]])
def test_every_text_is_checked(embedder: Embedder, value: list[object]) -> None:
    """What is not Unicode text is named by its position."""
    with pytest.raises(InputError, match=f"text {len(value) - 1} "):
        embedder.encode(value)  # type: ignore[arg-type]


@pytest.mark.parametrize("options", [{"batch_tokens": 0}, {"batch_tokens": 1.5}, {"role": "poet"}, {"role": []}])
def test_bad_options(embedder: Embedder, options: dict[str, object]) -> None:
    """Options out of range name what is expected."""
    with pytest.raises(InputError, match="expected"):
        embedder.encode(["a"], **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["threads", "truncate_dim"])
@pytest.mark.parametrize("value", [0, -1, 10**6, "2", True, 1.5])
def test_bad_construction(name: str, value: Any) -> None:
    """So do those of the constructor."""
    with pytest.raises(InputError, match=f"{name} is .*expected a whole number"):
        Embedder(**{name: value})


def test_truncate_dim(texts: list[str], alone: np.ndarray) -> None:
    """The first numbers of each vector, of length 1 again."""
    short = Embedder(truncate_dim=100).encode(texts[:8])
    expected = alone[:8, :100] / np.linalg.norm(alone[:8, :100], axis=1, keepdims=True)
    assert short.shape == (8, 100)
    assert np.abs(short - expected).max() < 1e-6


def test_roles_put_prompts_before_texts(tiny_bundle: Path) -> None:
    """A role's prompt is part of the text; no role means no prompt."""
    from edge_embed_runtime.bundle.bundle import read_bundle, write_bundle
    from edge_embed_runtime.bundle.manifest import Manifest

    bundle = read_bundle(tiny_bundle)
    prompts = {"query": "the river ", "document": ""}
    manifest = Manifest(**{**vars(bundle.manifest), "prompts": prompts})
    contents = {"model.onnx": (tiny_bundle / "model.onnx").read_bytes(), "tokenizer.json": bundle.tokenizer}
    write_bundle(tiny_bundle.with_name("prompted"), manifest, contents)
    embedder = Embedder(tiny_bundle.with_name("prompted"))
    plain = embedder.encode(["the river bank", "bank"])
    assert np.array_equal(embedder.encode_query(["bank"])[0], plain[0])
    assert np.array_equal(embedder.encode_document(["bank"])[0], plain[1])
    assert embedder.fingerprint != bundle.manifest.fingerprint
    # one of the caller's own stands in place of the role's
    for found in (
        embedder.encode(["bank"], prompt="the river "),
        embedder.encode_document(["bank"], prompt="the river "),
    ):
        assert np.array_equal(found[0], plain[0])
    assert np.array_equal(embedder.encode_query(["bank"], prompt="")[0], plain[1])
    with pytest.raises(InputError, match="the prompt"):
        embedder.encode(["bank"], prompt=7)  # type: ignore[arg-type]


def test_text_without_any_token_is_ruled_out(tiny_bundle: Path) -> None:
    """A tokenizer without special tokens would leave nothing of the empty text."""
    loaded = read_bundle(tiny_bundle)
    bare = json.dumps({**json.loads(loaded.tokenizer), "post_processor": None}).encode()
    with pytest.raises(BundleFormatError, match="no special tokens around"):
        Embedder(replace(loaded, tokenizer=bare))


def test_meaning_is_found(embedder: Embedder) -> None:
    """The same question in other words is nearer than another question of the same words."""
    a, b, c = embedder.encode(["How do I reset my PIN?", "I forgot my card's secret code", "How do I pin a map?"])
    assert a @ b > a @ c


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Python 3.12 warns of fork with threads: that is the point
def test_use_after_fork_is_refused(embedder: Embedder) -> None:
    """onnxruntime's threads do not survive a fork; the child gets an error instead of a hang."""
    assert refused_after_fork(lambda: embedder.encode(["a"]), InputError)


def test_probe_is_one_product_of_a_prepacked_weight() -> None:
    """The probe's bytes are those that onnx writes for this model, and the answer is that of integer arithmetic."""
    from onnx import TensorProto, checker, helper

    inner, outer = session_module.PROBE_SHAPE
    weight = np.full((inner, outer), 127, np.int8)
    node = helper.make_node("MatMulIntegerToFloat", ["x", "w", "one", "one"], ["y"], domain="com.microsoft")
    graph = helper.make_graph(
        [node],
        "probe",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, ["m", inner])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["m", outer])],
        [
            helper.make_tensor("one", TensorProto.FLOAT, [], [1.0]),
            helper.make_tensor("w", TensorProto.INT8, weight.shape, weight.tobytes(), raw=True),
        ],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, ir_version=10, opset_imports=opsets)
    checker.check_model(model)
    assert model.SerializeToString() == session_module.PROBE
    x = np.full((4, inner), 255, np.uint8)
    fast, exact = (make_session(session_module.PROBE, 1, exact=form).run(None, {"x": x})[0] for form in (False, True))
    # the exact form is right on any CPU, and float32 holds a sum as small as this
    assert np.array_equal(exact, x.astype(np.int64) @ weight)
    assert session_module.products_saturate() == (not np.array_equal(fast, exact))


class Session:
    """A session of one form on a made-up CPU: what it gets wrong is made wrong here."""

    def __init__(self, session: Any, probe: bool, wrong: bool) -> None:
        self.session, self.probe, self.wrong = session, probe, wrong

    def run(self, outputs: None, feed: dict[str, Any], *options: Any) -> list[Any]:
        (found,) = self.session.run(outputs, feed, *options)
        if self.probe:
            return [np.where(self.wrong, 32 * 32767, 64 * 255 * 127) + 0 * found]
        off = found + np.float32(0.2 * self.wrong) * np.sign(found)
        return [off / np.linalg.norm(off, axis=1, keepdims=True) if self.wrong else found]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.session, name)


Cpu = Callable[..., list[bool]]


@pytest.fixture
def cpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cpu]:
    """Pretends a CPU: cpu(probe=True, wrong={False}) is one whose fast products saturate, in the probe and in models.

    Gives the list of the forms in which models were loaded: [False, True] for the fast one, then the exact one.
    """

    original = session_module.make_session

    def pretend(*, probe: bool, wrong: set[bool]) -> list[bool]:
        forms = []

        def make_session(model: Any, threads: int, *, exact: bool = False, **_: Any) -> Any:
            session = original(model, threads, exact=True)  # right on any CPU
            if model is session_module.PROBE:
                return Session(session, True, probe)
            forms.append(exact)
            return Session(session, False, exact in wrong)

        monkeypatch.setattr(session_module, "make_session", make_session)
        session_module.products_saturate.cache_clear()
        return forms

    monkeypatch.setattr(network, "passed", lambda _: None)  # what another CPU showed, as it were
    yield pretend
    session_module.products_saturate.cache_clear()


def test_exact_products_where_the_probe_saturates(older_bundle: Path, cpu: Cpu) -> None:
    """Such a CPU loads the exact form and nothing else; one that multiplies right, the fast form."""
    texts = ["a text", "another, a little longer than the first"]
    expected = Embedder(older_bundle, threads=1).encode(texts)
    for saturates in (True, False):
        forms = cpu(probe=saturates, wrong={not saturates})
        made = Embedder(older_bundle, threads=1)
        assert (forms, made.exact) == ([saturates], saturates)
        assert np.abs(made.encode(texts) - expected).max() < 1e-5


@pytest.mark.parametrize("exact", [None, True, False])
def test_products_that_cannot_saturate(
    tiny_bundle: Path, cpu: Cpu, monkeypatch: pytest.MonkeyPatch, exact: bool | None
) -> None:
    """Of a bundle whose manifest says so there is one form: no CPU is probed, and no other form is tried."""
    monkeypatch.setattr(session_module, "PROBE", None)
    forms = cpu(probe=True, wrong={True})
    made = Embedder(tiny_bundle, threads=1, exact=exact)
    assert (forms, made.exact, made.golden_cosine > 0.999) == ([False], False, True)
    forms = cpu(probe=True, wrong={False})
    with pytest.raises(GoldenError, match=r"cosine 0\.\d+"):
        Embedder(tiny_bundle, threads=1, exact=exact)
    assert forms == [False]


def test_probe_decides_without_golden_vectors(older_bundle: Path, cpu: Cpu) -> None:
    """A bundle without golden texts gets the form that the CPU needs, too."""
    loaded = read_bundle(older_bundle)
    bare = replace(loaded, manifest=replace(loaded.manifest, golden=[]))
    for saturates in (True, False):
        forms = cpu(probe=saturates, wrong=set())
        made = Embedder(bare)
        assert (forms, made.golden_cosine) == ([saturates], 1.0)


@pytest.mark.parametrize("saturates", [False, True])
def test_golden_vectors_have_the_last_word(older_bundle: Path, cpu: Cpu, saturates: bool) -> None:
    """Where the form chosen does not reproduce them the other one is loaded; where neither does, none is used."""
    expected = Embedder(older_bundle, threads=1).encode(["a text"])
    forms = cpu(probe=saturates, wrong={saturates})
    made = Embedder(older_bundle, threads=1)
    assert forms == [saturates, not saturates]
    assert (made.exact, made.golden_cosine >= 0.999) == (not saturates, True)
    assert np.abs(made.encode(["a text"]) - expected).max() < 1e-5
    cpu(probe=saturates, wrong={False, True})
    with pytest.raises(GoldenError, match=r"cosine 0\.\d+"):
        Embedder(older_bundle, threads=1)


def test_cpu_is_probed_once(cpu: Cpu, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second embedder of the process asks the probe no more."""
    cpu(probe=True, wrong=set())
    assert session_module.products_saturate()
    monkeypatch.setattr(session_module, "make_session", None)
    assert session_module.products_saturate()


def test_probe_that_fails_is_our_error(older_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An onnxruntime built without the operator is told, not passed on."""
    monkeypatch.setattr(network, "passed", lambda _: None)
    monkeypatch.setattr(session_module, "PROBE", b"no model")
    session_module.products_saturate.cache_clear()
    with pytest.raises(EdgeEmbedError, match="cannot multiply int8 matrices"):
        Embedder(older_bundle, threads=1)


def test_batches_keep_the_budget() -> None:
    """Texts x longest text stays in the budget, longest first; a text over the budget goes alone."""
    assert list(batches([3, 9, 4], batch_tokens=12)) == [[1], [2, 0]]
    assert list(batches([], 10)) == []
    lengths = np.random.default_rng(0).integers(1, 60, 200).tolist()
    found = list(batches(lengths, 64))
    assert sorted(i for batch in found for i in batch) == list(range(200))
    assert all(len(b) == 1 or len(b) * max(lengths[i] for i in b) <= 64 for b in found)


def test_pad() -> None:
    """Ids are padded with 0 where the mask is 0."""
    feed = pad([np.array([5, 6, 7], np.int32), np.array([8], np.int32)])
    assert feed["input_ids"].tolist() == [[5, 6, 7], [8, 0, 0]]
    assert feed["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]


def test_progress_bar_goes_to_a_terminal(
    embedder: Embedder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Standard output stays clean for pipes, and so does stderr that is no terminal."""
    embedder.encode(["a", "b"], show_progress=True)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    embedder.encode(["a", "b"], show_progress=True)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "embedding" in captured.err


def test_a_failing_batch_among_several_threads(monkeypatch: pytest.MonkeyPatch, texts: list[str]) -> None:
    """What goes wrong in a thread reaches the caller, and the batches that wait are not run."""
    embedder = Embedder(threads=2, engine="onnxruntime")
    runs: list[int] = []

    def run(rows: list[Any], **_: Any) -> Any:
        runs.append(len(rows))
        raise EdgeEmbedError("the model failed")

    monkeypatch.setattr(embedder.network, "run", run)
    with pytest.raises(EdgeEmbedError, match="the model failed"):
        embedder.encode(texts * 20, batch_tokens=128)
    assert len(runs) < len(texts) * 20 / 2


def test_threads_share_the_budget_of_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two threads hold as many padded tokens as one does, and get equal shares of little work."""
    embedder = Embedder(threads=2, engine="onnxruntime")
    original, tokens = embedder.network.run, []

    def run(rows: list[Any], **_: Any) -> Any:
        tokens.append(len(rows) * max(map(len, rows)))
        return original(rows)

    monkeypatch.setattr(embedder.network, "run", run)
    embedder.encode(["one two three four"] * 200)
    assert max(tokens) <= network.BATCH_TOKENS / 2
    tokens.clear()
    embedder.encode(["one two three four"] * 16)
    assert tokens == [48, 48]
