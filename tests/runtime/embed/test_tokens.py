"""tokenvectors.py, subgraph.py and the exporter's states.py: a vector for each token, from any layer."""

import json
import shutil
from base64 import b64encode
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import architectures, reference
from builders.bert import WORDS, Checkpoints
from click.testing import CliRunner

from edge_embed import Embedder
from edge_embed.cli.main import main
from edge_embed.errors import BundleFormatError, InputError, MemoryBudgetError
from edge_embed_export import export_model
from edge_embed_export.calibration import texts as shipped
from edge_embed_export.options import GraphOptions
from edge_embed_export.receipt import finish
from edge_embed_runtime.bundle.bundle import read_bundle
from edge_embed_runtime.bundle.manifest import MANIFEST, Layer
from edge_embed_runtime.onnxfile.mapped import without_weights
from edge_embed_runtime.onnxfile.outputs import part, pooled_value

TEXTS = ["the river bank", "money at the bank and in the house", "a cat", "", "the dog is in the garden at night " * 9]

pytestmark = pytest.mark.usefixtures("few_texts")

Bundles = Callable[..., Path]


@pytest.fixture
def few_texts(monkeypatch: pytest.MonkeyPatch, short_receipt: None) -> None:
    """Models are calibrated and measured on texts of the words that their tokenizer knows."""
    random = np.random.default_rng(0)
    texts = [" ".join(random.choice(WORDS, size)) for size in random.integers(0, 23, 48)]
    monkeypatch.setattr(shipped, "calibration_texts", lambda _: texts)
    monkeypatch.setattr(finish, "calibration_texts", lambda _: texts[:6])


@pytest.fixture
def exported(tmp_path: Path) -> Bundles:
    """The bundle of a family's small random model."""

    def make(name: str, precision: str = "fp32") -> Path:
        source = tmp_path / name
        if not source.exists():
            architectures.write(architectures.MODELS[name](), source)
        target = tmp_path / f"{name}.{precision}"
        export_model(source, target, precision=precision, floor=-1)
        return target

    return make


def cosines(first: Any, second: Any) -> Any:
    return (first * second).sum(axis=1) / np.linalg.norm(first, axis=1) / np.linalg.norm(second, axis=1)


@pytest.mark.parametrize("name", [name for name in reference.REFERENCES if name not in ("codet5p", "jina_v3")])
def test_last_layer_is_the_model(exported: Bundles, name: str) -> None:
    """Within 1e-4 of the model written down a second time, token by token, in float32; before pooling in any case."""
    model = architectures.MODELS[name]()
    embedder = Embedder(exported(name), threads=1)
    for found, text in zip(embedder.encode_tokens(TEXTS), TEXTS, strict=True):
        expected = reference.REFERENCES[name](model, embedder.tokenizer.encode(text).tolist())
        assert np.abs(found.vectors - expected).max() < 1e-4


@pytest.mark.parametrize("name", ["bert", "electra", "albert", "modernbert", "qwen3", "nvembed", "deberta"])
def test_layers_of_int8_models(exported: Bundles, name: str) -> None:
    """Every layer's states in int8 are those in float32, although channels are moved inside the int8 model."""
    exact, quantized = (Embedder(exported(name, precision), threads=1) for precision in ("fp32", "int8"))
    layers = exact.token_model.layers
    assert len(exact.manifest.layers) == layers + 1 == int(exact.manifest.architecture["layers"]) + 1
    for layer in range(layers + 1):
        pairs = zip(exact.encode_tokens(TEXTS, layer=layer), quantized.encode_tokens(TEXTS, layer=layer), strict=True)
        found = np.concatenate([cosines(a.vectors, b.vectors) for a, b in pairs])
        assert found.min() > 0.97
        assert found.mean() > 0.99


def test_moved_channels_are_moved_back(exported: Bundles) -> None:
    """A post-norm int8 model has channels moved behind each layer but the last; without that they would be far off."""
    path = exported("bert", "int8")
    bundle = read_bundle(path)
    assert [bool(layer.offset) for layer in bundle.manifest.layers] == [True, True, False]
    unmoved = replace(bundle.manifest, layers=[Layer(layer.value) for layer in bundle.manifest.layers])
    exact = Embedder(exported("bert"), threads=1).encode_tokens(TEXTS[:2], layer=1)
    wrong = Embedder(replace(bundle, manifest=unmoved), threads=1).encode_tokens(TEXTS[:2], layer=1)
    assert min(cosines(a.vectors, b.vectors).min() for a, b in zip(exact, wrong, strict=True)) < 0.95


