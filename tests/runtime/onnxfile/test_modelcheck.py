"""What a model file may hold: the operators of encoders, and weights in the file itself."""

import time
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from edge_embed import Embedder
from edge_embed.errors import BundleError, BundleFormatError, DeadlineError, EdgeEmbedError
from edge_embed_export.transformer import builder as exported
from edge_embed_runtime.bundle.bundle import file_records, read_bundle, write_bundle
from edge_embed_runtime.bundle.manifest import MODEL
from edge_embed_runtime.model import deadline
from edge_embed_runtime.onnxfile.allowed import MAX_PARTS, OPERATORS, REPEATING, check_model

Change = Callable[[Any], None]


def model(*changes: Change) -> bytes:
    """A model of one product and one sum, after some changes."""
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"], name="product"), helper.make_node("Add", ["y", "w"], ["z"])],
        "g",
        [value("x", TensorProto.FLOAT, ["n", 2])],
        [value("z", TensorProto.FLOAT, ["n", 2])],
        [helper.make_tensor("w", TensorProto.FLOAT, [2, 2], [1.0] * 4)],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    for change in changes:
        change(made)
    return bytes(made.SerializeToString())


def node(**fields: str) -> Change:
    def change(made: Any) -> None:
        for name, value in fields.items():
            setattr(made.graph.node[0], name, value)

    return change


def attribute(name: str, value: Any) -> Change:
    return lambda made: made.graph.node[0].attribute.append(helper.make_attribute(name, value))


def weight(**fields: Any) -> Change:
    def change(made: Any) -> None:
        for name, value in fields.items():
            setattr(made.graph.initializer[0], name, value)

    return change


def dims(*values: int) -> Change:
    def change(made: Any) -> None:
        made.graph.initializer[0].dims[:] = values

    return change


INNER = helper.make_graph([], "inner", [], [])


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (node(op_type="If"), "'If'"),
        (node(op_type="Loop"), "'Loop'"),
        (node(op_type="RandomNormalLike"), "'RandomNormalLike'"),
        (node(op_type="StringSplit"), "'StringSplit'"),
        (node(op_type="EPContext", domain="com.microsoft"), "'EPContext' of com.microsoft"),
        (node(op_type="MatMul", domain="evil"), "domain 'evil'"),
        (node(op_type=""), "''"),
        (node(op_type="x" * 5000), "without a proper name"),
        (node(overload="other"), "overload"),
        (attribute("body", INNER), "control flow"),
        (attribute("bodies", [INNER]), "control flow"),
        (attribute("value", helper.make_tensor("t", TensorProto.STRING, [1], [b"a"])), "data type 8"),
        (weight(data_location=TensorProto.EXTERNAL), "another file"),
        (lambda m: m.graph.initializer[0].external_data.add(key="location", value="/etc/passwd"), "another file"),
        (weight(data_type=TensorProto.STRING), "data type 8"),
        (weight(data_type=TensorProto.COMPLEX64), "data type 14"),
        (dims(2**40), "more than"),
        (dims(2**16, 2**16), "more than"),
        (dims(-1, 4), "more than"),
        (dims(*[1] * 9), "8 dimensions"),
        (lambda m: m.graph.sparse_initializer.add(), "sparse"),
        (lambda m: m.functions.add(name="f"), "functions"),
        (lambda m: m.training_info.add(), "training"),
        (lambda m: m.graph.node.extend([m.graph.node[0]] * MAX_PARTS), f"more than {MAX_PARTS}"),
        (lambda m: m.ClearField("graph"), "0 graphs"),
    ],
)
def test_what_no_encoder_needs_is_refused(change: Change, named: str, tmp_path: Path) -> None:
    """By name, whether the model comes as bytes or as a file."""
    data = model(change)
    (tmp_path / "m").write_bytes(data)
    for source in (data, tmp_path / "m"):
        with pytest.raises(BundleFormatError, match=r"^the model ") as caught:
            check_model(source, "the model")
        assert named in str(caught.value)


