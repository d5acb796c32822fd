"""Bundles with towers: their manifests, files and fingerprints, and joining them."""

import copy
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders.pictures import photo
from builders.towerbundles import DIM, image_bundle

from edge_embed import Embedder
from edge_embed.embedder import bundle_path
from edge_embed.errors import BundleDamagedError, BundleError, BundleFormatError, InputError
from edge_embed_runtime.bundle.bundle import open_bundle, read_bundle, write_bundle
from edge_embed_runtime.bundle.join import join_bundles, space_of
from edge_embed_runtime.bundle.manifest import MANIFEST, TOWERS_SCHEMA, Manifest, by_modality, manifest_of

Content = dict[str, Any]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with an image tower alone."""
    folder = tmp_path_factory.mktemp("towers") / "image"
    image_bundle(folder)
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    target = tmp_path / "image"
    target.mkdir()
    for name in (MANIFEST, "image.onnx"):
        (target / name).write_bytes((made / name).read_bytes())
    return target


def sealed(folder: Path, change: Callable[[Content], object]) -> None:
    """Change the manifest, with a hash over itself that fits again."""
    path = folder / MANIFEST
    content = json.loads(path.read_text())
    change(content)
    content.pop("manifest_sha256")
    content["manifest_sha256"] = hashlib.sha256(json.dumps(content).encode()).hexdigest()
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def test_manifest_comes_back(made: Path) -> None:
    """What was written is what is read: schema 4, one tower, no model for texts."""
    manifest = read_bundle(made).manifest
    assert manifest.schema == TOWERS_SCHEMA == 4
    assert manifest.modalities == ("image",)
    assert (manifest.has_text, manifest.max_tokens, manifest.pooling) == (False, 0, "")
    assert manifest_of(json.loads(manifest.to_json())) == manifest
    assert [len(golden.vector) for golden in manifest.towers["image"].golden] == [DIM, DIM]
    assert all(len(golden.content) < 20_000 for golden in manifest.towers["image"].golden)


def test_fingerprint_covers_what_decides_vectors(made: Path) -> None:
    """Front end, kind, space and files count; receipts and provenance do not."""
    manifest = read_bundle(made).manifest

    def changed(**fields: Any) -> str:
        content = json.loads(manifest.to_json())
        content["towers"]["image"] |= fields
        return manifest_of(content).fingerprint

    assert changed(receipt={"x": 1}, provenance={"source": "y"}, golden=[]) == manifest.fingerprint
    front = {**manifest.towers["image"].front, "alpha": "black"}
    assert changed(front=front) != manifest.fingerprint
    content = json.loads(manifest.to_json())
    assert manifest_of({**content, "space": "theirs"}).fingerprint != manifest.fingerprint
    content["files"]["image.onnx"]["sha256"] = "0" * 64
    assert manifest_of(content).fingerprint != manifest.fingerprint


@pytest.mark.parametrize("name", ["minilm", "static"])
def test_earlier_bundles_stay_as_they_are(name: str) -> None:
    """A bundle without towers says nothing of them, and keeps its schema and its bytes."""
    folder = bundle_path(name)
    raw = (folder / MANIFEST).read_bytes()
    manifest = read_bundle(folder).manifest
    assert manifest.to_json() == raw
    assert b'"towers"' not in raw
    assert manifest.schema < TOWERS_SCHEMA


def tower(content: Content) -> Content:
    found: Content = content["towers"]["image"]
    return found


HOSTILE: dict[str, Callable[[Content], object]] = {
    "no towers, and a file of one": lambda c: c.pop("towers"),
    "towers that are no object": lambda c: c.update(towers=[1]),
    "a tower without a file": lambda c: c["towers"].update(audio=tower(c)),
    "a tower of texts": lambda c: c["towers"].update(text=tower(c)),
    "an unknown key": lambda c: tower(c).update(crop=1),
    "a missing key": lambda c: tower(c).pop("receipt"),
    "a front of a list": lambda c: tower(c).update(front=[1, 2]),
    "an empty front": lambda c: tower(c).update(front={}),
    "an unknown kind": lambda c: tower(c).update(kind="sparse"),
    "a kind that is a list": lambda c: tower(c).update(kind=["dense"]),
    "golden of a string": lambda c: tower(c).update(golden="x"),
    "many golden inputs": lambda c: tower(c).update(golden=tower(c)["golden"] * 100),
    "golden that is no base64": lambda c: tower(c)["golden"][0].update(data="%%%"),
    "golden without bytes": lambda c: tower(c)["golden"][0].update(data=""),
    "golden with a long file": lambda c: tower(c)["golden"][0].update(data="A" * 2**20),
    "golden of another length": lambda c: tower(c)["golden"][0].update(vector=[1.0]),
    "golden without numbers": lambda c: tower(c)["golden"][0].update(vector=[]),
    "golden with infinity": lambda c: tower(c)["golden"][0]["vector"].__setitem__(0, float("inf")),
    "golden with a text": lambda c: tower(c)["golden"][0]["vector"].__setitem__(0, "1"),
    "golden with a number for a name": lambda c: tower(c)["golden"][0].update(name=3),
    "tokens without texts": lambda c: c.update(max_tokens=256),
    "pooling without texts": lambda c: c.update(pooling="mean"),
    "prompts without texts": lambda c: c.update(prompts={"query": "q: "}),
    "adapters without texts": lambda c: c.update(adapters=[{"name": "a", "roles": [], "prompt": None}]),
    "another kind than its towers": lambda c: c.update(kind="multi"),
    "a space of many characters": lambda c: c.update(space="x" * 10_000),
    "a space with a line break": lambda c: c.update(space="a\nb"),
    "a huge dim": lambda c: c.update(dim=10**12),
    "a file of 0 bytes": lambda c: c["files"]["image.onnx"].update(size=0),
    "a huge file": lambda c: c["files"]["image.onnx"].update(size=10**15),
    "weights without a graph": lambda c: c.update(files={"image.weights": c["files"]["image.onnx"]}),
    "a file outside": lambda c: c.update(files={"../image.onnx": c["files"]["image.onnx"]}),
    "a tokenizer alone": lambda c: c["files"].update({"tokenizer.json": c["files"]["image.onnx"]}),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_manifest_is_refused(folder: Path, name: str) -> None:
    """Whatever it says, the error is ours, and comes before any model is read."""
    sealed(folder, HOSTILE[name])
    (folder / "image.onnx").write_bytes(b"")
    with pytest.raises(BundleFormatError):
        open_bundle(folder)


@pytest.mark.parametrize(
    "front",
    [{"size": "large"}, {"size": [10**9, 10**9]}, {"warp": 1}, {"mean": [None] * 3}, {"std": [0.0, 0.0, 0.0]}],
    ids=str,
)
def test_front_of_odd_types_is_refused(folder: Path, front: Content) -> None:
    """What the front end does not know is refused when the tower is loaded, by the name of the key."""
    sealed(folder, lambda c: tower(c)["front"].update(front))
    content = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_bytes(manifest_of(content).to_json())
    with pytest.raises(BundleFormatError, match=next(iter(front))):
        Embedder(folder, towers=("image",))


def test_older_releases_refuse_by_the_schema(folder: Path) -> None:
    """The schema is the first thing that is looked at, so a newer one is refused by its number."""
    sealed(folder, lambda c: c.update(schema=5))
    with pytest.raises(BundleFormatError, match="schema version 5; this release reads up to 4"):
        open_bundle(folder)


def test_files_are_told_apart_by_modality() -> None:
    """Names of a bundle's files, whatever their order."""
    assert by_modality(["image.onnx", "model.onnx", "image.weights", "tokenizer.json"]) == {
        "text": ("model.onnx", "tokenizer.json"),
        "image": ("image.onnx", "image.weights"),
        "audio": (),
    }
    with pytest.raises(ValueError, match="files must be"):
        by_modality(["model.onnx", "image.onnx"])


