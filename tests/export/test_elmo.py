"""elmo.py and characters.py: words by their characters, against the model written down a second time."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders.bert import Checkpoints
from click.testing import CliRunner
from safetensors.numpy import load_file, save_file

from edge_embed import Embedder
from edge_embed.cli.main import main
from edge_embed.errors import BundleFormatError, ExportError, InputError, MissingExtraError, SourceError
from edge_embed_export import export_model
from edge_embed_export.elmo.reading import cell_name
from edge_embed_runtime.bundle.bundle import read_bundle
from edge_embed_runtime.inputs.characters import character_ids
from edge_embed_runtime.model.session import make_session

Array = np.ndarray[Any, Any]

P, C, E = 24, 40, 4  # numbers of a projection, of a memory, of a character
FILTERS = [[1, 4], [2, 8], [3, 8]]
OPTIONS = {
    "lstm": {
        "use_skip_connections": True, "projection_dim": P, "cell_clip": 0.7, "proj_clip": 0.6, "dim": C, "n_layers": 2
    },
    "char_cnn": {
        "activation": "relu", "filters": FILTERS, "n_highway": 2, "embedding": {"dim": E}, "n_characters": 262,
        "max_characters_per_token": 50,
    },
}  # fmt: skip
TEXTS = ["the bank of the river", "", "money", "Ünïcode, 日本 and a word of many bytes: " + "xy" * 60, "a b " * 30]

pytestmark = pytest.mark.usefixtures("short_receipt")


def tensors() -> dict[str, Array]:
    random = np.random.default_rng(0)

    def normal(*shape: int) -> Array:
        return (random.standard_normal(shape) * 0.35).astype(np.float32)

    wide = sum(count for _, count in FILTERS)
    found = {"char_embed": normal(261, E), "CNN_proj/W_proj": normal(wide, P), "CNN_proj/b_proj": normal(P)}
    for i, (width, count) in enumerate(FILTERS):
        found |= {f"CNN/W_cnn_{i}": normal(1, width, E, count), f"CNN/b_cnn_{i}": normal(count)}
    for i in range(2):
        for part in ("carry", "transform"):
            found |= {f"CNN_high_{i}/W_{part}": normal(wide, wide), f"CNN_high_{i}/b_{part}": normal(wide)}
        for layer in range(2):
            found[cell_name(i, layer, "W_0")] = normal(2 * P, 4 * C)
            found[cell_name(i, layer, "B")] = normal(4 * C)
            found[cell_name(i, layer, "W_P_0")] = normal(C, P)
    return found


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """The folder of a small random ELMo whose states reach their limits."""
    folder = tmp_path / "elmo"
    folder.mkdir()
    (folder / "options.json").write_text(json.dumps(OPTIONS))
    save_file(tensors(), folder / "model.safetensors")
    return folder


def sigmoid(x: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-x)))


def reference(words: list[bytes]) -> list[Array]:
    """States [words + 2, 2 P] of one text in float64: by characters, and behind both layers. Word by word, from the
    paper and from what the published options mean."""
    t = {name: array.astype(np.float64) for name, array in tensors().items()}
    rows = []
    for inner in ([256], *map(list, words), [257]):
        spelled = [258, *inner[:48], 259]
        letters = t["char_embed"][spelled + [260] * (50 - len(spelled))]
        found: list[float] = []
        for i, (width, _) in enumerate(FILTERS):
            kernel, bias = t[f"CNN/W_cnn_{i}"][0], t[f"CNN/b_cnn_{i}"]
            at = [np.tensordot(letters[j : j + width], kernel, 2) + bias for j in range(51 - width)]
            found += np.maximum(np.max(at, axis=0), 0).tolist()
        x = np.array(found)
        for i in range(2):
            carry = sigmoid(x @ t[f"CNN_high_{i}/W_carry"] + t[f"CNN_high_{i}/b_carry"])
            changed = np.maximum(x @ t[f"CNN_high_{i}/W_transform"] + t[f"CNN_high_{i}/b_transform"], 0)
            x = carry * changed + (1 - carry) * x
        rows.append(x @ t["CNN_proj/W_proj"] + t["CNN_proj/b_proj"])
    forward = backward = np.array(rows)
    states = [np.hstack([forward, backward])]
    for layer in range(2):
        ahead = run(t, forward, 0, layer)
        back = run(t, backward[::-1], 1, layer)[::-1]
        forward, backward = (ahead + forward, back + backward) if layer else (ahead, back)
        states.append(np.hstack([forward, backward]))
    return states


def run(t: dict[str, Array], words: Array, direction: int, layer: int) -> Array:
    weight, bias, back = (t[cell_name(direction, layer, part)] for part in ("W_0", "B", "W_P_0"))
    told, memory, found = np.zeros(P), np.zeros(C), []
    for word in words:
        i, j, f, o = np.split(np.concatenate([word, told]) @ weight + bias, 4)
        memory = np.clip(sigmoid(f + 1) * memory + sigmoid(i) * np.tanh(j), -0.7, 0.7)
        told = np.clip((sigmoid(o) * np.tanh(memory)) @ back, -0.6, 0.6)
        found.append(told)
    return np.array(found)


def test_agrees_with_the_reference(source: Path, tmp_path: Path) -> None:
    """Every layer, their mix, and the mean of the words as the text's vector: within 1e-5 in float32."""
    manifest = export_model(source, tmp_path / "fp32", precision="fp32")
    assert (manifest.inputs, manifest.dim, manifest.pooling) == ("characters", 2 * P, "mean of words")
    embedder = Embedder(tmp_path / "fp32", threads=1)
    assert embedder.token_model.layers == 2
    mixed = embedder.encode_tokens(TEXTS, weights=[1 / 3] * 3)
    limits = 0
    for text, vector, mix in zip(TEXTS, embedder.encode(TEXTS), mixed, strict=True):
        words = [text[start:stop].encode() for start, stop in mix.offsets[1:-1]]
        expected = reference(words)
        limits += int((np.abs(expected[1]) >= 0.6).sum())
        for layer in range(3):
            (found,) = embedder.encode_tokens([text], layer=layer)
            assert np.abs(found.vectors - expected[layer]).max() < 1e-5
        mean = np.mean(expected, axis=0)
        assert np.abs(mix.vectors - mean).max() < 1e-5
        pooled = mean[1:-1].mean(axis=0) if words else mean.mean(axis=0)
        assert np.abs(vector - pooled / np.linalg.norm(pooled)).max() < 1e-5
    assert limits > 20  # the limits of states were reached


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_text_has_one_vector(source: Path, tmp_path: Path, precision: str) -> None:
    """The same bits alone and at any padding, although one direction begins at the end: also for weights that kernels
    do not repack, for any number of threads, and for each word."""
    export_model(source, tmp_path / "bundle", precision=precision)
    embedder = Embedder(tmp_path / "bundle", threads=1)
    rows = [embedder.tokenizer.encode(text) for text in TEXTS]
    model = read_bundle(tmp_path / "bundle").model
    for session in (
        embedder.network.session,
        make_session(model, 1, prepacked=False),
        make_session(model, 2),
        make_session(model, 1, exact=True),
    ):
        (whole,) = embedder.network.outputs(session, rows)
        alone = np.vstack([embedder.network.outputs(session, [row])[0] for row in rows])
        assert np.array_equal(whole.view(np.uint32), alone.view(np.uint32))
    vectors = embedder.encode(TEXTS)
    assert np.array_equal(vectors, Embedder(tmp_path / "bundle", threads=2).encode(TEXTS, batch_tokens=40))
    batch = embedder.encode_tokens(TEXTS, layer=1)
    for text, found in zip(TEXTS, batch, strict=True):
        (single,) = embedder.encode_tokens([text], layer=1)
        assert np.array_equal(found.vectors.view(np.uint32), single.vectors.view(np.uint32))