@pytest.mark.parametrize(("name", "precision"), [("bert", "int8"), ("bert", "fp32"), ("qwen3", "int8")])
def test_a_token_has_one_vector(exported: Bundles, name: str, precision: str) -> None:
    """The same bits alone, in a batch, at any padding, number of threads and order of texts."""
    path = exported(name, precision)
    embedder = Embedder(path, threads=1)
    batch = embedder.encode_tokens(TEXTS, weights=[0.5, 1, 2])
    others = [
        [found for text in TEXTS for found in embedder.encode_tokens([text], weights=[0.5, 1, 2])],
        embedder.encode_tokens(TEXTS[::-1], weights=[0.5, 1, 2], batch_tokens=7)[::-1],
        Embedder(path, threads=2).encode_tokens(TEXTS, weights=[0.5, 1, 2], batch_tokens=64),
    ]
    model = embedder.token_model
    mix = model.mix(None, [0.5, 1, 2])
    padded = model._run(model._session(mix), mix, 0, [embedder.tokenizer.encode(text) for text in TEXTS])
    for i, found in enumerate(batch):
        for other in (*(texts[i].vectors for texts in others), padded[i]):
            assert np.array_equal(found.vectors.view(np.uint32), other.view(np.uint32))


def test_mean_of_tokens_is_the_text(bundle: Path) -> None:
    """The embedded bundle pools by the mean: that of the last layer's tokens is the vector of `encode`, which stays
    the same, bit for bit, whether or not tokens were asked for. (In onnxruntime, which always gives the tokens'.)"""
    embedder = Embedder(bundle, threads=1, engine="onnxruntime")
    texts = ["The ferry leaves at nine.", "", "日本 café " * 20, "x"]
    before = embedder.encode(texts)
    found = embedder.encode_tokens(texts)
    assert np.array_equal(before.view(np.uint32), embedder.encode(texts).view(np.uint32))
    means = np.array([tokens.vectors.mean(axis=0) for tokens in found])
    assert np.abs(cosines(means, before) - 1).max() < 1e-6
    unit = embedder.encode_tokens(texts, normalize=True)
    assert all(np.abs(np.linalg.norm(tokens.vectors, axis=1) - 1).max() < 1e-6 for tokens in unit)


