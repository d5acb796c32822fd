"""A tower's graph with a projection behind it, how that is fitted, and the features that it is fitted to."""

from pathlib import Path

import numpy as np
import pytest
from builders.convtowers import CHANNELS, SIZE, conv_graph, write_conv_tower
from builders.pictures import photo
from numpy.typing import NDArray
from PIL import Image

from edge_embed_export.align.backbone import Features, open_backbone
from edge_embed_export.align.graph import with_head
from edge_embed_export.align.head import Head, fit_head
from edge_embed_export.align.measure import measured
from edge_embed_export.align.views import VIEWS
from edge_embed_runtime.bundle.bundle import read_bundle
from edge_embed_runtime.errors import InputError, MediaError
from edge_embed_runtime.model.session import make_session
from edge_embed_runtime.vectors.normalize import normalize

DIM = 24


def random_head(features: int, dim: int = DIM) -> Head:
    random = np.random.default_rng(3)
    shapes = ((features,), (features,), (features, 16), (16, dim), (dim,))
    return Head(*(random.normal(size=shape).astype(np.float32) for shape in shapes))


def unexpected(error: MediaError) -> None:
    pytest.fail(f"refused: {error}")


def pictures(folder: Path, count: int = 3) -> list[Path]:
    """Files that can be read."""
    found = [folder / f"{i}.png" for i in range(count)]
    for i, file in enumerate(found):
        Image.fromarray(photo(40, 60, seed=i)).save(file)
    return found


@pytest.mark.parametrize("own", [False, True])
def test_graph_computes_what_the_head_does(own: bool) -> None:
    """The graph of tower and projection gives the projection's vectors, with the tower's own added where asked."""
    tower = conv_graph(dim=DIM)
    head = random_head(CHANNELS)
    whole = with_head(tower, "pooled", "embedding" if own else "", head)
    x = np.random.default_rng(0).normal(size=(2, 3, SIZE, SIZE)).astype(np.float32)
    pooled, vectors = make_session(tower.SerializeToString(), 1, values=["pooled", "embedding"]).run(
        None, {"pixel_values": x}
    )
    (found,) = make_session(whole.SerializeToString(), 1).run(None, {"pixel_values": x})
    expected = head.apply(pooled, vectors if own else np.empty((2, 0), np.float32))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert ("last" in {each.name for each in whole.graph.initializer}) == own  # what nothing needs is left out


def test_features_of_files(tmp_path: Path) -> None:
    """A row for each view of each picture; a file that cannot be read is named, and the others go on."""
    bundle = read_bundle(write_conv_tower(tmp_path / "tower"))
    files = pictures(tmp_path)
    files[1].write_bytes(b"no picture")
    refused: list[MediaError] = []
    seen: list[int] = []
    backbone = open_backbone(bundle, "image", "another space")
    features = backbone.features(files, 3, cache=None, threads=1, refused=refused.append, advance=seen.append)
    assert [str(files[1])] == [error.path for error in refused]
    assert sum(seen) == 3
    assert features.owners.tolist() == [0, 0, 0, 2, 2, 2]
    assert features.plain.tolist() == [True, False, False] * 2
    assert features.rows.shape == (6, CHANNELS)
    assert features.own.shape == (6, 0)
    assert not np.allclose(features.rows[0], features.rows[1])


