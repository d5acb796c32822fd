"""model/tower.py: a tower in onnxruntime."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from builders.pictures import photo, saved
from builders.towerbundles import DIM, SIDE, image_bundle, model_of, picture_graph, several_graph, written
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from PIL import Image

from edge_embed import Embedder
from edge_embed.errors import (
    BundleFormatError,
    DeadlineError,
    EdgeEmbedError,
    GoldenError,
    MediaError,
    MemoryBudgetError,
)
from edge_embed_runtime.bundle.bundle import file_records, open_bundle, write_bundle
from edge_embed_runtime.bundle.manifest import MANIFEST
from edge_embed_runtime.model import deadline, tower
from edge_embed_runtime.model.options import RunOptions
from edge_embed_runtime.model.tower import TowerModel
from edge_embed_runtime.system.memory import rss_bytes

MB = 1_000_000
PHOTOS = [photo(60 + 7 * i, 90 - 5 * i, i) for i in range(9)]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tower") / "image"
    image_bundle(folder)
    return folder


def load(folder: Path, **options: Any) -> TowerModel:
    return TowerModel(open_bundle(folder), "image", RunOptions(**options))


def test_same_bits_alone_and_in_company(made: Path) -> None:
    """A picture's vector depends on it alone: not on the others of a call, nor on how many threads there are."""
    one, several = load(made, threads=1), load(made, threads=3)
    alone = [one.one(picture) for picture in PHOTOS]
    for model in (one, several):
        found = dict(model.encode(PHOTOS))
        assert list(found) == list(range(len(PHOTOS)))
        assert all(np.array_equal(found[i], vectors) for i, vectors in enumerate(alone))
    assert all(abs(float(np.linalg.norm(vectors)) - 1) < 1e-6 for vectors in alone)


def test_vectors_are_those_of_the_graph(made: Path) -> None:
    """The numbers are those that onnx's own reference computes of what the front end gives."""
    model = load(made)
    (feed,) = model.front.feeds(PHOTOS[0])
    (expected,) = ReferenceEvaluator(picture_graph()).run(None, {"pixels": feed})
    expected = expected / np.linalg.norm(expected)
    assert np.abs(model.one(PHOTOS[0]) - expected).max() < 1e-6


class Counting:
    """A front end that counts how many inputs are in its hands at a time, and how many were begun."""

    modality, usual_bytes, library, modules = "image", 1, "none", ()

    def __init__(self) -> None:
        self.begun = 0

    def within(self, _: int) -> "Counting":
        return self

    def feeds(self, given: object) -> Iterator[NDArray[np.float32]]:
        self.begun += 1
        if given == "bad":
            raise MediaError("bad.jpg: not a picture", code="bad_image", path="bad.jpg")
        yield np.full((1, 3, SIDE, SIDE), float(self.begun), np.float32)