def test_bank_of_the_river(embedder: Embedder) -> None:
    """The same word in other company: each "bank" is nearest to those of its own sense. On the embedded bundle."""
    river = ["the bank of the river", "they fished from the muddy bank of the stream", "the bank of the canal"]
    money = ["money at the bank", "he paid the loan at the bank", "the bank raised its interest rates"]
    rows = []
    for found in embedder.encode_tokens(river + money, normalize=True):
        rows.append(found.vectors[found.tokens.index("bank")])
    near = np.array(rows) @ np.array(rows).T - 2 * np.eye(6)
    assert [int(best) // 3 for best in near.argmax(axis=1)] == [0, 0, 0, 1, 1, 1]


def test_offsets(embedder: Embedder) -> None:
    """Characters of the given text, of several bytes too; special tokens and a prompt's have none."""
    text = "Das Café 日本 kostet 3€, naïve 👩‍👩‍👧 ende"
    (found,) = embedder.encode_tokens([text])
    said = [text[start:stop] for start, stop in found.offsets]
    assert found.tokens[0] == "[CLS]"
    assert found.tokens[-1] == "[SEP]"
    assert "".join(said) == "".join(text.split())
    assert said[said.index("Café") + 1 :][:2] == ["日", "本"]
    assert found.special.tolist() == [True, *[False] * (len(said) - 2), True]
    (prompted,) = embedder.encode_tokens([text], prompt="search query: ")
    kept = ~prompted.special
    assert np.array_equal(prompted.offsets[kept], found.offsets[~found.special])
    assert [t for t, k in zip(prompted.tokens, kept, strict=True) if k] == found.tokens[1:-1]
    assert prompted.tokens[1:4] == ["search", "query", ":"]
    assert (prompted.offsets[prompted.special][:, 0] == prompted.offsets[prompted.special][:, 1]).all()
    assert found.vectors.dtype == np.float32
    assert found.vectors.shape == (len(found.tokens), 384)


def test_tokens_that_join_prompt_and_text(embedder: Embedder) -> None:
    """A token of which a part is the prompt's belongs to the text with the other part."""
    (found,) = embedder.encode_tokens(["bank is closed"], prompt="river")
    assert found.tokens[1:3] == ["river", "##bank"]
    assert found.special.tolist() == [True, True, False, False, False, True]
    assert found.offsets.tolist() == [[0, 0], [0, 0], [0, 4], [5, 7], [8, 14], [14, 14]]


def test_truncated_text(embedder: Embedder) -> None:
    """Tokens beyond the model's limit are left out; what is there is the beginning of the text."""
    text = "word " * 5000
    (found,) = embedder.encode_tokens([text])
    assert len(found.tokens) == embedder.max_tokens == len(found.vectors)
    assert found.offsets[1:-1].tolist() == [[5 * i, 5 * i + 4] for i in range(embedder.max_tokens - 2)]
    assert embedder.encode_tokens([]) == []


def test_mix_of_layers(exported: Bundles) -> None:
    """The sum of layers, each times its number; layers count from either end; no softmax."""
    embedder = Embedder(exported("bert"), threads=1)
    (single,) = zip(*(embedder.encode_tokens(TEXTS[:1], layer=layer) for layer in range(3)), strict=True)
    (mixed,) = embedder.encode_tokens(TEXTS[:1], weights=[0.25, 0, -2])
    expected = 0.25 * single[0].vectors - 2 * single[2].vectors
    assert np.abs(mixed.vectors - expected).max() < 1e-6
    (other,) = embedder.encode_tokens(TEXTS[:1], weights={-1: -2, 0: 0.25})
    assert np.array_equal(mixed.vectors, other.vectors)
    (last,) = embedder.encode_tokens(TEXTS[:1], layer=-3)
    assert np.array_equal(last.vectors, single[0].vectors)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layer": 3}, r"layer is 3, expected 0 \(the embeddings\) to 2 .* to -3"),
        ({"layer": -4}, "layer is -4"),
        ({"layer": "1"}, "layer is '1'"),
        ({"layer": True}, "layer is True"),
        ({"layer": 1, "weights": [1, 1, 1]}, "give one of them"),
        ({"weights": [1, 1]}, "weights has 2 numbers, expected 3"),
        ({"weights": [0, 0, 0]}, "weights are all 0"),
        ({"weights": [0, float("nan"), 1]}, "layer 1 has nan"),
        ({"weights": [0, "1", 1]}, "layer 1 has '1'"),
        ({"weights": {-1: 1, 2: 1}}, "layer 2 has 1, expected one finite number a layer"),
        ({"weights": {7: 1}}, "weights: layer is 7"),
        ({"weights": "abc"}, "weights is str"),
        ({"weights": 3}, "weights is int"),
        ({"role": "typo"}, "role is 'typo'"),
        ({"batch_tokens": 0}, "batch_tokens is 0"),
    ],
)
def test_what_is_refused(tiny_bundle: Path, options: dict[str, Any], message: str) -> None:
    """Named, before anything is run."""
    with pytest.raises(InputError, match=message):
        Embedder(tiny_bundle, threads=1).encode_tokens(["the cat"], **options)


def test_texts_are_checked_as_in_encode(embedder: Embedder) -> None:
    """A bare text, and what is no text."""
    with pytest.raises(InputError, match="takes a list of texts"):
        embedder.encode_tokens("the cat")
    with pytest.raises(InputError, match="text 1"):
        embedder.encode_tokens(["a", 3])  # type: ignore[list-item]


def test_static_bundle_has_no_layers() -> None:
    """Said by name."""
    with pytest.raises(InputError, match="is static: a table of token vectors, without a network"):
        Embedder("static").encode_tokens(["the cat"])


def test_bundle_of_an_earlier_release(exported: Bundles) -> None:
    """A manifest that names no layers: the last is found by the graph's form, others are refused."""
    bundle = read_bundle(exported("electra", "int8"))
    before = Embedder(replace(bundle, manifest=replace(bundle.manifest, layers=[])), threads=1)
    (found,), (expected,) = (e.encode_tokens(TEXTS[:1]) for e in (before, Embedder(bundle, threads=1)))
    assert np.array_equal(found.vectors, expected.vectors)
    with pytest.raises(InputError, match=r"only the last \(layer=-1\) can be read"):
        before.encode_tokens(TEXTS[:1], layer=1)


@pytest.mark.parametrize("name", ["mpnet", "gte", "qwen3", "codet5p", "gritlm", "xlm_roberta"])
def test_pooled_value_is_found(exported: Bundles, name: str) -> None:
    """Whatever the pooling, and whatever follows it: the value that the exporter names as the last layer's."""
    bundle = read_bundle(exported(name))
    assert isinstance(bundle.model, Path)
    assert pooled_value(without_weights(bundle.model)) == bundle.manifest.layers[-1].value