def test_int8(source: Path, tmp_path: Path) -> None:
    """By the command: smaller, near the float model, verified like any bundle, and a word's vector has its company."""
    result = CliRunner().invoke(main, ["export", str(source), str(tmp_path / "b"), "--json"])
    assert result.exit_code == 0, result.output
    whole = export_model(source, tmp_path / "fp32", precision="fp32")
    manifest = read_bundle(tmp_path / "b").manifest
    assert manifest.receipt["cosine_to_fp32"]["min"] > 0.999
    assert manifest.files["model.onnx"].size < whole.files["model.onnx"].size
    embedder = Embedder(tmp_path / "b", threads=1)
    assert embedder.golden_cosine > 0.999
    first, second = embedder.encode_tokens(["the bank of the river", "money at the bank"])
    near = first.vectors[first.tokens.index("bank")] - second.vectors[second.tokens.index("bank")]
    assert np.abs(near).max() > 1e-3
    plain = [tokens.vectors[tokens.tokens.index("bank")] for tokens in embedder.encode_tokens(TEXTS[:1] * 2, layer=0)]
    assert np.array_equal(plain[0], plain[1])
    for options in ({"precision": "int4"}, {"prompts": {"query": "x"}}, {"table": "int4"}, {"task": "x"}):
        with pytest.raises(InputError, match=r"is an ELMo model, .* there is no use for"):
            export_model(source, tmp_path / "c", **options)


def test_words_and_their_places(source: Path, tmp_path: Path) -> None:
    """Words are what white space and punctuation part; each is 50 numbers, long ones are cut, texts too."""
    export_model(source, tmp_path / "b", precision="fp32", max_tokens=12)
    embedder = Embedder(tmp_path / "b", threads=1)
    (found,) = embedder.encode_tokens(["Don't panic, 日本!"])
    assert found.tokens == ["<S>", "Don", "'", "t", "panic", ",", "日本", "!", "</S>"]
    assert found.special.tolist() == [True, *[False] * 7, True]
    ids = embedder.tokenizer.encode("a")
    assert ids.shape == (3, 50)
    assert ids[:, :4].tolist() == [[259, 257, 260, 261], [259, 98, 260, 261], [259, 258, 260, 261]]
    assert character_ids(b"z" * 60)[[0, 48, 49]].tolist() == [259, 123, 260]
    (cut,) = embedder.encode_tokens(["word " * 500])
    assert len(cut.tokens) == 12
    (prompted,) = embedder.encode_tokens(["bank"], prompt="river ")
    assert prompted.tokens == ["<S>", "river", "bank", "</S>"]
    assert prompted.special.tolist() == [True, True, False, True]


