"""embedder.py: a text has one vector; shapes never depend on the input."""

import gzip
import json
import os
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import refused_after_fork

from edge_embed import Embedder
from edge_embed.errors import InputError
from edge_embed_export.exporter import calibration_texts
from edge_embed_runtime import embedder as module
from edge_embed_runtime.embedder import batches, pad


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
    from edge_embed_runtime.bundle import Manifest, read_bundle, write_bundle

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


def test_meaning_is_found(embedder: Embedder) -> None:
    """The same question in other words is nearer than another question of the same words."""
    a, b, c = embedder.encode(["How do I reset my PIN?", "I forgot my card's secret code", "How do I pin a map?"])
    assert a @ b > a @ c


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Python 3.12 warns of fork with threads: that is the point
def test_use_after_fork_is_refused(embedder: Embedder) -> None:
    """onnxruntime's threads do not survive a fork; the child gets an error instead of a hang."""
    assert refused_after_fork(lambda: embedder.encode(["a"]), InputError)


class Saturating:
    """A session on a CPU whose 8-bit products saturate: vectors are off."""

    def __init__(self, session: Any) -> None:
        self.session = session

    def run(self, outputs: None, feed: dict[str, Any]) -> list[Any]:
        (vectors,) = self.session.run(outputs, feed)
        off = vectors + np.float32(0.01) * np.sign(vectors)
        return [off / np.linalg.norm(off, axis=1, keepdims=True)]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.session, name)


def test_exact_products_where_fast_ones_saturate(embedder: Embedder, monkeypatch: pytest.MonkeyPatch) -> None:
    """A CPU that does not reproduce the golden vectors with the fast kernels is given the exact ones."""
    original, forms = module.make_session, []

    def make_session(model: Any, threads: int, *, exact: bool = False) -> Any:
        forms.append(exact)
        session = original(model, threads, exact=exact)
        return session if exact else Saturating(session)

    monkeypatch.setattr(module, "make_session", make_session)
    texts = ["a text", "another, a little longer than the first"]
    assert np.array_equal(Embedder(threads=1).encode(texts), embedder.encode(texts))
    assert forms == [False, True]


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
