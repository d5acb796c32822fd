"""static.py and words.py of the runtime, and the exporter's readers of static models."""

import gzip
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
from builders.bert import WORDS, word_tokenizer
from numpy.typing import NDArray
from safetensors.numpy import save_file

from edge_embed import Document, Embedder, Index
from edge_embed.embedder import bundle_path, default_bundle
from edge_embed.errors import (
    BundleDamagedError,
    BundleFormatError,
    ExportError,
    InputError,
    SourceError,
)
from edge_embed_export import export_model
from edge_embed_export.modules.folder import Folder
from edge_embed_export.sources.wordvectors import read_word_vectors
from edge_embed_export.static.sources import find_kind
from edge_embed_export.static.table import make_table, zipf_weights
from edge_embed_runtime.bundle.bundle import Bundle, file_records, read_bundle
from edge_embed_runtime.bundle.manifest import MANIFEST, TABLE, TOKENIZER, Manifest
from edge_embed_runtime.inputs.tokenizer import Tokenizer, sanitize
from edge_embed_runtime.model.static import read_table, write_table
from edge_embed_runtime.search.query import STATIC_TEXT_SHARE, TEXT_SHARE, Wanted

pytestmark = pytest.mark.usefixtures("short_receipt")

VOCAB = 5 + len(WORDS)
DIM = 8
ROWS: NDArray[np.float32] = np.random.default_rng(3).standard_normal((VOCAB, DIM)).astype(np.float32)
TEXTS = ["the cat is in the garden", "Money, at the bank!", "water of the river", "a", "", "zzz qqq", "the " * 700]


def normalised(vectors: NDArray[Any]) -> NDArray[np.float32]:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True), np.float32)


@pytest.fixture
def model2vec(tmp_path: Path) -> Callable[..., Path]:
    """Writes a model2vec folder with random vectors: model2vec(weights=..., mapping=...)."""

    def write(name: str = "m2v", embeddings: Any = ROWS, **tensors: Any) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        save_file({"embeddings": embeddings, **tensors}, folder / "model.safetensors")
        (folder / "tokenizer.json").write_text(json.dumps(word_tokenizer()))
        (folder / "config.json").write_text(json.dumps({"model_type": "model2vec", "normalize": True}))
        (folder / "README.md").write_text("---\nlicense: mit\n---\n")
        return folder

    return write


@pytest.fixture
def static_bundle(model2vec: Callable[..., Path], tmp_path: Path) -> Path:
    export_model(model2vec(), tmp_path / "static")
    return tmp_path / "static"


def glove(path: Path, rows: NDArray[Any] = ROWS[5:], words: list[str] = WORDS) -> Path:
    """A file in GloVe's form."""
    lines = (f"{word} {' '.join(f'{x:.5f}' for x in row)}" for word, row in zip(words, rows, strict=True))
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path


# --- what the models give


def test_model2vec_vectors(model2vec: Callable[..., Path], tmp_path: Path) -> None:
    """The normalised sum of weighted rows of known tokens: what model2vec computes, to int8's precision."""
    weights = np.linspace(0.2, 1, VOCAB, dtype=np.float32)
    mapping = np.roll(np.arange(VOCAB), 3).astype(np.int64)
    manifest = export_model(model2vec(weights=weights, mapping=mapping), tmp_path / "b", precision="fp32")
    embedder = Embedder(tmp_path / "b")
    ids = [5 + WORDS.index(word) for word in ("money", "at", "the", "bank")]  # "," and "!" are unknown
    expected = normalised((ROWS[mapping[ids]] * weights[ids, None]).sum(axis=0))
    assert np.allclose(embedder.encode(["Money, at the bank!"])[0], expected, atol=1e-6)
    assert manifest.provenance["licence"] == "mit"
    assert (manifest.architecture["kind"], embedder.exact) == ("model2vec", False)