def test_size_is_checked_at_opening_and_hash_at_loading(folder: Path) -> None:
    """A tower that nobody uses is not read, but one that was cut off is found at once."""
    content = bytearray((folder / "image.onnx").read_bytes())
    content[-5] ^= 1
    (folder / "image.onnx").write_bytes(content)
    embedder = Embedder(folder)
    with pytest.raises(BundleDamagedError, match=r"image\.onnx.*sha256"):
        embedder.encode_image([photo()])
    with pytest.raises(BundleDamagedError, match="sha256"):
        read_bundle(folder)
    (folder / "image.onnx").write_bytes(content[:-1])
    with pytest.raises(BundleDamagedError, match=r"image\.onnx.*expected"):
        Embedder(folder)


def test_file_must_be_a_regular_one(folder: Path, tmp_path: Path) -> None:
    """A link, a folder, a pipe and nothing in the place of a tower's file are refused when the bundle is opened."""
    place = folder / "image.onnx"
    place.rename(tmp_path / "elsewhere")
    with pytest.raises(BundleDamagedError, match="missing"):
        Embedder(folder)
    place.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BundleDamagedError, match="symbolic link"):
        Embedder(folder)
    place.unlink()
    os.mkfifo(place)
    with pytest.raises(BundleDamagedError, match="not a regular file"):
        Embedder(folder)


def test_tower_replaced_while_it_loads_is_found(folder: Path) -> None:
    """What is loaded is what was verified."""
    bundle = open_bundle(folder)
    bundle.verify("image")
    content = (folder / "image.onnx").read_bytes()
    (folder / "image.onnx").unlink()
    (folder / "image.onnx").write_bytes(content)
    with pytest.raises(BundleDamagedError, match="changed while"):
        bundle.check_unchanged("image")


