"""Long texts: attention in blocks gives what it gives at once, in memory that grows with the length alone."""

import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from builders import architectures
from builders.architectures import MODELS, write
from builders.bert import WORDS, Checkpoints
from builders.checkpoints import read_checkpoint
from numpy.typing import NDArray
from onnx import TensorProto, helper

from edge_embed import Embedder
from edge_embed.errors import BundleFormatError, DeadlineError
from edge_embed_export import export_model
from edge_embed_export.calibration import texts as shipped
from edge_embed_export.families.known import read_family
from edge_embed_export.receipt import finish
from edge_embed_export.transformer import blockwise, spec
from edge_embed_export.transformer import builder as graph
from edge_embed_export.transformer.blockwise import Span, seen
from edge_embed_export.transformer.encoder import build
from edge_embed_export.transformer.positions import alibi, visible
from edge_embed_runtime.bundle.manifest import MODEL
from edge_embed_runtime.model import budget, deadline
from edge_embed_runtime.model.session import make_session
from edge_embed_runtime.onnxfile.allowed import check_model

LENGTHS = (2, 3, 4, 5, 8, 9, 12, 13, 15, 16, 17, 20, 24)
# not in blocks: a table of positions by query and key for each text
WHOLE_SQUARES = ("deberta", "deberta_v1", "deberta_without_buckets")
BLOCKWISE = [name for name in MODELS if name not in WHOLE_SQUARES]
Run = Callable[[list[NDArray[np.int64]]], NDArray[np.float32]]


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts of some twenty tokens are long."""
    for module, name, value in (
        (spec, "WHOLE", 16),
        (blockwise, "ROWS", 4),
        (blockwise, "ROWS_WITH_HEADS", 3),
        (blockwise, "APART", 10),
    ):
        monkeypatch.setattr(module, name, value)


@pytest.fixture
def some_words(monkeypatch: pytest.MonkeyPatch, short_receipt: None) -> None:
    """Calibration with texts of the words that the tiny tokenizer knows."""
    random = np.random.default_rng(0)
    texts = [" ".join(random.choice(WORDS, size)) for size in random.integers(0, 23, 24)]
    for module in (shipped, finish):
        monkeypatch.setattr(module, "calibration_texts", lambda _: texts)


def runner(model: onnx.ModelProto, threads: int = 1) -> Run:
    """From rows of token ids to vectors, padded to the longest."""
    data = model.SerializeToString()
    check_model(data, "the model")
    session = make_session(data, threads)

    def run(rows: list[NDArray[np.int64]]) -> NDArray[np.float32]:
        ids = np.zeros((len(rows), max(map(len, rows))), np.int64)
        mask = np.zeros_like(ids)
        for i, row in enumerate(rows):
            ids[i, : len(row)], mask[i, : len(row)] = row, 1
        (found,) = session.run(None, {"input_ids": ids, "attention_mask": mask})
        return np.asarray(found)

    return run


def same(a: NDArray[np.float32], b: NDArray[np.float32]) -> bool:
    return np.array_equal(a.view(np.uint32), b.view(np.uint32))


@pytest.mark.parametrize("name", BLOCKWISE)
def test_blocks_give_what_the_whole_gives(name: str, tmp_path: Path, small_blocks: None) -> None:
    """Of every family, at lengths around blocks and windows; alone, in any batch, with two threads: the same bits."""
    model = MODELS[name]()
    shape, weights = read_family(read_checkpoint(write(model, tmp_path / name), task=model.options.get("task")))
    weights = spec.prepare(shape, weights)
    assert shape.blockwise
    made = build(shape, weights)
    assert sum(node.op_type == "Scan" for node in made.graph.node) == len(shape.blocks)
    blocks, two, whole = runner(made), runner(made, 2), runner(build(_at_once(shape), weights))
    random = np.random.default_rng(0)
    texts = [random.integers(5, 5 + len(WORDS), size) for size in LENGTHS]
    alone = [blocks([text])[0] for text in texts]
    for text, found in zip(texts, alone, strict=True):
        assert np.abs(found - whole([text])[0]).max() < 1e-5
        assert same(two([text])[0], found)
    for _ in range(8):
        chosen = random.integers(0, len(texts), 3)
        for i, found in zip(chosen, blocks([texts[i] for i in chosen]), strict=True):
            assert same(found, alone[i])


def _at_once(shape: spec.Spec) -> spec.Spec:
    class AtOnce(spec.Spec):
        blockwise = False

    return AtOnce(**{field: getattr(shape, field) for field in shape.__dataclass_fields__})


def test_long_bundle(tmp_path: Path, small_blocks: None, some_words: None) -> None:
    """Exported by the one command: int8, one vector a text, and the manifest says what memory needs to know."""
    source = write(MODELS["modernbert"](), tmp_path / "source")
    manifest = export_model(source, tmp_path / "long")
    assert manifest.architecture | {"block": 4, "block_tables": 1, "width": 32} == manifest.architecture
    embedder = Embedder(tmp_path / "long", threads=1)
    texts = [" ".join(WORDS[:n]) for n in (1, 5, 11, 17, 19)]
    vectors = embedder.encode(texts)
    padded = embedder.network.run([embedder.tokenizer.encode(text) for text in texts])
    for i, text in enumerate(texts):
        assert same(embedder.encode([text])[0], vectors[i])
        assert same(padded[i], vectors[i])
    assert same(Embedder(tmp_path / "long", threads=2).encode(texts * 9), np.tile(vectors, (9, 1)))


def test_short_models_are_as_they_were(bundle: Path, checkpoint: Checkpoints) -> None:
    """Models of 1,024 tokens and less compute all scores at a time, and their manifests say nothing of blocks."""
    shape, weights = read_family(read_checkpoint(checkpoint()))
    assert not shape.blockwise
    assert blockwise.architecture(shape, weights) == {}
    assert not replace(shape, max_tokens=1024).blockwise
    assert replace(shape, max_tokens=1025).blockwise
    assert not any(node.op_type == "Scan" for node in onnx.load(str(bundle / MODEL)).graph.node)


def test_squares_are_limited(tmp_path: Path) -> None:
    """DeBERTa adds a product for each pair of tokens, which has no form in blocks: at most 1,024 tokens."""
    model = MODELS["deberta"]()
    folder = write(model, tmp_path / "deberta")
    (folder / "config.json").write_text(json.dumps({**model.config, "max_position_embeddings": 4096}))
    shape, _ = read_family(replace(read_checkpoint(folder), max_tokens=None))
    assert shape.max_tokens == spec.WHOLE
    assert not shape.blockwise


def test_spans_are_read_from_tables() -> None:
    """What a table hides of all heads is not computed."""
    assert seen(visible(40, 6, 6), 40) == Span(6, 6)
    assert seen(visible(40, None, 0), 40) == Span(None, 0)
    assert seen(visible(40, 5, 0), 40) == Span(5, 0)
    assert seen(alibi(6, 40), 40) == Span()
    assert Span(64, 64).narrow
    assert not Span(None, 0).narrow
    assert not Span(4096, 0).narrow


MEASURE = """
import json, sys
import numpy as np
from edge_embed_export.transformer.spec import Layer, Spec, prepare
from edge_embed_export.transformer.positions import alibi, visible
from edge_embed_export.transformer.encoder import build
from edge_embed_export.transformer import blockwise
from edge_embed_runtime.model.budget import activation_bytes
from edge_embed_runtime.model.session import make_session
kind, heads, hidden, tokens = sys.argv[1], 12, 96, 4096
random = np.random.default_rng(0)
def normal(*shape): return (random.standard_normal(shape) * 0.1).astype(np.float32)
weights = {"embedding.word": normal(50, hidden)}
for part in ("query", "key", "value", "out", "up", "down"):
    weights[f"layers.0.{part}.weight"] = normal(hidden, hidden)