def test_mapped_rows_are_shared(model2vec: Callable[..., Path], tmp_path: Path) -> None:
    """Tokens that a model2vec model gives the same row share it in the bundle."""
    mapping = (np.arange(VOCAB) % 4).astype(np.int64)
    export_model(model2vec(embeddings=ROWS[:4], mapping=mapping), tmp_path / "b", floor=0.99)
    tensors = read_table(tmp_path / "b" / TABLE, "the table")
    assert tensors["rows"].shape == (6, DIM)  # 4, one of zeros for unknown tokens, one for texts without tokens
    same = [WORDS[0], WORDS[4]]
    first, second = Embedder(tmp_path / "b").encode(same)
    assert np.array_equal(first, second)


def test_static_embedding_folder(tmp_path: Path) -> None:
    """sentence-transformers' StaticEmbedding counts unknown tokens like others."""
    inner = tmp_path / "st" / "0_StaticEmbedding"
    inner.mkdir(parents=True)
    save_file({"embedding.weight": ROWS}, inner / "model.safetensors")
    (inner / "tokenizer.json").write_text(json.dumps(word_tokenizer()))
    module = {"idx": 0, "name": "0", "path": inner.name, "type": "sentence_transformers.models.StaticEmbedding"}
    (tmp_path / "st" / "modules.json").write_text(json.dumps([module]))
    export_model(tmp_path / "st", tmp_path / "b", precision="fp32")
    cat, unknown = 5 + WORDS.index("cat"), 1
    found = Embedder(tmp_path / "b").encode(["cat zzz"])[0]
    assert np.allclose(found, normalised(ROWS[cat] + ROWS[unknown]), atol=1e-6)


def test_wordllama_folder(tmp_path: Path) -> None:
    """The folder of WordLlama's package holds one table and one tokenizer; more are refused."""
    source = tmp_path / "wordllama"
    (source / "weights").mkdir(parents=True)
    (source / "tokenizers").mkdir()
    save_file({"embedding.weight": ROWS.astype(np.float16)}, source / "weights" / "w.safetensors")
    (source / "tokenizers" / "t_tokenizer_config.json").write_text(json.dumps(word_tokenizer()))
    assert find_kind(Folder(source)) == "WordLlama"
    assert export_model(source, tmp_path / "b").dim == DIM
    (source / "weights" / "second.safetensors").write_bytes(b"")
    with pytest.raises(ExportError, match="more than one model"):
        export_model(source, tmp_path / "c")


def test_int8_is_near_float32(static_bundle: Path) -> None:
    """A scale for each column keeps a sum's direction."""
    receipt = read_bundle(static_bundle).manifest.receipt
    assert receipt["cosine_to_fp32"]["min"] > 0.999


# --- the promises


def test_a_text_has_one_vector(static_bundle: Path) -> None:
    """The same bits alone, in any batch and order, with any number of threads; of length 1, the empty text's too."""
    one, four = Embedder(static_bundle, threads=1), Embedder(static_bundle, threads=4)
    whole = one.encode(TEXTS * 300)
    assert np.abs(np.linalg.norm(whole, axis=1) - 1).max() < 1e-6
    for i, text in enumerate(TEXTS):
        assert np.array_equal(one.encode([text])[0], whole[i])
    assert np.array_equal(four.encode(TEXTS[::-1] * 300)[::-1], whole)
    assert one.encode([]).shape == (0, DIM)


def test_truncated_vectors_are_prefixes(static_bundle: Path) -> None:
    """truncate_dim keeps the first numbers, of length 1 again, for a text without tokens too."""
    whole, cut = Embedder(static_bundle), Embedder(static_bundle, truncate_dim=3)
    known = [text for text in TEXTS if text not in ("", "zzz qqq")]
    assert np.allclose(cut.encode(known), normalised(whole.encode(known)[:, :3]), atol=1e-6)
    assert np.abs(np.linalg.norm(cut.encode([""]), axis=1) - 1).max() < 1e-6