def test_features_are_kept(tmp_path: Path) -> None:
    """What is in the cache is not computed again, unless a file was written to."""
    bundle = read_bundle(write_conv_tower(tmp_path / "tower"))
    files = pictures(tmp_path)
    backbone = open_backbone(bundle, "image", "")

    def computed() -> Features:
        return backbone.features(
            files, 2, cache=tmp_path / "cache", threads=1, refused=unexpected, advance=lambda _: None
        )

    first = computed()
    (kept,) = (tmp_path / "cache").iterdir()
    stamp = kept.stat().st_mtime_ns
    for one, other in zip(first, computed(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert kept.stat().st_mtime_ns == stamp
    Image.fromarray(photo(40, 60, seed=9)).save(files[2])
    assert not np.array_equal(first.rows, computed().rows)
    (other,) = set((tmp_path / "cache").iterdir()) - {kept}
    other.write_bytes(other.read_bytes()[:-50])
    with pytest.raises(InputError, match="remove it"):
        computed()


def test_a_tower_in_the_texts_space_keeps_its_vector(tmp_path: Path) -> None:
    """Where a tower's vectors can be compared with the texts' already, they are read besides its features."""
    bundle = read_bundle(write_conv_tower(tmp_path / "tower", dim=DIM, space="words"))
    features = open_backbone(bundle, "image", "words").features(
        pictures(tmp_path), 1, cache=None, threads=1, refused=unexpected, advance=lambda _: None
    )
    assert features.own.shape == (3, DIM)
    np.testing.assert_allclose(np.linalg.norm(features.own, axis=1), 1, atol=1e-5)


def test_features_without_a_name(tmp_path: Path) -> None:
    """A tower that names no inner value: what stands before its vectors are brought to length 1."""
    bundle = read_bundle(write_conv_tower(tmp_path / "tower", dim=DIM, features=False))
    assert open_backbone(bundle, "image", "").start == "wide"


def test_no_such_tower(tmp_path: Path) -> None:
    """A bundle without a tower of the modality is refused."""
    bundle = read_bundle(write_conv_tower(tmp_path / "tower"))
    with pytest.raises(InputError, match="no audio tower"):
        open_backbone(bundle, "audio", "")


def test_views_are_the_same_each_time(tmp_path: Path) -> None:
    """Each view changes the picture, and is the same for the same file; what is clear is white."""
    (file,) = pictures(tmp_path, 1)
    plain = np.asarray(Image.open(file))
    for view in VIEWS:
        one, two = np.asarray(view(file)), np.asarray(view(file))
        np.testing.assert_array_equal(one, two)
        assert one.shape != plain.shape or not np.array_equal(one, plain)
    clear = tmp_path / "clear.png"
    Image.new("RGBA", (20, 20), (0, 0, 0, 0)).save(clear)
    assert (np.asarray(VIEWS[1](clear)) == 255).all()


def test_figures() -> None:
    """Recall counts each file of a caption, found whether there is one; windows of a sound are averaged."""
    rows = normalize(np.array([[1, 0, 0], [0.9, 0.1, 0], [0, 1, 0], [0, 0, 1]], np.float32))
    eye = np.eye(3, dtype=np.float32)
    zero = np.zeros(3, np.float32)
    head = Head(zero, zero + 1, eye, eye, zero - 1)
    owners, plain = np.array([4, 4, 7, 9]), np.array([True, True, True, True])
    features = Features(rows, np.empty((4, 0), np.float32), owners, plain)
    asked = {"x": rows[0], "y": rows[2]}
    found = measured(features, [4, 7, 9], ["x", "y", "x"], asked)
    vectors = found.vectors(head)
    one, other = head.apply(rows[:2], features.own[:2])
    np.testing.assert_allclose(vectors[0], normalize((one + other)[None] / 2)[0], atol=1e-6)
    figures = found.recall(head, (1, 3))
    assert figures["recall@1"] == 0.75  # one of the two files of x, the one of y
    assert figures["found@1"] == 1
    assert figures["recall@3"] == 1
    assert figures["chance@1"] == pytest.approx((2 / 3 + 1 / 3) / 2, abs=1e-3)


def fitted(rows: NDArray[np.float32], targets: NDArray[np.float32]) -> Head:
    count = len(rows)
    features = Features(rows, np.empty((count, 0), np.float32), np.arange(count), np.ones(count, np.bool_))
    return fit_head(features, targets, seed=0)


def test_a_head_finds_what_is_like_what_it_learnt() -> None:
    """Of noisy rows around a hundred places, each with a target of its own, new ones come nearest to theirs; the same
    rows give the same head."""
    random = np.random.default_rng(0)
    places = random.normal(size=(100, 32))
    targets = normalize(random.normal(size=(100, DIM)).astype(np.float32))
    which = np.repeat(np.arange(100), 3)
    rows, new = (
        (places[each] + 0.3 * random.normal(size=(len(each), 32))).astype(np.float32) for each in (which, which)
    )
    head = fitted(rows, targets[which])
    found = head.apply(new, np.empty((len(new), 0), np.float32)) @ targets.T
    assert (found.argmax(axis=1) == which).mean() > 0.9
    for one, other in zip(head, fitted(rows, targets[which]), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_head_of_equal_rows() -> None:
    """Rows that are all the same, and features that are always 0, give the mean of the targets."""
    rows = np.tile(np.array([[2, 0, 0]], np.float32), (6, 1))
    targets = normalize(np.random.default_rng(1).normal(size=(6, DIM)).astype(np.float32))
    (found,) = fitted(rows, targets).apply(rows[:1], np.empty((1, 0), np.float32))
    np.testing.assert_allclose(found, normalize(targets.mean(axis=0)[None])[0], atol=1e-4)


def test_a_head_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many rows only so many are compared with."""
    monkeypatch.setattr("edge_embed_export.align.head.MOST_CENTRES", 50)
    random = np.random.default_rng(2)
    rows = random.normal(size=(200, 8)).astype(np.float32)
    head = fitted(rows, normalize(random.normal(size=(200, DIM)).astype(np.float32)))
    assert head.first.shape == (8, 50)
    assert head.second.shape == (50, DIM)