def test_bundle_is_replaced(folder: Path, made: Path) -> None:
    """A folder with a bundle of towers may be replaced where that is allowed; one with another file never."""
    bundle = read_bundle(made)
    contents = {"image.onnx": (made / "image.onnx").read_bytes()}
    with pytest.raises(InputError, match="exists"):
        write_bundle(folder, bundle.manifest, contents)
    write_bundle(folder, bundle.manifest, contents, overwrite=True)
    assert read_bundle(folder).manifest == bundle.manifest
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="not a bundle"):
        write_bundle(folder, bundle.manifest, contents, overwrite=True)


class TestJoin:
    """A model for texts and towers of its space as one bundle."""

    @pytest.fixture
    def texts(self) -> Manifest:
        return read_bundle(bundle_path("static")).manifest

    def test_vectors_stay_what_they_are(self, texts: Manifest, tmp_path: Path) -> None:
        """Files are copied; the bundle gives what its parts give, and checks their golden inputs."""
        image_bundle(tmp_path / "image", dim=texts.dim, space=texts.fingerprint)
        manifest = join_bundles(bundle_path("static"), [tmp_path / "image"], tmp_path / "both")
        assert (manifest.modalities, manifest.space) == (("text", "image"), texts.fingerprint)
        both, image = Embedder(tmp_path / "both"), Embedder(tmp_path / "image")
        assert np.array_equal(both.encode(["rain"]), Embedder("static").encode(["rain"]))
        assert np.array_equal(both.encode_image([photo()]), image.encode_image([photo()]))
        assert both.space == image.space == texts.fingerprint
        assert both.fingerprint not in (texts.fingerprint, image.fingerprint)

    def test_other_spaces_need_a_word(self, texts: Manifest, tmp_path: Path) -> None:
        """Vectors of other models mean nothing to each other, unless the caller knows better."""
        image_bundle(tmp_path / "image", dim=texts.dim)
        with pytest.raises(InputError, match="--same-space"):
            join_bundles(bundle_path("static"), [tmp_path / "image"], tmp_path / "both")
        manifest = join_bundles(bundle_path("static"), [tmp_path / "image"], tmp_path / "both", same_space=True)
        assert manifest.provenance["same_space"] == "as the caller says"
        assert space_of(manifest) == texts.fingerprint

    def test_what_does_not_belong_together(self, texts: Manifest, made: Path, tmp_path: Path) -> None:
        """Other dims, two towers of one modality, no texts, no tower, an output that is there."""
        image_bundle(tmp_path / "image", dim=texts.dim, space=texts.fingerprint)
        out, static = tmp_path / "both", bundle_path("static")
        wrong: list[tuple[Path, list[Path], str]] = [
            (static, [made], f"of dim {DIM}: they cannot be compared"),
            (static, [tmp_path / "image", tmp_path / "image"], "both have a model for image"),
            (made, [made], "no model for texts"),
            (static, [static], "no model for pictures or sounds"),
        ]
        for first, others, message in wrong:
            with pytest.raises(InputError, match=message):
                join_bundles(first, others, out, same_space=True)
        assert not out.exists()
        out.mkdir()
        with pytest.raises(InputError, match="not a bundle"):
            join_bundles(static, [tmp_path / "image"], out)

    def test_damaged_part_is_refused(self, texts: Manifest, tmp_path: Path) -> None:
        """Parts are verified before anything is copied."""
        image_bundle(tmp_path / "image", dim=texts.dim, space=texts.fingerprint)
        content = bytearray((tmp_path / "image" / "image.onnx").read_bytes())
        content[-1] ^= 1
        (tmp_path / "image" / "image.onnx").write_bytes(content)
        with pytest.raises(BundleDamagedError):
            join_bundles(bundle_path("static"), [tmp_path / "image"], tmp_path / "both")
        assert not (tmp_path / "both").exists()


def test_text_model_is_not_read_for_a_tower_alone(tmp_path: Path) -> None:
    """With only the image tower asked for, neither tokenizer nor model of texts is opened: here they are damaged."""
    texts = read_bundle(bundle_path("static")).manifest
    image_bundle(tmp_path / "image", dim=texts.dim, space=texts.fingerprint)
    join_bundles(bundle_path("static"), [tmp_path / "image"], tmp_path / "both")
    for name in ("tokenizer.json", "table.safetensors"):
        path = tmp_path / "both" / name
        path.write_bytes(b"\0" * path.stat().st_size)
    embedder = Embedder(tmp_path / "both", towers=("image",))
    assert embedder.encode_image([photo()]).shape == (1, texts.dim)
    assert embedder.modalities == ("image",)
    with pytest.raises(InputError, match="loaded without its model for texts"):
        embedder.encode(["rain"])
    with pytest.raises(BundleError):
        Embedder(tmp_path / "both")


def test_deep_copy_of_a_manifest_is_equal(made: Path) -> None:
    """A manifest is data."""
    manifest = read_bundle(made).manifest
    assert copy.deepcopy(manifest) == manifest