def test_long_texts_are_cut(static_bundle: Path) -> None:
    """Tokens beyond the limit do not count, whether characters or white space stand before them."""
    embedder = Embedder(static_bundle)
    limit = embedder.max_tokens
    within = embedder.encode(["cat " * limit])
    assert np.array_equal(embedder.encode(["cat " * limit + "dog " * 10_000]), within)
    spaced = embedder.encode(["cat" + " " * 20_000 + "dog"])
    assert np.array_equal(spaced, embedder.encode(["cat dog"]))


def test_typed_special_tokens_are_text(static_bundle: Path) -> None:
    """[SEP] from a user is a bracket, a word and a bracket."""
    embedder = Embedder(static_bundle)
    assert np.array_equal(embedder.encode(["cat [SEP] dog"]), embedder.encode(["cat [ sep ] dog"]))
    assert np.array_equal(embedder.encode(["cat [SEP] dog"]), embedder.encode(["cat dog"]))  # all three are unknown


def test_index_of_a_static_bundle(static_bundle: Path, tmp_path: Path) -> None:
    """An index works with a static bundle as with any other."""
    embedder = Embedder(static_bundle)
    documents = [Document(key=str(i), text=text) for i, text in enumerate(TEXTS[:3])]
    with Index.open(tmp_path / "i.db", embedder) as index:
        index.add(documents)
        assert [hit.key for hit in index.search("river water", k=1)] == ["2"]
        assert [hit.key for hit in index.search("river water", k=1, mode="vector")] == ["2"]
    with Index.open(tmp_path / "i.db", Embedder(static_bundle), read_only=True) as index:
        assert len(index) == 3


# --- words


def test_words_of_a_cased_word_tokenizer(tmp_path: Path) -> None:
    """A vocabulary with upper case keeps it."""
    path = glove(tmp_path / "v.txt", ROWS[:3], ["Bank", "bank", "river"])
    export_model(path, tmp_path / "b", precision="fp32")
    upper, lower = Embedder(tmp_path / "b").encode(["Bank", "bank"])
    assert not np.allclose(upper, lower)


# --- bundles that are wrong


def in_memory(table: bytes, tmp_path: Path, dim: int = DIM, **tokenizer: Any) -> Bundle:
    definition = sanitize({**word_tokenizer(), "post_processor": None, **tokenizer})
    files = file_records({TABLE: table, TOKENIZER: definition})
    manifest = Manifest("t", files, dim, 512, "static", {})
    return Bundle(tmp_path, manifest, table, definition)


def good_table(**changes: Any) -> bytes:
    arrays: dict[str, Any] = {
        "scale": np.ones(DIM, np.float32),
        "rows": np.ones((VOCAB + 1, DIM), np.int8),
    }
    return write_table({**arrays, **changes})


def test_tables_that_do_not_fit(tmp_path: Path) -> None:
    """A table that is not of this tokenizer or manifest, or could give no vector, is named and refused."""
    assert Embedder(in_memory(good_table(), tmp_path)).encode(["cat"]).shape == (1, DIM)
    place, rows = np.arange(VOCAB, dtype=np.int32), np.ones((VOCAB + 1, DIM), np.int8)
    bad: dict[str, bytes] = {
        "tokens": good_table(rows=np.ones((VOCAB, DIM), np.int8)),
        "columns": good_table(rows=np.ones((VOCAB + 1, DIM + 1), np.int8), scale=np.ones(DIM + 1, np.float32)),
        "scale that is no": good_table(scale=np.full(DIM, np.nan, np.float32)),
        "no row for texts": good_table(rows=np.zeros((VOCAB + 1, DIM), np.int8)),
        "places tokens": write_table({"place": place + 1, "scale": np.ones(DIM), "rows": rows}),
    }
    for message, table in bad.items():
        with pytest.raises(BundleFormatError, match=message):
            Embedder(in_memory(table, tmp_path))
    around = word_tokenizer()["post_processor"]
    with pytest.raises(BundleFormatError, match="special tokens"):
        Embedder(in_memory(good_table(), tmp_path, post_processor=around))


