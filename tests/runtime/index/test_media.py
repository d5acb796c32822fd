"""Documents with pictures and sounds: stored, embedded once, found again, changed and moved."""

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders.mediaembedders import MediaEmbedder, picture, write_picture

from edge_embed import (
    ComposedEmbedder,
    Document,
    DocumentError,
    Embedder,
    Index,
    IndexFormatError,
    InputError,
    MemoryBudgetError,
    SourceError,
    dump_vectors,
    load_vectors,
    verify_index,
)
from edge_embed.errors import MediaError
from edge_embed_runtime.index.files import IndexedFiles
from edge_embed_runtime.storage.media import Media
from edge_embed_runtime.storage.root import Root
from edge_embed_runtime.system.memory import rss_bytes

BOAT, SNOW = "a red boat on the sea", "snow on the mountains"


@pytest.fixture
def towers() -> MediaEmbedder:
    return MediaEmbedder()


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    write_picture(folder / "boat.jpg", BOAT)
    write_picture(folder / "snow.jpg", SNOW)
    return folder


@pytest.fixture
def path(tmp_path: Path, towers: MediaEmbedder, photos: Path) -> Path:
    """An index of a text, a picture, a picture with a caption, and a sound."""
    with Index.open(tmp_path / "docs.db", towers) as index:
        index.add(
            [
                Document("note", "The ferry leaves at nine."),
                Document("boat", image=photos / "boat.jpg"),
                Document("snow", "Winter in the Alps", {"album": 3}, image=photos / "snow.jpg", time="2024-01-31"),
                Document("engine", audio=picture("a boat engine")),
            ]
        )
    towers.embedded.clear()
    return tmp_path / "docs.db"


def rows(path: Path, query: str) -> list[Any]:
    with closing(sqlite3.connect(path)) as db:
        return db.execute(query).fetchall()


def test_what_is_stored_is_given_back(path: Path, towers: MediaEmbedder, photos: Path) -> None:
    """`get` says what is known of a picture, and what it gives can be stored as it is."""
    with Index.open(path, towers) as index:
        snow = index.get("snow")
        assert snow is not None
        assert (snow.text, snow.metadata, snow.time) == ("Winter in the Alps", {"album": 3}, "2024-01-31")
        assert (snow.image.kind, snow.image.source, snow.audio) == ("image", str(photos / "snow.jpg"), None)
        documents = [document for document in index.get_many(["note", "boat", "snow", "engine"]) if document]
        assert [document.image is not None for document in documents] == [False, True, True, False]
        assert list(index.find()) == sorted(documents, key=lambda document: document.key)
        assert index.upsert(documents) == 0
        assert index.unchanged(documents) == {"note", "boat", "snow", "engine"}
        assert index.upsert([replace(snow, metadata={"album": 4})]) == 1
        assert index.get("snow") == replace(snow, metadata={"album": 4})
    assert towers.embedded == []
    assert verify_index(path).whole


def test_rows_say_what_they_are_of(path: Path) -> None:
    """The vector of a picture is a row of `vec` that lies nowhere in the text, and its words are those of its text."""
    starts = rows(path, "SELECT key, start, stop FROM vec JOIN doc ON doc.id = vec.doc ORDER BY vec.id")
    assert starts == [("note", 0, 25), ("boat", -1, -1), ("snow", -1, -1), ("snow", 0, 18), ("engine", -2, -2)]
    assert rows(path, "SELECT count(*) FROM fts_docsize") == [(2,)]


def test_nothing_is_embedded_twice(path: Path, towers: MediaEmbedder, photos: Path) -> None:
    """Pictures that are unchanged, renamed, or there under another key; nor one that comes twice in a call."""
    write_picture(photos / "copy.jpg", BOAT)
    with Index.open(path, towers) as index:
        assert index.upsert([Document("boat", image=photos / "boat.jpg")]) == 0
        assert index.add([Document("copy", image=photos / "copy.jpg"), Document("bytes", image=picture(BOAT))]) == 2
        assert towers.embedded == []
        index.add([Document(f"new {i}", image=picture("a tree")) for i in range(3)])
        assert towers.embedded == ["a tree"]
        vectors = index.vectors(["boat", "copy", "bytes", "new 0", "new 2"])
        np.testing.assert_array_equal(vectors["boat"], vectors["copy"])
        np.testing.assert_array_equal(vectors["new 0"], vectors["new 2"])
        hashes = {bytes.fromhex(index.get("boat").image.sha256), bytes(32)}  # type: ignore[union-attr]
        assert index.known_media(hashes) == hashes - {bytes(32)}
    assert verify_index(path).whole