def test_own_tokenizer(source: Path, tmp_path: Path, checkpoint: Checkpoints) -> None:
    """A tokenizer.json in the folder finds the words; one without special tokens around a text is refused."""
    definition = json.loads((checkpoint() / "tokenizer.json").read_text())
    definition["pre_tokenizer"] = {"type": "WhitespaceSplit"}
    definition["model"]["max_input_chars_per_word"] = 1
    (source / "tokenizer.json").write_text(json.dumps(definition))
    export_model(source, tmp_path / "b", precision="fp32")
    (found,) = Embedder(tmp_path / "b", threads=1).encode_tokens(["Don't panic"])
    assert found.tokens == ["[CLS]", "Don't", "panic", "[SEP]"]
    definition["post_processor"] = None
    (source / "tokenizer.json").write_text(json.dumps(definition))
    with pytest.raises((ExportError, BundleFormatError), match="one special token before a text"):
        export_model(source, tmp_path / "c", precision="fp32")


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("lstm", "dim"), 41, r"W_0 has shape .* options\.json says \(48, 164\)"),
        (("lstm", "dim"), 0, "does not describe an ELMo model"),
        (("lstm", "dim"), True, "does not describe an ELMo model"),
        (("lstm", "n_layers"), 3, "no tensor 'RNN_0/RNN/MultiRNNCell/Cell2/LSTMCell/W_0'"),
        (("lstm", "n_layers"), 2**31, "does not describe"),
        (("char_cnn", "activation"), "mish", "does not describe"),
        (("char_cnn", "filters"), [[60, 4]], "does not describe"),
        (("char_cnn", "filters"), 3, "does not describe"),
        (("char_cnn", "max_characters_per_token"), 40, "only 50 is supported"),
        (("char_cnn", "n_highway"), 3, "no tensor 'CNN_high_2/W_carry'"),
        (("char_cnn", "embedding"), {"dim": 5}, "char_embed has shape"),
        (("lstm",), None, "does not describe"),
    ],
)
def test_options_that_do_not_fit(source: Path, tmp_path: Path, path: tuple[str, ...], value: Any, message: str) -> None:
    """Named; nothing is written."""
    options = json.loads(json.dumps(OPTIONS))
    inner = options
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = value
    (source / "options.json").write_text(json.dumps(options))
    with pytest.raises((ExportError, SourceError), match=message):
        export_model(source, tmp_path / "b")
    assert not (tmp_path / "b").exists()


def test_weights_that_are_not_there(source: Path, tmp_path: Path) -> None:
    """A folder with the published hdf5 file alone, and weights that are no numbers."""
    broken = load_file(source / "model.safetensors")
    broken["char_embed"][3, 1] = np.nan
    save_file(broken, source / "model.safetensors")
    with pytest.raises(ExportError, match="holds NaN or infinity"):
        export_model(source, tmp_path / "b")
    (source / "model.safetensors").unlink()
    with pytest.raises(SourceError, match=r"model\.safetensors is missing"):
        export_model(source, tmp_path / "b")


def test_as_it_was_published(source: Path, tmp_path: Path) -> None:
    """The two files that were published, under names of their own, give the bundle of the converted one."""
    h5py = pytest.importorskip("h5py", reason="needs h5py (extra elmo)")
    first = export_model(source, tmp_path / "a", precision="fp32")
    held = load_file(source / "model.safetensors")
    (source / "model.safetensors").unlink()
    (source / "options.json").rename(source / "elmo_2x16_options.json")
    path = source / "elmo_2x16_weights.hdf5"
    with h5py.File(path, "w") as file:
        for name, array in held.items():
            file[name] = array
    assert export_model(source, tmp_path / "b", precision="fp32").fingerprint == first.fingerprint
    with h5py.File(path, "a") as file:
        file["char_embed"][3, 1] = np.nan
    with pytest.raises(ExportError, match="'char_embed' holds NaN"):
        export_model(source, tmp_path / "c")
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(ExportError, match="is not a whole hdf5 file"):
        export_model(source, tmp_path / "c")


def test_hdf5_without_h5py(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (source / "model.safetensors").rename(source / "weights.hdf5")
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(MissingExtraError, match=r"edge-embed\[elmo\]"):
        export_model(source, tmp_path / "c")


def test_inputs_of_a_later_release(source: Path, tmp_path: Path) -> None:
    """A model that reads something that is not known here is refused when it is loaded."""
    from dataclasses import replace

    export_model(source, tmp_path / "b", precision="fp32")
    bundle = read_bundle(tmp_path / "b")
    with pytest.raises(BundleFormatError, match="the model reads 'pixels'"):
        Embedder(replace(bundle, manifest=replace(bundle.manifest, inputs="pixels")), threads=1)