def with_header(**changes: Any) -> bytes:
    header = {
        "scale": {"dtype": "F32", "shape": [DIM], "data_offsets": [0, 32]},
        "rows": {"dtype": "I8", "shape": [2, DIM], "data_offsets": [32, 48]},
        **changes,
    }
    packed = json.dumps(header).encode()
    return len(packed).to_bytes(8, "little") + packed + b"\x01" * 48


@pytest.mark.parametrize(
    "table",
    [
        b"",
        b"\xff" * 40,
        (2).to_bytes(8, "little") + b"[]",
        with_header()[:-1],
        with_header() + b"x",
        with_header(more={"dtype": "F32", "shape": [1], "data_offsets": [48, 52]}),
        with_header(rows={"dtype": "F64", "shape": [2, 1], "data_offsets": [32, 48]}),
        with_header(rows={"dtype": "I8", "shape": [2, DIM], "data_offsets": [0, 16]}),
        with_header(rows={"dtype": "I8", "shape": [-2, -DIM], "data_offsets": [32, 48]}),
        with_header(rows={"dtype": "I8", "shape": [2**40, 2**40], "data_offsets": [32, 48]}),
        with_header(rows={"shape": [2, DIM]}),
        with_header(rows=None),
    ],
)
def test_malformed_tables(table: bytes, tmp_path: Path) -> None:
    """A table file that is no table is an error, from bytes and from a file."""
    (tmp_path / TABLE).write_bytes(table)
    for source in (table, tmp_path / TABLE):
        with pytest.raises(BundleFormatError, match="not a table of token vectors"):
            read_table(source, "the table")
    assert set(read_table(with_header(), "the table")) == {"scale", "rows"}