def test_manifest_that_does_not_fit_its_model(exported: Bundles) -> None:
    """Values that the model has not, offsets that are none, and values that are no states: errors of ours."""
    bundle = read_bundle(exported("bert"))

    def encode(layer: Layer) -> None:
        changed = replace(bundle.manifest, layers=[*bundle.manifest.layers[:2], layer])
        Embedder(replace(bundle, manifest=changed), threads=1).encode_tokens(TEXTS)

    last = bundle.manifest.layers[2].value
    wrong = [
        (Layer("nothing"), "has no value 'nothing'"),
        (Layer("batch"), "layer 2 gave int64|float"),
        (Layer("embedding"), "layer 2 gave float32"),
        (Layer(last, "%%%"), "the offset of layer 2"),
        (Layer(last, b64encode(np.ones(5, "<f4").tobytes()).decode()), "layer 2 gave"),
        (Layer(last, b64encode(np.full(32, np.nan, "<f4").tobytes()).decode()), "offset of layer 2 is not finite"),
    ]
    for layer, message in wrong:
        with pytest.raises(BundleFormatError, match=message):
            encode(layer)


def test_manifests_without_layers_stay_as_they_are(bundle: Path, tiny_bundle: Path) -> None:
    """The field is written where there is something in it, and read again."""
    manifest = read_bundle(bundle).manifest
    assert "layers" not in json.loads(replace(manifest, layers=[]).to_json())
    assert len(read_bundle(tiny_bundle).manifest.layers) == 3
    changed = json.loads((tiny_bundle / MANIFEST).read_text())
    changed["layers"] = [{"value": "x"}]
    (tiny_bundle / MANIFEST).write_text(json.dumps(changed))
    with pytest.raises(BundleFormatError, match="not a valid manifest"):
        read_bundle(tiny_bundle)


def test_only_what_a_layer_needs_is_run(exported: Bundles) -> None:
    """The model that gives the embeddings has no weights of layers; it takes the same inputs."""
    onnx = pytest.importorskip("onnx")
    bundle = read_bundle(exported("bert", "int8"))
    assert isinstance(bundle.model, Path)
    whole = without_weights(bundle.model)
    graph = onnx.load_from_string(part(whole, [bundle.manifest.layers[0].value])).graph
    assert not [tensor.name for tensor in graph.initializer if tensor.name.startswith("layers.")]
    assert len(graph.node) < 15
    assert [value.name for value in graph.input] == ["input_ids", "attention_mask"]
    assert [value.name for value in graph.output] == [bundle.manifest.layers[0].value]


def test_memory_budget(bundle: Path) -> None:
    """A second session is within `max_rss_mb`, or refused with the least that works."""
    from edge_embed_runtime.system.memory import rss_bytes

    now = rss_bytes()
    if now is None:
        pytest.skip("this system does not tell how much memory a process has")
    embedder = Embedder(bundle, threads=1, max_rss_mb=now / 1e6 + 400)
    assert embedder.encode_tokens(["the cat"])[0].vectors.shape == (4, 384)
    embedder.token_model._read, embedder.token_model._limit = None, rss_bytes()
    with pytest.raises(MemoryBudgetError, match="the least is"):
        embedder.encode_tokens(["the cat"])


def test_command(tmp_path: Path, tiny_bundle: Path) -> None:
    """`edge-embed tokens` shows tokens and places; --json and -o have the vectors."""

    def run(*arguments: object) -> Any:
        return CliRunner().invoke(main, ["tokens", *map(str, arguments), "--bundle", str(tiny_bundle)])

    shown = [" ".join(line.split()) for line in run("the bank", "a").output.splitlines()]
    assert shown == ["the bank", "[CLS]", "0-3 the", "4-8 bank", "[SEP]", "a", "[CLS]", "0-1 a", "[SEP]"]
    listed = json.loads(run("the bank", "a", "--layer=1", "--json").output)["texts"]
    expected = Embedder(tiny_bundle, threads=1).encode_tokens(["the bank", "a"], layer=1)
    assert listed[0]["offsets"] == expected[0].offsets.tolist()
    assert np.array_equal(np.array(listed[1]["vectors"], np.float32), expected[1].vectors)
    assert run("the bank", "a", "--weights", "0,1,0", "-o", tmp_path / "t.npz").exit_code == 0
    with np.load(tmp_path / "t.npz") as stored:
        assert np.array_equal(stored["vectors"], np.concatenate([tokens.vectors for tokens in expected]))
        assert stored["texts"].tolist() == [0, 0, 0, 0, 1, 1, 1]
        assert stored["tokens"].tolist() == ["[CLS]", "the", "bank", "[SEP]", "[CLS]", "a", "[SEP]"]
    assert run("a", "--layer=9").exit_code == 1
    assert run("a", "--weights=x").exit_code == 2


