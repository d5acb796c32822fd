"""A bundle becomes a model: which one, with which options, and what callers see of it."""

from pathlib import Path

import numpy as np
import pytest
from builders.bert import word_tokenizer

from edge_embed.embedder import Embedder, bundle_path
from edge_embed.errors import BundleDamagedError, InputError
from edge_embed_runtime.bundle.bundle import file_records, open_bundle, write_bundle
from edge_embed_runtime.bundle.manifest import TABLE, TOKENIZER, Manifest
from edge_embed_runtime.inputs.tokenizer import sanitize
from edge_embed_runtime.model import options as module
from edge_embed_runtime.model.model import load_model
from edge_embed_runtime.model.network import Network
from edge_embed_runtime.model.options import Call, RunOptions
from edge_embed_runtime.model.static import StaticModel, write_table


@pytest.mark.parametrize(
    ("name", "engine", "kind"), [("minilm", "onnxruntime", Network), ("static", None, StaticModel)]
)
def test_the_bundle_chooses_the_model(name: str, engine: str | None, kind: type) -> None:
    """Texts become vectors of length 1 in either, of as many numbers as the call asks for. See also test_native.py."""
    model = load_model(open_bundle(bundle_path(name)), RunOptions(threads=2, engine=engine))
    assert type(model) is kind
    assert (model.threads, model.loaded.peak, model.loaded.golden_cosine > 0.999) == (2, 0, True)
    found = np.empty((3, 64), np.float32)
    for positions, vectors in model.encode(["a cat", "", "the river " * 50], Call(64, batch_tokens=512)):
        found[list(positions)] = vectors
    assert np.linalg.norm(found, axis=1) == pytest.approx(1, abs=1e-5)


def test_what_only_a_network_has() -> None:
    """A static model says that it has none; a network is its own."""
    with pytest.raises(InputError, match="without a network"):
        _ = load_model(open_bundle(bundle_path("static")), RunOptions()).network
    network = load_model(open_bundle(bundle_path(None)), RunOptions(threads=1, engine="onnxruntime"))
    assert network.network is network


def test_files_are_verified_before_the_model_is_made(tmp_path: Path) -> None:
    """One wrong byte of a table is an error, though a table of other numbers could be used."""
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in bundle_path("static").iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    table = bytearray((copy / TABLE).read_bytes())
    table[-1] ^= 1
    (copy / TABLE).write_bytes(table)
    with pytest.raises(BundleDamagedError, match=TABLE):
        load_model(open_bundle(copy), RunOptions())


def test_options(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads that nobody chose are those of the machine; in the background there is one."""
    monkeypatch.setattr(module, "default_threads", lambda: 7)
    assert (RunOptions().cores, RunOptions().most_cores) == (None, 7)
    assert (RunOptions(threads=3).cores, RunOptions(threads=3).most_cores) == (3, 3)
    assert (RunOptions(background=True).cores, RunOptions(background=True).most_cores) == (1, 1)
    assert (RunOptions().limit, RunOptions().dim(384), RunOptions(truncate_dim=64).dim(384)) == (None, 384, 64)
    for wrong in ({"threads": 0}, {"threads": 2, "background": True}, {"max_rss_mb": -1}):
        with pytest.raises(InputError, match="is "):
            RunOptions(**wrong)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="truncate_dim"):
        RunOptions(truncate_dim=385).dim(384)


TEXTS = [
    "", "a cat", "How do I renew my passport?", "\u200b", "the river " * 120, "word " * 5000, "日本 é", "[SEP]",
    "\0", "the " * 300,
]  # fmt: skip


@pytest.mark.parametrize("dim", [None, 64])
@pytest.mark.parametrize("name", ["minilm", "static"])
def test_one_text_has_the_bits_that_it_has_among_others(name: str, dim: int | None) -> None:
    """One text goes a way of its own: no bit differs, for texts without tokens, and for longer ones than the limit."""
    embedder = Embedder(name, threads=1, truncate_dim=dim)
    together = embedder.encode(TEXTS)
    for text, vector in zip(TEXTS, together, strict=True):
        for role in (None, "query"):
            alone = embedder.encode([text], role=role)
            assert alone.shape == (1, embedder.dim)
            assert alone.dtype == np.float32
            assert alone.tobytes() == vector.tobytes()
            assert alone.flags.writeable


def test_one_text_whose_rows_cancel_each_other(tmp_path: Path) -> None:
    """It has the vector of a text without tokens, as in a batch; int8 sums reach beyond 16 bits."""
    rows = np.array([[1, 2], [-1, -2], [127, -128], [3, 4]], np.int8)
    table = write_table({"scale": np.array([1, 0.5], np.float32), "rows": rows})
    vocab = {"yes": 0, "no": 1, "much": 2}
    model = {"type": "WordLevel", "vocab": vocab, "unk_token": "no"}
    definition = sanitize({**word_tokenizer(), "model": model, "added_tokens": [], "post_processor": None})
    files = {TABLE: table, TOKENIZER: definition}
    manifest = Manifest("tiny", file_records(files), 2, 10_000, "mean", {})
    write_bundle(tmp_path / "b", manifest, files)
    embedder = Embedder(tmp_path / "b", threads=1)
    texts = ["yes no", "yes", "much " * 255, "much " * 256, "much " * 5000]
    together = embedder.encode(texts)
    assert [embedder.encode([text]).tobytes() for text in texts] == [vector.tobytes() for vector in together]
    assert together[0] == pytest.approx(np.array([3, 2]) / 13**0.5)
    assert together[4] == pytest.approx(np.array([127, -64]) / (127**2 + 64**2) ** 0.5)