@pytest.mark.parametrize("name", [TABLE, TOKENIZER, MANIFEST])
def test_changed_static_bundle_is_refused(static_bundle: Path, name: str) -> None:
    """One wrong byte anywhere, or a missing or foreign file, is an error."""
    data = bytearray((static_bundle / name).read_bytes())
    data[len(data) // 2] ^= 1
    (static_bundle / name).write_bytes(data)
    with pytest.raises((BundleDamagedError, BundleFormatError)):
        Embedder(static_bundle)
    (static_bundle / name).unlink()
    with pytest.raises((BundleDamagedError, BundleFormatError)):
        Embedder(static_bundle)


# --- sources that are wrong


def test_tables_that_do_not_fit_their_tokenizer(model2vec: Callable[..., Path], tmp_path: Path) -> None:
    """Too few rows, weights of another length, places outside the table, NaN: named, and nothing is written."""
    nan = ROWS.copy()
    nan[3, 3] = np.nan
    bad: dict[str, dict[str, Any]] = {
        "do not belong together": {"embeddings": ROWS[:-1]},
        "weights for": {"weights": np.ones(3, np.float32)},
        "not among the": {"mapping": np.full(VOCAB, VOCAB, np.int64)},
        "NaN": {"embeddings": nan},
        "no table": {"embeddings": ROWS[0]},
    }
    for i, (message, tensors) in enumerate(bad.items()):
        with pytest.raises(ExportError, match=message):
            export_model(model2vec(str(i), **tensors), tmp_path / "b")
    assert not (tmp_path / "b").exists()


def test_cut_off_safetensors(model2vec: Callable[..., Path], tmp_path: Path) -> None:
    """A truncated file is named; so is a missing one, and options that are for other sources."""
    folder = model2vec()
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(ExportError, match="not a whole safetensors"):
        export_model(folder, tmp_path / "b")
    path.unlink()
    with pytest.raises(SourceError, match="missing"):
        export_model(folder, tmp_path / "b")
    for options in ({"words": 3}, {"sif": 0.1}, {"precision": "int4"}, {"search": True}):
        with pytest.raises(InputError):
            export_model(model2vec(f"m{len(options)}{next(iter(options))}"), tmp_path / "b", **options)  # type: ignore[arg-type]


# --- word vectors


def test_word_vectors(tmp_path: Path) -> None:
    """A file of GloVe becomes a bundle: lower case, unknown words and words that no text gives left out."""
    words = [*WORDS, "10,000", "u.s.", "!"]
    rows = np.vstack([ROWS[5:], ROWS[:3]])
    manifest = export_model(glove(tmp_path / "v.txt", rows, words), tmp_path / "b", precision="fp32")
    assert manifest.provenance["words"] == len(WORDS) + 1
    embedder = Embedder(tmp_path / "b")
    cat, dog = ROWS[5 + WORDS.index("cat")], ROWS[5 + WORDS.index("dog")]
    assert np.allclose(embedder.encode(["Cat zzz DOG"])[0], normalised(cat + dog), atol=1e-4)
    with gzip.open(tmp_path / "v.txt.gz", "wb") as file:
        file.write((tmp_path / "v.txt").read_bytes())
    zipped = read_word_vectors(tmp_path / "v.txt.gz")
    assert zipped.words == words
    assert read_word_vectors(tmp_path / "v.txt", 3).words == words[:3]


def test_sif_weights_count_rare_words_more(tmp_path: Path) -> None:
    """a / (a + p) with Zipf's p: half for p = a, and in the bundle's vectors."""
    weights = zipf_weights(range(1000), 1e-3)
    assert (np.diff(weights) > 0).all()
    assert weights[0] == pytest.approx(1e-3 / (1e-3 + 0.5 / sum(1 / r for r in range(2, 1002))), rel=1e-5)
    export_model(glove(tmp_path / "v.txt"), tmp_path / "b", precision="fp32", sif=0.01)
    own = zipf_weights(range(len(WORDS)), 0.01)
    the, blue = WORDS.index("the"), WORDS.index("blue")
    expected = normalised(ROWS[5 + the] * own[the] + ROWS[5 + blue] * own[blue])
    assert np.allclose(Embedder(tmp_path / "b").encode(["the blue"])[0], expected, atol=1e-4)


def word2vec(words: list[str], rows: NDArray[Any], *, ends: bytes = b"\n", header: str = "") -> bytes:
    parts = (word.encode() + b" " + row.astype("<f4").tobytes() + ends for word, row in zip(words, rows, strict=True))
    return (header or f"{len(words)} {rows.shape[1]}").encode() + b"\n" + b"".join(parts)


@pytest.mark.parametrize("ends", [b"\n", b""])
def test_word2vec_files(tmp_path: Path, ends: bytes) -> None:
    """Binary files with and without line ends, and text with a header, give the same words and numbers."""
    path = tmp_path / "v.bin"
    path.write_bytes(word2vec(["köln", "b", ". . ."][:2], ROWS[:2], ends=ends))
    found = read_word_vectors(path)
    assert found.words == ["köln", "b"]
    assert np.array_equal(found.vectors, ROWS[:2])
    assert read_word_vectors(path, 1).words == ["köln"]
    text = glove(tmp_path / "v.txt", ROWS[:2], ["köln", ". . ."])
    text.write_text(f"2 {DIM}\n" + text.read_text("utf-8"), "utf-8")
    assert read_word_vectors(text).words == ["köln", ". . ."]


BINARY = word2vec(["a", "b"], ROWS[:2])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "line 1"),
        (b"a\n", "line 1"),
        (b"a 1 2\nb 1\n", "line 2.*got 1 numbers"),
        (b"a 1 2\nb 1 x\n", "line 2.*could not convert"),
        (b"a 1 2\nb 1 nan\n", "line 2.*NaN"),
        (b"a 1 2\nb 1 1e60\n", "line 2.*infinity"),
        (b"a 1 2\na 3 4\n", "line 2.*'a' was there before"),
        (b"a 1 2\n\xff\xfe 3 4\n", "line 2.*not UTF-8"),
        (b"3 2\na 1 2\nb 3 4\n", "ends after 2 words.*says 3"),
        (b"1 2\na 1 2\nb 3 4\n", "says 1 words, there are more"),
        (BINARY[:-9], "word 2.*cut off"),
        (BINARY + b"more", "more after the 2 words"),
        (word2vec(["a", "b"], ROWS[:2], header=f"3 {DIM}"), "cut off"),
        (word2vec(["a", "a"], ROWS[:2]), "word 2.*was there before"),
        (b"\x1f\x8b\x08broken", "line 1"),
    ],
)
@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
def test_malformed_word_vectors(tmp_path: Path, content: bytes, message: str) -> None:
    """A file that is cut off or wrong is an error with the line or the word."""
    path = tmp_path / "v.txt"
    path.write_bytes(content)
    with pytest.raises(SourceError, match=message):
        read_word_vectors(path)