def test_inputs_are_read_when_it_is_their_turn(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten thousand paths are not all decoded first: one thread reads an input when the one before has its vector."""
    model, front = load(made, threads=1), Counting()
    monkeypatch.setattr(model, "front", front)
    found = model.encode(["x"] * 10_000)
    for i in range(3):
        assert next(found)[0] == i
        assert front.begun == i + 1
    found.close()


def test_bad_input_is_given_back_and_the_others_go_on(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that cannot be read has its error in its place."""
    model = load(made, threads=2)
    monkeypatch.setattr(model, "front", Counting())
    found = dict(model.encode(["x", "bad", "x"]))
    assert [type(one) for one in found.values()] == [np.ndarray, MediaError, np.ndarray]


def test_other_errors_end_the_call(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is no fault of an input is raised, also from a thread."""
    model = load(made, threads=2)

    def feeds(_: object) -> Iterator[NDArray[np.float32]]:
        raise MemoryError

    monkeypatch.setattr(model, "front", front := Counting())
    monkeypatch.setattr(front, "feeds", feeds)
    with pytest.raises(MemoryError):
        list(model.encode(["x"] * 4))
    assert not [one for one in threading.enumerate() if one.name == "edge_embed worker"]


def test_windows_are_averaged(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an input with several feeds the vector is the mean of their vectors, brought to length 1."""
    model, front = load(made), Counting()
    feeds = [np.full((1, 3, SIDE, SIDE), value, np.float32) for value in (0.1, 0.5, -0.9)]
    monkeypatch.setattr(model, "front", front)
    monkeypatch.setattr(front, "feeds", lambda _: iter(feeds))
    mean = np.mean([model.run(feed) for feed in feeds], axis=0)
    assert np.abs(model.one("x") - mean / np.linalg.norm(mean)).max() < 1e-6
    monkeypatch.setattr(front, "feeds", lambda _: iter(()))
    with pytest.raises(EdgeEmbedError, match="makes nothing"):
        model.one("x")


def test_windows_that_cancel_each_other_have_a_vector(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the mean is nothing, the first window's vector stands for all."""
    model = load(made)
    monkeypatch.setattr(model, "front", front := Counting())
    monkeypatch.setattr(front, "feeds", lambda _: iter((np.zeros(1), np.ones(1))))
    unit = np.eye(1, DIM, dtype=np.float32)
    monkeypatch.setattr(model, "run", lambda feed: unit if feed[0] else -unit)
    assert np.array_equal(model.one("x"), -unit)


def test_several_vectors(tmp_path: Path) -> None:
    """A tower of kind "multi" gives several vectors, each of length 1."""
    image_bundle(tmp_path / "several", kind="multi")
    model = load(tmp_path / "several", threads=2)
    found = [vectors for _, vectors in model.encode(PHOTOS[:2])]
    assert [np.shape(vectors) for vectors in found] == [(1, 3, DIM), (1, 3, DIM)]
    assert np.abs(np.linalg.norm(found[0], axis=-1) - 1).max() < 1e-6  # type: ignore[arg-type]


def constant(value: float) -> onnx.ModelProto:
    """A graph that adds nothing but this number."""
    nodes = [
        helper.make_node("ReduceMean", ["pixels", "axes"], ["one"], keepdims=0),
        helper.make_node("MatMul", ["one", "weight"], ["embedding"]),
    ]
    weights = {"weight": np.full((3, DIM), value, np.float32)}
    model = model_of(nodes, weights, ["batch", 3, SIDE, SIDE], "embedding", ["batch", DIM])
    model.graph.initializer.append(numpy_helper.from_array(np.array([2, 3], np.int64), "axes"))
    return model


def test_numbers_that_are_none_are_refused(tmp_path: Path) -> None:
    """NaN, and a graph that gives another number of vectors than it says, are errors, never vectors."""
    written(tmp_path / "nan", constant(float("nan")))
    with pytest.raises(EdgeEmbedError, match=r"expected finite float32 \(1, 12\)"):
        load(tmp_path / "nan").one(PHOTOS[0])
    doubled = constant(1.0)
    doubled.graph.node[1].output[0] = "half"
    doubled.graph.node.append(helper.make_node("Concat", ["half", "half"], ["embedding"], axis=0))
    written(tmp_path / "two", doubled)
    with pytest.raises(EdgeEmbedError, match=r"numbers \(2, 12\)"):
        load(tmp_path / "two").one(PHOTOS[0])


def test_graph_of_another_form_is_refused(tmp_path: Path) -> None:
    """Two inputs, another dim, several vectors where one is said, control flow: refused when it is loaded."""
    written(tmp_path / "dim", constant(1.0), dim=DIM + 1)
    with pytest.raises(BundleFormatError, match="of dim 13"):
        load(tmp_path / "dim")
    written(tmp_path / "kind", several_graph())
    with pytest.raises(BundleFormatError, match="one output of a vector"):
        load(tmp_path / "kind")
    second = constant(1.0)
    second.graph.input.append(helper.make_tensor_value_info("other", 1, [1]))
    second.graph.node[1].input[0] = "sum"
    second.graph.node.insert(1, helper.make_node("Add", ["one", "other"], ["sum"]))
    written(tmp_path / "inputs", second)
    with pytest.raises(BundleFormatError, match="expected one input"):
        load(tmp_path / "inputs")
    random = constant(1.0)
    random.graph.node.append(helper.make_node("RandomNormalLike", ["one"], ["unused"]))
    written(tmp_path / "random", random)
    with pytest.raises(BundleFormatError, match="RandomNormalLike"):
        load(tmp_path / "random")


def test_golden_inputs_find_another_decoder(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A front end that gives other numbers is refused; the error names each golden input and what decodes."""
    found = tower.read_front

    class Other:
        def __init__(self, inner: Any) -> None:
            self.inner, self.library, self.modules = inner, "Pillow 99.0", ()

        def feeds(self, given: object) -> Iterator[NDArray[np.float32]]:
            for feed in self.inner.feeds(given):
                yield feed[..., ::-1] * 0.3 - 0.8

    monkeypatch.setattr(tower, "read_front", lambda *given: Other(found(*given)))
    monkeypatch.setattr(tower, "passed", lambda _: None)
    with pytest.raises(GoldenError, match=r"turned\.jpg .*clear\.png .*decoder here \(Pillow 99\.0\)") as raised:
        load(made)
    assert raised.value.cosine is not None
    assert raised.value.cosine < 0.999


def test_golden_inputs_are_checked_once(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What passed is remembered, until another release of what reads pictures lies here."""
    load(made)
    calls: list[object] = []
    real = TowerModel._golden
    monkeypatch.setattr(TowerModel, "_golden", lambda self: (calls.append(1), real(self))[1])
    assert load(made).loaded.golden_cosine > 0.999
    assert not calls
    monkeypatch.setattr(tower, "_file_of", lambda _: ["another release"])
    load(made)
    load(made, max_rss_mb=1000)  # a limit may have the model run in another way
    assert len(calls) == 2


def test_memory_budget(made: Path) -> None:
    """The peak is predicted, reading included; fewer threads are tried, and the least is said where none is enough."""
    free = load(made, threads=4)
    assert (free.threads, free.loaded.peak) == (4, 0)
    rss = (rss_bytes() or 0) / MB
    usual = free.front.usual_bytes / MB
    enough = load(made, threads=4, max_rss_mb=rss + 200 + 8 * usual)
    assert enough.threads == 4
    assert 0 < enough.loaded.peak / MB < rss + 200 + 8 * usual
    fewer = load(made, threads=4, max_rss_mb=rss + 25 + 2.5 * usual)
    assert 1 <= fewer.threads < 4
    with pytest.raises(MemoryBudgetError, match="reading inputs") as raised:
        load(made, threads=4, max_rss_mb=rss + 5)
    assert raised.value.needed_mb is not None
    load(made, threads=4, max_rss_mb=raised.value.needed_mb + 10)


def test_picture_too_large_for_the_budget_is_refused_by_its_header(made: Path) -> None:
    """Under a limit a picture that cannot be decoded within it is an error of that picture."""
    model = load(made, threads=1, max_rss_mb=(rss_bytes() or 0) / MB + 120)
    with pytest.raises(MediaError) as raised:
        model.one(saved(Image.new("L", (9000, 7000)), "PNG"))
    assert raised.value.code == "memory_budget"


def test_budget_counts_models_that_are_there(made: Path) -> None:
    """What is predicted for the model of texts counts before the tower's."""
    bundle, options = open_bundle(made), RunOptions(threads=1, max_rss_mb=4000)
    alone = TowerModel(bundle, "image", options).loaded.peak
    rss = rss_bytes() or 0
    assert TowerModel(bundle, "image", options, peak=rss + 500 * MB).loaded.peak > alone + 200 * MB


def test_deadline_ends_a_tower(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that takes too long is a DeadlineError that names the tower."""

    def late(*_: object) -> None:
        raise DeadlineError("took longer than 60 s", limit_seconds=60)

    model = load(made)
    monkeypatch.setattr(deadline, "run", late)
    with pytest.raises(DeadlineError, match="the image tower failed"):
        model.one(PHOTOS[0])


def test_truncated_vectors_have_length_1(made: Path) -> None:
    """`truncate_dim` counts for pictures too."""
    whole, cut = load(made).one(PHOTOS[0]), load(made, truncate_dim=5).one(PHOTOS[0])
    assert cut.shape == (1, 5)
    assert np.abs(cut - whole[:, :5] / np.linalg.norm(whole[:, :5])).max() < 1e-6


def test_weights_in_a_file_of_their_own(made: Path, tmp_path: Path) -> None:
    """A tower may have its weights in a second file, which is mapped; one that lies elsewhere is refused."""
    bundle = open_bundle(made)
    model = onnx.load(made / "image.onnx")
    onnx.save(
        model, tmp_path / "image.onnx", save_as_external_data=True, location="image.weights", size_threshold=64,
        all_tensors_to_one_file=True,
    )  # fmt: skip
    contents = {name: (tmp_path / name).read_bytes() for name in ("image.onnx", "image.weights")}
    manifest = replace(bundle.manifest, files=file_records(contents))
    write_bundle(tmp_path / "two", manifest, contents)
    assert sorted(path.name for path in (tmp_path / "two").iterdir()) == ["image.onnx", "image.weights", MANIFEST]
    assert np.array_equal(load(tmp_path / "two").one(PHOTOS[0]), load(made).one(PHOTOS[0]))
    assert Embedder(tmp_path / "two").encode_image(PHOTOS[:1]).shape == (1, DIM)


def test_weights_of_another_tower_are_refused(made: Path, tmp_path: Path) -> None:
    """A graph may read its own weights' file and no other, whatever else lies in the bundle."""
    bundle = open_bundle(made)
    model = onnx.load(made / "image.onnx")
    onnx.save(
        model, tmp_path / "image.onnx", save_as_external_data=True, location="audio.weights", size_threshold=64,
        all_tensors_to_one_file=True,
    )  # fmt: skip
    contents = {"image.onnx": (tmp_path / "image.onnx").read_bytes()}
    write_bundle(tmp_path / "none", replace(bundle.manifest, files=file_records(contents)), contents)
    with pytest.raises(BundleFormatError, match="weights in another file"):
        load(tmp_path / "none")
    contents["image.weights"] = (tmp_path / "audio.weights").read_bytes()
    write_bundle(tmp_path / "two", replace(bundle.manifest, files=file_records(contents)), contents)
    with pytest.raises(BundleFormatError, match=r"another file than image\.weights"):
        load(tmp_path / "two")