def test_a_picture_is_not_a_sound(path: Path, towers: MediaEmbedder) -> None:
    """The same bytes as a picture and as a sound are embedded by both towers."""
    with Index.open(path, towers) as index:
        index.add([Document("seen", image=picture("a boat engine"))])
        assert towers.embedded == ["a boat engine"]


def test_a_changed_picture_is_embedded_again(path: Path, towers: MediaEmbedder, photos: Path) -> None:
    with Index.open(path, towers) as index:
        write_picture(photos / "boat.jpg", "a green tree")
        assert index.upsert([Document("boat", image=photos / "boat.jpg")]) == 1
        assert towers.embedded == ["a green tree"]
        assert index.search("tree", k=1, kind="image")[0].key == "boat"
    assert verify_index(path).whole


@pytest.mark.parametrize(
    ("document", "expected", "message"),
    [
        (Document("x"), DocumentError, "has no text"),
        (Document("x", image=3), DocumentError, "image is int"),
        (Document("x", image=np.zeros((2, 2), np.uint8)), DocumentError, "image is ndarray"),
        (Document("x", audio=(np.zeros(3, np.int16), 8000)), DocumentError, "audio is tuple"),
        (Document("x", image=b"a", audio=b"b"), DocumentError, "a picture and a sound"),
        (Document("x", "text", time="2024"), DocumentError, "there is none"),
        (Document("x", image=b"a", time="yesterday"), DocumentError, "ISO 8601"),
        (Document("x", image=Media("audio", "", "0" * 64)), DocumentError, "expected a Media of kind 'image'"),
        (Document("x", image=Media("image", "", "0" * 63)), DocumentError, "expected a Media"),
        (Document("x", image=Media("image", "", "0" * 64)), MediaError, "was not given as a file"),
        (Document("x", image="missing.jpg"), MediaError, r"missing\.jpg does not exist"),
        (Document("x", image=b"no picture"), MediaError, "document 'x': the picture is no picture; nothing was stored"),
    ],
)
def test_bad_pictures_store_nothing(
    path: Path, towers: MediaEmbedder, document: Document, expected: type[Exception], message: str
) -> None:
    """One clear error that names the document, and none of the call is stored."""
    with Index.open(path, towers) as index:
        with pytest.raises(expected, match=message) as caught:
            index.add([Document("fine", "A text."), Document("good", image=picture("a cat")), document])
        assert caught.value.keys == ("x",)  # type: ignore[attr-defined]
        assert len(index) == 4
        assert index.verify().whole


def test_a_file_that_changes_while_it_is_read(path: Path, photos: Path) -> None:
    """Its vector would belong to no hash: nothing is stored."""

    class Slow(MediaEmbedder):
        def _shown(self, given: Any) -> Any:
            vectors = super()._shown(given)
            write_picture(photos / "new.jpg", "something longer than before")
            return vectors

    write_picture(photos / "new.jpg", "short")
    with Index.open(path, Slow()) as index, pytest.raises(MediaError, match=r"new\.jpg changed while it was read"):
        index.add([Document("new", image=photos / "new.jpg")])


def test_those_that_cannot_be_read_are_refused_one_by_one(path: Path, towers: MediaEmbedder, photos: Path) -> None:
    """With `refused`, all others are stored; a document that was there before stays as it was."""
    (photos / "boat.jpg").write_bytes(b"cut off")
    found = []
    documents = [
        Document("gone", image=photos / "gone.jpg"),
        Document("boat", "a caption", image=photos / "boat.jpg"),
        Document("bad", image=b"same"),
        Document("bad too", "text", image=b"same"),
        Document("good", "a text", image=picture("a cat")),
        Document("note", "Another note."),
    ]
    with Index.open(path, towers) as index:
        before = index.get("boat")
        assert index.upsert(documents, refused=lambda document, error: found.append((document.key, str(error)))) == 2
        assert [key for key, _ in found] == ["gone", "boat", "bad", "bad too"]
        assert found[1][1] == f"{photos / 'boat.jpg'} is no picture"
        assert index.get("boat") == before
        assert len(index) == 5
        assert index.verify().whole


