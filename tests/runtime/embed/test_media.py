"""Embedder.encode_image and encode_audio: pictures and sounds of callers."""

import asyncio
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders.pictures import image, photo, saved
from builders.towerbundles import DIM, image_bundle
from PIL import Image

from edge_embed import ComposedEmbedder, Document, Embedder, Index
from edge_embed.embedder import bundle_path
from edge_embed.errors import InputError, MediaError, MissingExtraError
from edge_embed_runtime import extras
from edge_embed_runtime.bundle.bundle import read_bundle
from edge_embed_runtime.bundle.join import join_bundles


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("media") / "image"
    image_bundle(folder)
    return folder


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The static bundle with an image tower."""
    folder = tmp_path_factory.mktemp("joined")
    texts = read_bundle(bundle_path("static")).manifest
    image_bundle(folder / "image", dim=texts.dim, space=texts.fingerprint)
    join_bundles(bundle_path("static"), [folder / "image"], folder / "both")
    return folder / "both"


def test_a_picture_in_every_form(made: Path, tmp_path: Path) -> None:
    """Path, text of a path, bytes, PIL image, array: one picture, one vector; all pictures of one array."""
    pixels = photo()
    content = saved(Image.fromarray(pixels), "PNG")
    (tmp_path / "a.png").write_bytes(content)
    embedder = Embedder(made)
    given: list[Any] = [tmp_path / "a.png", str(tmp_path / "a.png"), content, Image.fromarray(pixels), pixels]
    found = embedder.encode_image(given)
    assert (found.shape, found.dtype) == ((5, DIM), np.float32)
    assert all(np.array_equal(found[0], row) for row in found)
    assert np.array_equal(embedder.encode_image(np.stack([pixels, pixels])), found[:2])
    assert np.array_equal(embedder.encode_image(tuple(given)), found)
    assert np.array_equal(embedder.encode_image(iter(given[:2])), found[:2])
    assert embedder.encode_image([]).shape == (0, DIM)
    assert np.array_equal(asyncio.run(embedder.aencode_image(given[:1])), found[:1])


@pytest.mark.parametrize(
    "given",
    ["a.png", b"\x89PNG", Path("a.png"), {"a.png"}, {"a": 1}, None, 3, photo(), Image.fromarray(photo())],
    ids=lambda given: type(given).__name__,
)
def test_one_picture_alone_is_a_mistake(made: Path, given: Any) -> None:
    """What is no list of pictures is refused, with what to write."""
    with pytest.raises(InputError, match=r"encode_image takes a list of pictures.*write encode_image\(\[picture\]\)"):
        Embedder(made).encode_image(given)


def test_bad_picture_is_named_by_place_and_path(made: Path, tmp_path: Path) -> None:
    """One of several that cannot be read: its place among them, its file, and a code; with `each_input` all go on."""
    bad = tmp_path / "broken.jpg"
    bad.write_bytes(b"\xff\xd8\xff no picture")
    embedder = Embedder(made, threads=2)
    with pytest.raises(MediaError, match=r"^image 2: .*broken\.jpg") as raised:
        embedder.encode_image([photo(), photo(), bad, photo()])
    assert (raised.value.path, raised.value.code) == (str(bad), "bad_image")
    with pytest.raises(MediaError, match=r"^(?!image 0).*broken\.jpg"):
        embedder.encode_image([bad])
    found = dict(embedder.each_input("image", [photo(), bad, photo(seed=1)]))
    assert isinstance(found[1], MediaError)
    assert np.array_equal(found[0], embedder.encode_image([photo()]))
    assert np.array_equal(found[2], embedder.encode_image([photo(seed=1)]))


def test_what_a_bundle_has_no_model_for(made: Path) -> None:
    """Every call that needs a model which is not there says what there is, and nothing crashes."""
    embedder = Embedder(made)
    assert (embedder.modalities, embedder.max_tokens, embedder.is_static) == (("image",), 0, False)
    calls = [
        lambda: embedder.encode(["rain"]),
        lambda: embedder.encode_query(["rain"]),
        lambda: embedder.count_tokens(["rain"]),
        lambda: embedder.encode_tokens(["rain"]),
        lambda: embedder.tokenizer,
        lambda: embedder.network,
        lambda: ComposedEmbedder([(embedder, 1.0)]),
    ]
    for call in calls:
        with pytest.raises(InputError, match="no model for texts: it has one for image"):
            call()
    with pytest.raises(InputError, match="no model for sounds: it has one for image"):
        embedder.encode_audio(["a.wav"])
    with pytest.raises(InputError, match="no model for sounds"):
        embedder.each_input("audio", ["a.wav"])
    with pytest.raises(InputError, match="modality is 'video'"):
        embedder.each_input("video", ["a.mp4"])
    with pytest.raises(InputError, match="no model for pictures: it has one for text"):
        Embedder("static").encode_image([photo()])


def test_kinds_have_calls_of_their_own(made: Path, tmp_path: Path) -> None:
    """Several vectors for a picture come as a list; each call names the other."""
    image_bundle(tmp_path / "several", kind="multi")
    several = Embedder(tmp_path / "several")
    found = several.encode_image_multi([photo(), photo(seed=1)])
    assert [vectors.shape for vectors in found] == [(3, DIM), (3, DIM)]
    with pytest.raises(InputError, match="call encode_image_multi"):
        several.encode_image([photo()])
    with pytest.raises(InputError, match=r"call encode_image$"):
        Embedder(made).encode_image_multi([photo()])


def test_towers_chooses_what_is_loaded(both: Path) -> None:
    """Texts alone, pictures alone, or both at once; what was not asked for is refused with the reason."""
    texts = Embedder(both, towers=("text",))
    assert texts.modalities == ("text",)
    with pytest.raises(InputError, match="loaded without its model for pictures") as raised:
        texts.encode_image([photo()])
    assert raised.value.option == "towers"
    pictures = Embedder(both, towers=["image"])
    assert pictures.modalities == ("image",)
    with pytest.raises(InputError, match="loaded without its model for texts"):
        pictures.encode(["rain"])
    whole = Embedder(both, towers=("text", "image"))
    assert np.array_equal(whole.encode_image([photo()]), pictures.encode_image([photo()]))
    assert np.array_equal(whole.encode(["rain"]), texts.encode(["rain"]))
    assert whole.space == texts.space == read_bundle(bundle_path("static")).manifest.fingerprint
    for wrong in ("image", (), ("video",), 3):
        with pytest.raises(InputError, match="towers is"):
            Embedder(both, towers=wrong)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="no model for sounds"):
        Embedder(both, towers=("audio",))


def test_texts_that_are_asked_for_must_be_there(made: Path) -> None:
    """`towers` names a model that the bundle lacks: refused at once."""
    with pytest.raises(InputError, match="no model for texts"):
        Embedder(made, towers=("text", "image"))
    with pytest.raises(InputError, match="no model runs in the native engine"):
        Embedder(made, engine="native")


def test_pickled_embedder_has_its_towers(both: Path) -> None:
    """Options travel; the models are loaded again."""
    embedder = Embedder(both, towers=("image",), truncate_dim=8, threads=1)
    again = pickle.loads(pickle.dumps(embedder))  # noqa: S301
    assert again.modalities == ("image",)
    assert np.array_equal(again.encode_image([photo()]), embedder.encode_image([photo()]))


def test_threads_and_background(both: Path) -> None:
    """Threads may be set later; an embedder in the background has the same vectors."""
    embedder = Embedder(both)
    expected = embedder.encode_image([photo(seed=i) for i in range(4)])
    embedder.threads = 1
    assert np.array_equal(embedder.encode_image([photo(seed=i) for i in range(4)]), expected)
    behind = Embedder(both, background=True)
    assert np.array_equal(behind.encode_image([photo(seed=i) for i in range(4)]), expected)


def test_without_pillow_the_extra_is_named(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts need no Pillow; pictures say which extra brings it."""
    embedder = Embedder(made)
    embedder.encode_image([photo()])
    real = extras.importlib.import_module

    def missing(name: str, *given: Any) -> Any:
        if name.startswith("PIL"):
            raise ModuleNotFoundError("No module named 'PIL'", name="PIL")
        return real(name, *given)

    monkeypatch.setattr(extras.importlib, "import_module", missing)
    with pytest.raises(MissingExtraError, match=r"pip install 'edge-embed\[image\]'"):
        embedder.encode_image([saved(image(), "PNG")])


def test_joined_bundle_serves_an_index_of_texts(both: Path, tmp_path: Path) -> None:
    """A bundle with towers is a bundle for texts as any other."""
    with Index.open(tmp_path / "notes.db", Embedder(both)) as index:
        index.add([Document("a", "rain falls"), Document("b", "a dog barks")])
        assert index.search("barking dogs", k=1)[0].key == "b"