tables = {"all": None, "window": visible(tokens, 64, 64), "alibi": alibi(heads, tokens)}
if tables[kind] is not None:
    weights["positions.x"] = tables[kind]
plan = (Layer(0, bias="x" if tables[kind] is not None else None),)
spec = Spec(1, hidden, heads, hidden, 50, tokens, hidden, norm="pre", plan=plan)
session = make_session(build(spec, prepare(spec, weights)).SerializeToString(), 1)
def status(name):
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith(name))
def run(count):
    ids = random.integers(0, 50, (1, count))
    session.run(None, {"input_ids": ids, "attention_mask": np.ones_like(ids)})
run(8)
before = status("VmRSS")
open("/proc/self/clear_refs", "w").write("5")
run(tokens)
shape = {"hidden": hidden, "intermediate": hidden, "heads": heads, **blockwise.architecture(spec, weights)}
print(json.dumps([status("VmHWM") - before, activation_bytes(tokens, tokens, 1, shape)]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")
@pytest.mark.parametrize("kind", ["all", "window", "alibi"])
def test_memory_of_a_long_text(kind: str) -> None:
    """4,096 tokens and 12 heads: the scores alone would take 805 MB; what is taken was predicted."""
    done = subprocess.run([sys.executable, "-c", MEASURE, kind], text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    taken, predicted = json.loads(done.stdout)
    assert 4 * 4096 * 96 < taken < predicted < 250e6


def test_prediction_grows_with_the_length() -> None:
    """Not with its square; without the manifest's word for it, with the square as before."""
    shape = {"hidden": 384, "intermediate": 1536, "heads": 12, "width": 384, "block": 128, "block_tables": 1}
    short, long = (budget.activation_bytes(n, n, 1, shape) for n in (2048, 8192))
    assert 2 * short < long < 4 * short
    assert long < 400e6
    assert budget.activation_bytes(8192, 8192, 1, {**shape, "block": 0}) > 5e9


def scan(body: list[Any], outputs: list[str], steps: NDArray[np.int64] | None = None, **extra: Any) -> bytes:
    """An encoder in form, with a Scan whose inputs are rows of `x`, [steps, 0] where nobody gives others."""
    value = helper.make_tensor_value_info
    inner = helper.make_graph(
        body, "inner", [value("row", TensorProto.FLOAT, None)], [value(n, TensorProto.FLOAT, [0]) for n in outputs],
        **extra,
    )  # fmt: skip
    g = graph.Graph()
    g.op("ConstantOfShape", g.constant("steps", np.array([2**40, 0]) if steps is None else steps), name="x")
    sums = g.op("ReduceSum", g.op("Cast", "input_ids", to=graph.FLOAT), g.shape(1), keepdims=1)
    output = g.op("Expand", sums, g.shape(1, 32), name="embedding")
    model = g.model({output: ["batch", 32]}, "test")
    model.graph.node.insert(1, helper.make_node("Scan", ["x"], ["y"], body=inner, num_scan_inputs=1))
    return bytes(model.SerializeToString())


STEP = helper.make_node("Neg", ["row"], ["out"])


@pytest.mark.parametrize(
    ("body", "extra", "named"),
    [
        ([helper.make_node("If", ["row"], ["out"])], {}, "'If'"),
        ([helper.make_node("RandomNormalLike", ["row"], ["out"])], {}, "'RandomNormalLike'"),
        ([helper.make_node("Neg", ["row"], ["out"], domain="evil")], {}, "domain 'evil'"),
        ([helper.make_node("Scan", ["row"], ["out"], body=helper.make_graph([STEP], "g", [], []))], {}, "graphs"),
        ([], {}, "repeats no operator"),
        ([STEP], {"initializer": [TensorProto(data_location=1)]}, "another file"),
        ([STEP], {"initializer": [TensorProto(data_type=8)]}, "data type 8"),
    ],
)
def test_what_is_repeated_is_checked(body: list[Any], extra: dict[str, Any], named: str) -> None:
    """The operators and weights in a Scan are held to the rules of all others."""
    with pytest.raises(BundleFormatError, match=named):
        check_model(scan(body, ["out"], **extra), "it")


def test_graphs_in_other_operators_are_refused() -> None:
    """Scan alone holds a graph, and one."""
    check_model(scan([STEP], ["out"]), "it")
    inner = helper.make_graph([STEP], "g", [], [])
    for kind, graphs, named in (
        ("Neg", 1, "'Neg'"),
        ("Loop", 1, "'Loop'"),
        ("Scan", 0, "'Scan'"),
        ("Scan", 2, "several"),
    ):
        model = onnx.load_model_from_string(scan([STEP], ["out"]))
        del model.graph.node[1].attribute[:]
        model.graph.node[1].op_type = kind
        model.graph.node[1].attribute.extend(helper.make_attribute(f"body{i}", inner) for i in range(graphs))
        with pytest.raises(BundleFormatError, match=named):
            check_model(model.SerializeToString(), "it")


@pytest.mark.parametrize("kind", ["Neg", "Identity"])
def test_a_scan_without_an_end_is_ended(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A million times a million steps over rows of no numbers: the deadline ends them."""
    data = scan([helper.make_node(kind, ["row"], ["out"])], ["out"])
    check_model(data, "it")
    session = make_session(data, 1)
    monkeypatch.setattr(deadline, "WATCHDOG", deadline.Watchdog(0.2))
    ids = np.ones((1, 3), np.int64)
    with pytest.raises(DeadlineError, match=r"gave no vectors within 0\.2 s"):
        deadline.run(session, {"input_ids": ids, "attention_mask": ids})


def test_long_texts_have_more_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch of 8,192 tokens has four times the limit of one of 2,048 or fewer."""
    given = list[float]()

    class Dog(deadline.Watchdog):
        def limit(self, end: Callable[[], None], what: str, times: float = 1.0) -> AbstractContextManager[None]:
            given.append(times)
            return super().limit(end, what, times)

    session = make_session(scan([STEP], ["out"], np.array([1, 0])), 1)
    monkeypatch.setattr(deadline, "WATCHDOG", Dog())
    for tokens in (3, 2048, 8192):
        ids = np.ones((1, tokens), np.int64)
        deadline.run(session, {"input_ids": ids, "attention_mask": ids})
    assert given == [1.0, 1.0, 4.0]


@pytest.mark.parity
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.skipif(not (find_spec("torch") and find_spec("transformers")), reason="needs torch and transformers")
@pytest.mark.parametrize("name", ["modernbert", "qwen3", "gemma3"])
def test_long_texts_agree_with_torch(name: str, tmp_path: Path, some_words: None) -> None:
    """2,048 tokens, windows of some hundred: within 1e-4 of transformers, through an exported bundle."""
    import torch
    from transformers import AutoModel

    model = getattr(architectures, name)()
    windows = {"modernbert": {"local_attention": 128}, "gemma3": {"sliding_window": 200}}.get(name, {})
    config = {**model.config, "max_position_embeddings": 2048, "attn_implementation": "eager", **windows}
    model = replace(model, config=config, pooling="mean_tokens")
    folder = write(model, tmp_path / name)
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 2048}')
    export_model(folder, tmp_path / "fp32", precision="fp32")
    embedder = Embedder(tmp_path / "fp32", threads=1)
    random = np.random.default_rng(0)
    reference = AutoModel.from_pretrained(folder, attn_implementation="eager").eval()
    for size in (700, 3000):
        text = " ".join(random.choice(WORDS, size))
        ids = torch.from_numpy(embedder.tokenizer.encode(text).astype(np.int64))[None]
        assert ids.shape[1] == min(size + 2, 2048)
        with torch.no_grad():
            hidden = reference(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state.mean(1)
        expected = torch.nn.functional.normalize(hidden).numpy()[0]
        assert np.abs(embedder.encode([text])[0] - expected).max() < 1e-4