needs_torch = pytest.mark.skipif(
    not (find_spec("torch") and find_spec("transformers")), reason="needs torch and transformers (extra parity)"
)


@needs_torch
@pytest.mark.parity
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", [name for name, make in architectures.MODELS.items() if make().known])
def test_layers_agree_with_transformers(exported: Bundles, tmp_path: Path, name: str) -> None:
    """Each of `hidden_states`, within 1e-4, in float32; ModernBERT's last is `last_hidden_state`, behind its norm."""
    import torch
    from transformers import AutoModel, MT5EncoderModel, T5EncoderModel, UMT5EncoderModel

    embedder = Embedder(exported(name), threads=1)
    encoders = {"t5": T5EncoderModel, "mt5": MT5EncoderModel, "umt5": UMT5EncoderModel}
    kind = encoders.get(architectures.MODELS[name]().config["model_type"], AutoModel)
    network = kind.from_pretrained(tmp_path / name, attn_implementation="eager").eval()
    for text in TEXTS:
        ids = torch.tensor(embedder.tokenizer.encode(text))[None]
        with torch.no_grad():
            given = network(input_ids=ids, attention_mask=torch.ones_like(ids), output_hidden_states=True)
        expected = [*given.hidden_states[:-1], given.last_hidden_state]
        assert len(expected) == embedder.token_model.layers + 1
        for layer, states in enumerate(expected):
            (found,) = embedder.encode_tokens([text], layer=layer)
            assert np.abs(found.vectors - states[0].numpy()).max() < 1e-4


def test_layers_survive_being_copied(checkpoint: Checkpoints, tmp_path: Path) -> None:
    """A bundle that was moved to another folder gives the same vectors."""
    export_model(checkpoint(), tmp_path / "a")
    (before,) = Embedder(tmp_path / "a", threads=1).encode_tokens(["the cat"], layer=1)
    shutil.move(tmp_path / "a", tmp_path / "b")
    (after,) = Embedder(tmp_path / "b", threads=1).encode_tokens(["the cat"], layer=1)
    assert np.array_equal(before.vectors, after.vectors)


def test_graph_of_unknown_structure(checkpoint: Checkpoints, tmp_path: Path) -> None:
    """A bundle made of somebody's ONNX file: the last layer by the graph's form, unless its pooling is inside it."""
    onnx = pytest.importorskip("onnx")
    export_model(checkpoint(), tmp_path / "own", precision="fp32")
    bundle = read_bundle(tmp_path / "own")
    model = onnx.load(bundle.model)
    last = bundle.manifest.layers[-1].value
    # the same states, a text after the other, as most published files have them
    shape = onnx.numpy_helper.from_array(np.array([32]), "hidden_size")
    model.graph.initializer.append(shape)
    helper = onnx.helper
    place = next(i for i, node in enumerate(model.graph.node) if last in node.output) + 1
    del model.graph.node[place:]
    del model.graph.output[:]
    model.graph.node.extend(
        [
            helper.make_node("Concat", ["length", "batch", "hidden_size"], ["by_token"], axis=0),
            helper.make_node("Reshape", [last, "by_token"], ["tokens_first"]),
            helper.make_node("Transpose", ["tokens_first"], ["states"], perm=[1, 0, 2]),
        ]
    )
    model.graph.output.append(helper.make_tensor_value_info("states", onnx.TensorProto.FLOAT, ["b", "s", 32]))
    (tmp_path / "published").mkdir()
    onnx.save(model, tmp_path / "published" / "model.onnx")
    shutil.copy(tmp_path / "own" / "tokenizer.json", tmp_path / "published")
    options = GraphOptions(pooling="mean")
    export_model(tmp_path / "published", tmp_path / "general", precision="fp32", max_tokens=24, graph=options)
    embedder = Embedder(tmp_path / "general", threads=1)
    assert not embedder.manifest.layers
    expected = Embedder(bundle, threads=1).encode_tokens(TEXTS)
    for found, own in zip(embedder.encode_tokens(TEXTS), expected, strict=True):
        assert np.abs(found.vectors - own.vectors).max() < 1e-5
    with pytest.raises(InputError, match="says nothing of its inner layers"):
        embedder.encode_tokens(TEXTS, layer=0)
    pooled = replace(embedder.network.bundle, manifest=replace(embedder.manifest, pooling="the graph's own"))
    with pytest.raises(InputError, match="does not say where its model has vectors of tokens"):
        Embedder(pooled, threads=1).encode_tokens(TEXTS)