def test_encoders_pass(bundle: Path, tmp_path: Path) -> None:
    """The default bundle passes, and a model with nodes and attributes as other exporters write them."""
    check_model(bundle / MODEL, "it")
    check_model((bundle / MODEL).read_bytes(), "it")
    large = helper.make_tensor("t", TensorProto.FLOAT, [1000, 100], b"\0" * 400_000, raw=True)
    check_model(model(attribute("value", large), attribute("axes", [1, -1]), attribute("to", 1)), "it")
    check_model(model(node(domain="ai.onnx"), lambda m: m.metadata_props.add(key="a", value="b")), "it")


def test_the_list_has_operators_that_exist() -> None:
    """Each is one of onnx or onnxruntime; of them Scan alone holds a graph."""
    standard = {schema.name: schema for schema in onnx.defs.get_all_schemas() if schema.domain == ""}
    unknown = OPERATORS[""] - standard.keys() - {"SimplifiedLayerNormalization", "SkipSimplifiedLayerNormalization"}
    assert unknown <= {"Attention", "RMSNormalization", "RotaryEmbedding", "Swish"}  # newer than some onnx releases
    graphs = onnx.defs.OpSchema.AttrType.GRAPH
    holders = {name for name, s in standard.items() if any(a.type == graphs for a in s.attributes.values())}
    assert holders
    assert holders & OPERATORS[""] == {REPEATING}
    assert not {name for name in OPERATORS[""] if name.startswith(("Random", "String", "Sequence", "Optional"))}


def test_a_field_that_comes_twice_is_refused() -> None:
    """Parsers take the last of two types; a reader that took the first would let the other through."""
    inner = b"\x22\x03Add\x22\x02If"
    graph = b"\x0a" + bytes([len(inner)]) + inner
    with pytest.raises(BundleFormatError, match="2 types"):
        check_model(b"\x3a" + bytes([len(graph)]) + graph, "it")
    whole = model()
    with pytest.raises(BundleFormatError, match="2 graphs"):
        check_model(whole + whole, "it")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x3a",
        b"\x3a\x05ab",
        b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
        b"\x38\x05",
        b"\x3b\x3c",
        b"\x00\x00",
        b"\x7a\x01a",
        b"\x12\x06ORTMabc",
        b"\x12\x06ORTM\x3a\x00",
    ],
)
def test_no_onnx_model(data: bytes) -> None:
    """Files cut off anywhere, of other formats, with unknown fields or numbers without an end."""
    with pytest.raises(BundleFormatError):
        check_model(data, "it")


def test_every_cut_of_a_model_is_an_error() -> None:
    """A model that ends early is refused or, where only its last fields are gone, read to its end."""
    data = model()
    last = data.rindex(b"\x42")  # opset_import, the last field
    for size in range(len(data)):
        if size != last:
            with pytest.raises(BundleFormatError):
                check_model(data[:size], "it")


def test_weights_are_not_read(bundle: Path) -> None:
    """The check of 21 MB takes little memory."""
    tracemalloc.start()
    check_model(bundle / MODEL, "it")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20


def changed_bundle(source: Path, target: Path, data: bytes) -> Path:
    """A copy with another model and hashes that fit, as its maker can write them."""
    whole = read_bundle(source)
    contents = {MODEL: data, "tokenizer.json": whole.tokenizer}
    write_bundle(target, replace(whole.manifest, files=file_records(contents), golden=[]), contents)
    return target


def test_an_embedder_refuses_a_hostile_model(tiny_bundle: Path, tmp_path: Path) -> None:
    """Before onnxruntime sees it."""
    hostile = onnx.load(str(tiny_bundle / MODEL))
    hostile.graph.node[3].op_type = "Loop"
    path = changed_bundle(tiny_bundle, tmp_path / "hostile", hostile.SerializeToString())
    with pytest.raises(BundleFormatError, match=r"hostile: the model has the operator 'Loop'"):
        Embedder(path, threads=1)