def test_it_needs_an_embedder_with_towers(path: Path, tmp_path: Path, photos: Path) -> None:
    """Every other one says so, and texts can be added all the same."""
    document = Document("x", image=picture("a cat"))
    with Index.open(path, Embedder("static")) as index:
        with pytest.raises(InputError, match="pictures need an Embedder with a bundle that has a tower for them"):
            index.add([document])
        with pytest.raises(InputError, match="sounds need an Embedder"):
            index.search(audio=picture("a cat"))
        assert index.add([Document("y", image=photos / "boat.jpg"), Document("z", "A text.")]) == 2  # which it knows
    with Index.open(path) as index, pytest.raises(InputError, match="without an embedder"):
        index.add([document])
    with Index.open(path, read_only=True) as index, pytest.raises(InputError, match="without the Embedder"):
        index.search(image=picture("a cat"))
    both = ComposedEmbedder([(Embedder("static"), 1), (Embedder("static"), 1)])
    with Index.open(tmp_path / "composed.db", both) as index, pytest.raises(InputError, match="embeds text alone"):
        index.add([document])


def test_files_are_named_from_the_root(tmp_path: Path, towers: MediaEmbedder, photos: Path) -> None:
    """An index that is moved along with its pictures finds them where they are now."""
    home = tmp_path / "home"
    home.mkdir()
    photos.rename(home / "photos")
    with Index.open(home / "docs.db", towers) as index:
        index.root = Root.at(home, home / "docs.db")
        index.add([Document("boat", image=home / "photos" / "boat.jpg")])
        assert index.get("boat").image.source == "photos/boat.jpg"  # type: ignore[union-attr]
    home.rename(tmp_path / "moved")
    with Index.open(tmp_path / "moved" / "docs.db", towers) as index:
        (hit,) = index.search("boat")
        assert (hit.kind, hit.source) == ("image", str(tmp_path / "moved" / "photos" / "boat.jpg"))
        assert index.upsert([Document("boat", image=tmp_path / "moved" / "photos" / "boat.jpg")]) == 0


def test_renamed_files_keep_their_vectors(path: Path, towers: MediaEmbedder, photos: Path) -> None:
    """`files.move` gives a document with a picture another key and path, where the content is the same."""
    (photos / "boat.jpg").rename(photos / "ship.jpg")
    with Index.open(path, towers) as index:
        moves = [
            ("boat", Document("ship", image=photos / "ship.jpg")),
            ("snow", Document("other", "Winter in the Alps", image=photos / "ship.jpg")),
            ("note", Document("noted", "The ferry leaves at nine.", image=photos / "ship.jpg")),
        ]
        assert isinstance(index.files, IndexedFiles)
        assert index.files.move(moves) == {"ship"}
        assert index.get("ship").image.source == str(photos / "ship.jpg")  # type: ignore[union-attr]
        assert "boat" not in index
        assert index.verify().whole
    assert towers.embedded == []


def test_deleting_takes_all_of_it_away(path: Path, towers: MediaEmbedder) -> None:
    with Index.open(path, towers) as index:
        assert index.search("boat", kind="image")[0].key == "boat"
        assert index.delete(["boat", "snow", "engine"]) == 3
        assert [hit.key for hit in index.search("boat", mode="vector")] == ["note"]
        assert index.search("boat", mode="vector")[0].score < 1  # a cosine: texts alone are left
        assert index.stats()["kinds"] == {"text": 1, "image": 0, "audio": 0}
    assert verify_index(path).whole
    assert rows(path, "SELECT count(*) FROM media") == [(0,)]


def test_an_index_without_pictures_is_as_before(tmp_path: Path, towers: MediaEmbedder) -> None:
    """No table, no column, nothing in `stats`; opened by a model that knows pictures."""
    with Index.open(tmp_path / "texts.db", towers) as index:
        index.add([Document("a", "A text.")])
        assert "kinds" not in index.stats()
        assert index.thumbnail("a") is None
        assert index.modalities == ("text", "image", "audio")
    names = {name for (name,) in rows(tmp_path / "texts.db", "SELECT name FROM sqlite_schema")}
    assert not {name for name in names if "media" in name}