def test_word_vectors_without_usable_words(tmp_path: Path) -> None:
    """No word that a text can give, and a broken .gz, are named."""
    with pytest.raises(ExportError, match="none of its 1 words"):
        export_model(glove(tmp_path / "v.txt", ROWS[:1], ["10,000"]), tmp_path / "b")
    (tmp_path / "v.gz").write_bytes(b"\x1f\x8b\x08broken")
    with pytest.raises(SourceError, match="cannot be read"):
        read_word_vectors(tmp_path / "v.gz")


# --- names, and what is imported


def test_embedded_bundles_have_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ "minilm" is the default bundle; a folder of that name is "./minilm"."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "minilm").mkdir()
    assert bundle_path("minilm") == default_bundle()
    assert bundle_path("./minilm") == Path("minilm")
    assert bundle_path(Path("minilm")) == Path("minilm")
    assert Embedder("minilm").fingerprint == Embedder().fingerprint


def test_static_tables_of_float32(tmp_path: Path) -> None:
    """A table of float32 gives what an int8 table of whole numbers gives."""
    rows = np.random.default_rng(0).integers(-127, 128, (VOCAB + 1, DIM)).astype(np.float32)
    rows[0] = 127
    eight, full = (make_table(rows, None, int8=kind) for kind in (True, False))
    texts = ["cat dog", "the river"]
    first, second = (Embedder(in_memory(table, tmp_path)).encode(texts) for table in (eight, full))
    assert np.allclose(first, second, atol=1e-6)


def test_tokenizer_ids_are_those_of_tokenizers(tmp_path: Path) -> None:
    """The ids behind a static model's vectors are those of the tokenizers package."""
    definition = sanitize({**word_tokenizer(), "post_processor": None})
    plain = tokenizers.Tokenizer.from_buffer(definition)
    ours = Tokenizer(definition, 512)
    assert [row.tolist() for row in ours.encode_all(TEXTS[:6])] == [plain.encode(text).ids for text in TEXTS[:6]]


def test_command_line(model2vec: Callable[..., Path], tmp_path: Path) -> None:
    """export, encode and info work with a static bundle from the command line."""

    def call(*arguments: str) -> str:
        command = [sys.executable, "-m", "edge_embed", *arguments]
        return subprocess.run(command, capture_output=True, check=True, text=True, cwd=tmp_path, input="a cat\n").stdout

    glove(tmp_path / "v.txt")
    made = json.loads(call("export", "v.txt", "b", "--words", "20", "--sif", "0.01", "--json"))
    assert made["provenance"]["sif"] == 0.01
    call("encode", "-", "-o", "v.npy", "--bundle", "b")
    assert np.load(tmp_path / "v.npy").shape == (1, DIM)
    assert "static" in call("info", "b")


def test_hybrid_search_gives_words_more_weight(static_bundle: Path, tmp_path: Path) -> None:
    """Static vectors say less than a model's: in a hybrid search the words have a larger share."""
    with Index.open(tmp_path / "i.db", Embedder(static_bundle)) as index:
        found, _ = index._models.query(index._store, "river", "hybrid", None, Wanted(10), {})
    assert found.text_share == STATIC_TEXT_SHARE > TEXT_SHARE