@pytest.mark.parametrize(
    ("value", "rows", "told"), [(float("nan"), 1, "some not finite"), (1.0, 2, r"float32 numbers \(2, 32\)")]
)
def test_numbers_that_are_no_vectors_are_refused(
    value: float, rows: int, told: str, tiny_bundle: Path, tmp_path: Path
) -> None:
    """NaN, which would be stored and found with any score, and rows for texts that nobody gave."""
    g = exported.Graph()
    batch = g.op("Mul", g.op("Shape", "input_ids", start=0, end=1), g.shape(rows))
    output = g.op("Expand", g.scalar(value), g.op("Concat", batch, g.shape(32), axis=0), name="embedding")
    data = g.model({output: ["batch", 32]}, "test").SerializeToString()
    embedder = Embedder(changed_bundle(tiny_bundle, tmp_path / "odd", data), threads=1)
    with pytest.raises(EdgeEmbedError, match=told):
        embedder.encode(["a"])


def slow_model(steps: int, size: int) -> bytes:
    """An encoder in form, that multiplies large matrices again and again."""
    g = exported.Graph()
    x = g.op("ReduceSum", g.op("Cast", "input_ids", to=exported.FLOAT), keepdims=0)
    square = g.op("Expand", g.op("Mul", x, g.scalar(1e-9)), g.shape(size, size))
    value = square
    for _ in range(steps):
        value = g.op("MatMul", value, square)
    row = g.op("Slice", g.op("Unsqueeze", g.op("ReduceSum", value, keepdims=0), g.shape(0, 1)), g.shape(0), g.shape(1))
    batch = g.op("Concat", g.op("Shape", "input_ids", start=0, end=1), g.shape(32), axis=0)
    output = g.op("Expand", row, batch, name="embedding")
    return bytes(g.model({output: ["batch", 32]}, "test").SerializeToString())


def test_a_model_that_does_not_end_is_ended(tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two of its operators; the error says which bundle and what limit."""
    path = changed_bundle(tiny_bundle, tmp_path / "slow", slow_model(2_000, 500))
    embedder = Embedder(path, threads=1)
    monkeypatch.setattr(deadline, "WATCHDOG", deadline.Watchdog(0.01))
    with pytest.raises(DeadlineError, match=r"slow: .* \(1, 3\) tokens: .* within 0.01 s and was ended"):
        embedder.encode(["a"])
    monkeypatch.setattr(deadline, "WATCHDOG", deadline.Watchdog(0.001))
    with pytest.raises(DeadlineError, match=r"slow: the model was not loaded within 0.001 s and was ended"):
        Embedder(path, threads=1)


def test_the_watchdog_leaves_when_nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its thread ends itself, the next work starts another; work in time is not touched."""
    dog, late = deadline.Watchdog(0.01), []
    for _ in range(2):
        with dog.limit(lambda: late.append(1), "was late"):
            thread = dog._thread
            assert thread is not None
        thread.join(30)
        assert not thread.is_alive()
        assert dog._thread is None

    def wait() -> None:
        until = time.monotonic() + 30
        while not late and time.monotonic() < until:
            pass
        raise RuntimeError("terminated")

    with pytest.raises(DeadlineError, match="was late"), dog.limit(lambda: late.append(1), "was late"):
        wait()
    assert late
    with pytest.raises(RuntimeError, match="terminated"), dog.limit(late.clear, "was late"):
        wait()
    forked = dog._thread
    dog.forget()
    assert forked is not None
    assert dog._thread is None


@pytest.mark.parametrize("value", ["\\ud800", "[" * 600 + "]" * 600])
def test_a_manifest_that_cannot_be_written_again_is_refused(value: str, tiny_bundle: Path) -> None:
    """A lone surrogate, and lists too deep: errors of ours, not those of the codec and the reader."""
    path = tiny_bundle / "manifest.json"
    told = f'"{value}"' if value[0] != "[" else value
    path.write_text(path.read_text().replace('"provenance": {', f'"provenance": {{"odd": {told},'))
    with pytest.raises(BundleError):
        read_bundle(tiny_bundle)