def test_other_tables_of_this_name_are_refused(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("DROP INDEX media_sha256")
    with pytest.raises(IndexFormatError, match="its tables are not ours"):
        Index.open(path)


def test_thumbnails(path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch, towers: MediaEmbedder) -> None:
    """Stored where asked for, kept when a document changes, copied with a picture that is known."""
    from edge_embed_runtime.inputs import thumbnails

    monkeypatch.setattr(thumbnails, "thumbnail", lambda given: b"small " + Path(given).read_bytes())
    write_picture(photos / "tree.jpg", "a tree")
    (photos / "copy.jpg").write_bytes((photos / "tree.jpg").read_bytes())
    with Index.open(path, towers) as index:
        index.add([Document("tree", image=photos / "tree.jpg")], thumbnails=True)
        index.add([Document("copy", image=photos / "copy.jpg")])
        index.upsert([Document("tree", "now with a caption", image=photos / "tree.jpg")])
        assert index.thumbnail("tree") == index.thumbnail("copy") == b"small PICTURE a tree"
        assert index.thumbnail("boat") is None
        assert index.thumbnail("nothing") is None
        assert index.verify().whole


def test_given_vectors_of_pictures(tmp_path: Path, photos: Path) -> None:
    """In an index of vectors from elsewhere the vector is that of the picture, and its caption is found by words."""
    vectors = np.eye(4, dtype=np.float32)
    documents = [
        Document("boat", image=photos / "boat.jpg"),
        Document("snow", "Winter in the Alps", image=photos / "snow.jpg", time="2024-01-31"),
        Document("note", "A note on winter"),
        Document("song", audio=picture("a song")),
    ]
    with Index.create(tmp_path / "given.db", space="api", dim=4) as index:
        assert index.add_vectors(documents, vectors) == 4
        assert index.upsert_vectors(documents, vectors) == 0
        assert index.upsert_vectors(documents[1:2], vectors[:1]) == 1
        assert index.search(vector=vectors[0], kind="image", k=1)[0].score == pytest.approx(1, abs=1e-3)
        assert {hit.key for hit in index.search("winter", mode="text")} == {"snow", "note"}
        assert index.search("winter", vector=vectors[2])[0].key == "note"
        assert {hit.key for hit in index.search("winter", vector=vectors[3], kind="text")} == {"snow", "note"}
        assert {hit.key for hit in index.search(vector=vectors[3], mode="vector")} == {"boat", "snow", "note", "song"}
        assert index.verify().whole
        with pytest.raises(InputError, match="without the Embedder that pictures need"):
            index.search(image=picture("a boat"))


@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
def test_dumped_and_loaded(path: Path, tmp_path: Path, towers: MediaEmbedder, photos: Path, suffix: str) -> None:
    """What is known of pictures goes with their vectors, thumbnails too, and comes back."""
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    small = b"RIFF\0\0\0\0WEBP and so on"
    with Index.open(path, towers) as index:
        index.delete("snow")  # a passage and a picture: two rows with one key, as of a long text
        known = Media("image", "", "ab" * 32, thumbnail=small)
        with pytest.raises(MediaError, match="the index keeps no copy"):
            index.add([Document("given", image=known)])
        boat = index.get("boat")
        index.add([Document("small", image=replace(boat.image, thumbnail=small))])  # type: ignore[union-attr]
        vectors = index.vectors(["note", "boat", "engine", "small"])
    dumped = dump_vectors(path, tmp_path / f"out{suffix}")
    assert (dumped.rows, dumped.damaged) == (4, 0)
    loaded = load_vectors(tmp_path / "new.db", tmp_path / f"out{suffix}", space="copy")
    assert loaded.stored == 4
    with Index.open(tmp_path / "new.db") as copy:
        expected_image = replace(boat.image, source="photos/boat.jpg")  # type: ignore[union-attr]
        assert copy.get("boat") == replace(boat, image=expected_image)  # type: ignore[type-var]
        assert copy.thumbnail("small") == small
        assert copy.thumbnail("boat") is None
        for key, expected in vectors.items():
            np.testing.assert_allclose(copy.vectors([key])[key], expected, atol=2e-3)
        assert copy.stats()["kinds"] == {"text": 1, "image": 2, "audio": 1}
        assert copy.verify().whole
    again = dump_vectors(tmp_path / "new.db", tmp_path / f"again{suffix}")
    assert again.rows == 4
    assert load_vectors(tmp_path / "new.db", tmp_path / f"again{suffix}").unchanged == 4


def test_a_dump_that_says_nonsense(path: Path, tmp_path: Path, towers: MediaEmbedder) -> None:
    with Index.open(path, towers) as index:
        index.delete("snow")
    dump_vectors(path, tmp_path / "out.npz")
    arrays = dict(np.load(tmp_path / "out.npz"))
    for bad in ("[]", "{", '{"kind": "image"}', '{"kind": "image", "source": "", "sha256": "x", "more": 1}'):
        raw = [b"", bad.encode(), b""]
        arrays["media"] = np.frombuffer(b"".join(raw), np.uint8)
        arrays["media_offsets"] = np.cumsum([0, *map(len, raw)])
        np.savez(tmp_path / "bad.npz", **arrays)
        with pytest.raises(SourceError, match="row 1: media is not what a dump says"):
            load_vectors(tmp_path / "new.db", tmp_path / "bad.npz", space="copy")


def test_a_model_that_reads_no_texts(tmp_path: Path, photos: Path) -> None:
    """Captions are found by their words; texts are refused, and so is a meaning to look for."""
    alone = MediaEmbedder(modalities=("image",))
    with Index.open(tmp_path / "photos.db", alone) as index:
        index.add([Document("boat", image=photos / "boat.jpg")])
        index.add([Document("snow", "Winter in the Alps", image=photos / "snow.jpg")])
        with pytest.raises(InputError, match="texts need an Embedder with a bundle that has a tower for them"):
            index.add([Document("note", "A note.")])
        assert (index.takes_texts, index.modes, index.modalities) == (False, ["text"], ("image",))
        assert [hit.key for hit in index.search("winter")] == ["snow"]
        assert index.search(image=picture(SNOW))[0].key == "snow"
        assert index.search(image=picture(BOAT), kind="image", k=1)[0].key == "boat"
        with pytest.raises(InputError, match="embeds image alone"):
            index.search("winter", mode="vector")
        assert index.upsert([Document("snow", "Winter in the Alps", image=photos / "snow.jpg")]) == 0
        index.rebuild()
        assert index.verify().whole
    assert dump_vectors(tmp_path / "photos.db", tmp_path / "out.npz").rows == 2
    assert load_vectors(tmp_path / "new.db", tmp_path / "out.npz", space="copy").stored == 2


def test_late_chunking(tmp_path: Path, photos: Path, embedder: Embedder) -> None:
    """Captions are chunked late, pictures are none of it."""
    towers = MediaEmbedder(str(embedder.path), threads=1)
    long = "Rain falls on the hills. " * 80
    with Index.open(tmp_path / "late.db", towers, late_chunking=True) as index:
        index.add([Document("boat", long, image=photos / "boat.jpg"), Document("note", long)])
        with Index.open(tmp_path / "plain.db", embedder, late_chunking=True) as plain:
            plain.add([Document("note", long)])
            expected = plain.vectors("note")["note"]
        np.testing.assert_array_equal(index.vectors("boat")["boat"][1:], expected)
        np.testing.assert_array_equal(index.vectors("note")["note"], expected)
        assert index.verify().whole


def test_a_memory_budget(path: Path, photos: Path) -> None:
    """Adding and searching under one, and a document whose picture as bytes is larger than the room."""
    with Index.open(path, MediaEmbedder(), max_rss_mb=rss_bytes() / 1e6 + 60) as index:
        write_picture(photos / "new.jpg", "a new picture")
        index.add([Document("new", "a caption", image=photos / "new.jpg")])
        assert index.search("a new picture", kind="image", k=1)[0].key == "new"
        with pytest.raises(MemoryBudgetError):
            index.add([Document("large", image=picture("x" * 80_000_000))])
        assert "large" not in index


def test_real_pictures(tmp_path: Path) -> None:
    """A tower that reads pixels: by path, bytes, array and PIL image, with thumbnails; and the query likewise."""
    pytest.importorskip("PIL")
    from builders.colours import COLOURS, colour_bundle
    from PIL import Image

    pixels = {name: np.full((40, 60, 3), colour, np.uint8) for name, colour in COLOURS.items()}
    Image.fromarray(pixels["red"]).save(tmp_path / "red.png")
    Image.fromarray(pixels["blue"]).save(tmp_path / "blue.jpg")
    documents = [
        Document("red", image=tmp_path / "red.png"),
        Document("blue", image=(tmp_path / "blue.jpg").read_bytes()),
        Document("green", image=pixels["green"]),
        Document("yellow", image=Image.fromarray(pixels["yellow"])),
        Document("note", "Something about green meadows"),
    ]
    with Index.open(tmp_path / "docs.db", Embedder(colour_bundle(tmp_path / "colours"), threads=1)) as index:
        index.add(documents, thumbnails=True)
        assert index.upsert(documents, thumbnails=True) == 0
        for name in ("red", "blue", "green", "yellow"):
            assert index.search(name, kind="image", k=1)[0].key == name
            assert index.search(image=pixels[name], kind="image", k=1)[0].key == name
            small = index.thumbnail(name)
            assert small is not None
            assert small[8:12] == b"WEBP"
        with pytest.raises(MediaError, match=r"document 'cut'.*nothing was stored"):
            index.add([Document("cut", image=(tmp_path / "red.png").read_bytes()[:60])])
        assert {hit.key for hit in index.search("green", k=2)} == {"note", "green"}
        assert index.verify().whole
