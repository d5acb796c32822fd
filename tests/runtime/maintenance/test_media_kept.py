"""Maintenance of an index with pictures and sounds: damage is found and named, and what can be restored is."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders.files import alter
from builders.mediaembedders import MediaEmbedder, picture, write_picture

from edge_embed import Document, Embedder, Index, IndexDamagedError, InputError, reembed_index, verify_index
from edge_embed.errors import MediaError
from edge_embed_runtime.maintenance.backup import backup_index
from edge_embed_runtime.maintenance.staging import staging_path
from edge_embed_runtime.storage.media import Media

SMALL = b"RIFF\0\0\0\0WEBP and so on"
PHOTO = "doc = (SELECT id FROM doc WHERE key = 'photo')"


@pytest.fixture(scope="module")
def towers() -> MediaEmbedder:
    return MediaEmbedder()


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    return write_picture(tmp_path / "photo.jpg", "a red boat")


@pytest.fixture
def path(tmp_path: Path, towers: MediaEmbedder, photo: Path) -> Path:
    with Index.open(tmp_path / "docs.db", towers) as index:
        index.add([Document("note", "Bread is baked before dawn."), Document("sound", audio=picture("rain"))])
        index.add([Document("photo", "A caption of words", image=photo)])
        known = index.get("photo")
        assert known is not None
        small = Media("image", str(photo), known.image.sha256, thumbnail=SMALL)
        index.upsert([Document("photo", "A caption of some words", image=small)])
    return tmp_path / "docs.db"


def everything(path: Path, towers: Embedder) -> Any:
    """What an index holds, as far as it can be asked."""
    with Index.open(path, towers, read_only=True) as index:
        documents = list(index.find())
        vectors = index.vectors(document.key for document in documents)
        hits = index.search("a boat"), index.search("caption", mode="text")
        return documents, {key: rows.tolist() for key, rows in vectors.items()}, hits, index.thumbnail("photo")


@pytest.mark.parametrize(
    ("statement", "what"),
    [
        (f"UPDATE media SET source = 'x' WHERE {PHOTO}", "what is known of its picture or sound is damaged"),
        (f"UPDATE media SET sha256 = zeroblob(32) WHERE {PHOTO}", "what is known of its picture or sound is damaged"),
        (f"UPDATE media SET kind = 'audio' WHERE {PHOTO}", "what is known of its picture or sound is damaged"),
        (f"UPDATE media SET crc = 1 WHERE {PHOTO}", "what is known of its picture or sound is damaged"),
        (f"DELETE FROM media WHERE {PHOTO}", "nothing is known of its picture or sound"),
    ],
)
def test_damaged_facts_on_a_picture(path: Path, towers: MediaEmbedder, statement: str, what: str) -> None:
    """Found by verify and named, no search returns the document, and repair can delete it."""
    alter(path, statement)
    report = verify_index(path)
    assert [(damage.key, damage.what) for damage in report.damaged] == [("photo", what)]
    with Index.open(path, towers) as index:
        assert "photo" not in {hit.key for hit in index.search("a red boat", kind="image")}
        if "DELETE" not in statement:
            with pytest.raises(IndexDamagedError, match="the facts on the picture or sound of the document 'photo'"):
                index.get("photo")
        repaired = index.repair()
        assert [damage.key for damage in repaired.lost] == ["photo"]
        assert [damage.key for damage in index.repair(drop=True).dropped] == ["photo"]
        assert index.verify().whole
        assert len(index) == 2


def test_a_damaged_thumbnail(path: Path, towers: MediaEmbedder) -> None:
    """It goes; all else of the picture stays."""
    alter(path, f"UPDATE media SET thumbnail = x'00' WHERE {PHOTO}")
    assert [(damage.key, damage.what) for damage in verify_index(path).damaged] == [
        ("photo", "its thumbnail is damaged")
    ]
    with Index.open(path, towers) as index:
        with pytest.raises(IndexDamagedError, match="the thumbnail of 'photo' is damaged"):
            index.thumbnail("photo")
        assert index.search("a red boat", kind="image")[0].key == "photo"
        assert index.repair().rebuilt == ["thumbnails"]
        assert index.thumbnail("photo") is None
        assert index.verify().whole
        assert index.search("a red boat", kind="image")[0].key == "photo"


VECTOR = f"{PHOTO} AND start < 0"


@pytest.mark.parametrize(
    "statement",
    [
        f"UPDATE vec SET code = zeroblob(length(code)) WHERE {VECTOR}",
        f"UPDATE vec SET start = -2, stop = -2 WHERE {VECTOR}",
        f"UPDATE vec SET start = 0, stop = 1 WHERE {VECTOR}",
        f"DELETE FROM vec WHERE {VECTOR}",
        f"UPDATE vec SET crc = 7 WHERE {PHOTO} AND start = 0",
    ],
)
def test_a_damaged_vector(path: Path, towers: MediaEmbedder, statement: str) -> None:
    """Made again from the file, while the thumbnail stays."""
    before = everything(path, towers)
    alter(path, statement)
    assert [damage.key for damage in verify_index(path).damaged] == ["photo"]
    with Index.open(path, towers) as index:
        assert index.repair().restored == ["photo"]
    assert everything(path, towers) == before
    assert verify_index(path).whole


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda photo: photo.unlink(), "does not exist"),
        (lambda photo: write_picture(photo, "another"), "is another image than the one that was indexed"),
    ],
)
def test_a_vector_that_cannot_be_made_again(
    path: Path, towers: MediaEmbedder, photo: Path, spoil: Callable[[Path], object], reason: str
) -> None:
    """The document is lost, and the reason is said; the others are restored."""
    alter(path, f"UPDATE vec SET crc = 7 WHERE {VECTOR}", "UPDATE vec SET crc = 7 WHERE doc = 1")
    spoil(photo)
    with Index.open(path, towers) as index:
        repaired = index.repair()
        assert repaired.restored == ["note"]
        (lost,) = repaired.lost
        assert lost.key == "photo"
        assert "passages are damaged" in lost.what
        assert reason in lost.what
        index.repair(drop=True)
        assert sorted(index.keys()) == ["note", "sound"]
        assert index.verify().whole


def test_repair_without_towers(path: Path) -> None:
    """What needs a tower that is not there is lost, and nothing else."""
    alter(path, "UPDATE vec SET crc = 7")
    with Index.open(path, Embedder("static")) as index:
        repaired = index.repair()
        assert repaired.restored == ["note"]
        assert sorted(damage.key for damage in repaired.lost) == ["photo", "sound"]


def test_what_is_known_of_documents_that_are_not_there(path: Path, towers: MediaEmbedder) -> None:
    with closing(sqlite3.connect(path)) as db:
        row = db.execute(f"SELECT * FROM media WHERE {PHOTO}").fetchone()
        db.execute("INSERT INTO media VALUES (77, ?, ?, ?, ?, ?, ?, ?, ?)", row[1:])
        db.commit()
    assert "pictures of 1 documents that are not there" in verify_index(path).problems
    with Index.open(path, towers) as index:
        assert "pictures" in index.repair().rebuilt
        assert index.verify().whole


def test_everything_else_keeps_pictures(path: Path, towers: MediaEmbedder, tmp_path: Path) -> None:
    """compact, rebuild, backup."""
    before = everything(path, towers)
    with Index.open(path, towers) as index:
        index.compact()
        rebuilt = index.rebuild()
        assert rebuilt.passages == 4
    assert everything(path, towers) == before
    backup_index(path, tmp_path / "copy.db", compact=True)
    assert everything(tmp_path / "copy.db", towers) == before
    assert verify_index(path).whole


def test_no_graph_over_several_kinds(path: Path, towers: MediaEmbedder) -> None:
    """A search compares kind by kind, which a graph over all codes cannot."""
    with Index.open(path, towers) as index:
        assert "several kinds" in index.rebuild("always").graph


def test_embedded_again(path: Path, photo: Path, tmp_path: Path, towers: MediaEmbedder) -> None:
    """With another model: pictures are read from their files, and what is known of them stays."""
    with Index.open(path, towers) as index:
        index.delete("sound")
        before = index.get("photo")
    other = MediaEmbedder(truncate_dim=128)
    done = reembed_index(path, other)
    assert (done.documents, done.passages, done.embedded) == (2, 3, 2)
    assert other.embedded == ["a red boat"]
    with Index.open(path, other) as index:
        assert index.get("photo") == before
        assert index.thumbnail("photo") == SMALL
        np.testing.assert_allclose(index.vectors(["photo"])["photo"][0], other.encode(["a red boat"])[0], atol=0.01)
        assert index.search("a red boat", kind="image")[0].source == str(photo)
        assert {hit.key for hit in index.search("caption", mode="text")} == {"photo"}
        assert index.verify().whole
    del tmp_path


def test_several_vectors_of_a_picture(path: Path, tmp_path: Path, towers: MediaEmbedder) -> None:
    """As of BLIP-2: the nearest of them counts; a missing one is found, and all are made again."""
    photo = write_picture(tmp_path / "many.jpg", "a green tree|an old clock|a bicycle")
    with Index.open(path, towers) as index:
        index.delete("sound")
        index.add([Document("many", image=photo)])
        vectors = index.vectors(["many"])["many"]
        assert vectors.shape == (3, towers.dim)
        for query in ("a green tree", "an old clock", "a bicycle"):
            hit = index.search(query, kind="image", k=2)[0]
            assert (hit.key, hit.score > 0.98) == ("many", True)
        index.add([Document("copy", image=photo.read_bytes())])
        np.testing.assert_array_equal(index.vectors(["copy"])["copy"], vectors)
        assert index.search(image=photo, kind="image", k=1)[0].key in ("many", "copy")
        assert index.upsert([Document("many", image=photo)]) == 0
        index.delete("copy")
        assert index.verify().whole
    for statement in ("id = (SELECT max(id) FROM vec WHERE start < 0)", "start < 0 AND doc = 4"):
        alter(path, f"DELETE FROM vec WHERE {statement}")
        assert [damage.key for damage in verify_index(path).damaged] == ["many"]
        with Index.open(path, towers) as index:
            assert index.repair().restored == ["many"]
            np.testing.assert_array_equal(index.vectors(["many"])["many"], vectors)
    other = MediaEmbedder(truncate_dim=128)
    assert reembed_index(path, other).passages == 6
    with Index.open(path, other) as index:
        assert index.vectors(["many"])["many"].shape == (3, 128)
        assert index.verify().whole


def test_pictures_without_files_stop_it(path: Path, photo: Path, towers: MediaEmbedder) -> None:
    """Before anything is embedded, with their keys; a file that is another one stops it later, and nothing changes."""
    before = everything(path, towers)
    other = MediaEmbedder(truncate_dim=128)
    with pytest.raises(InputError, match=r"1 pictures or sounds cannot be read again.*'sound'") as caught:
        reembed_index(path, other)
    assert caught.value.keys == ("sound",)
    with pytest.raises(InputError, match=r"holds pictures and sounds, which the bundle .* has no tower for"):
        reembed_index(path, Embedder("static", truncate_dim=128))
    assert everything(path, towers) == before
    with Index.open(path, towers) as index:
        index.delete("sound")
    write_picture(photo, "a green tree")
    with pytest.raises(MediaError, match=r"document 'photo': .*photo\.jpg is another image"):
        reembed_index(path, other)
    assert other.embedded == []
    write_picture(photo, "a red boat")
    assert reembed_index(path, other).switched


def test_work_that_was_begun_is_not_taken_for_another_picture(path: Path, photo: Path, towers: MediaEmbedder) -> None:
    """A document that has the id of one that was embedded already, and another picture, is embedded again."""

    class Stops(MediaEmbedder):
        def encode(self, texts: Any, **options: Any) -> Any:
            if "Bread" in texts[0]:
                raise KeyboardInterrupt
            return super().encode(texts, **options)

    with Index.open(path, towers) as index:
        index.delete(["note", "sound"])
    reembed_index(path, MediaEmbedder(truncate_dim=128))
    with Index.open(path, MediaEmbedder(truncate_dim=128)) as index:
        index.add([Document("last", image=photo)])
    other = MediaEmbedder(truncate_dim=64)
    from edge_embed_runtime.maintenance import reembed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reembed, "_switch", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            reembed_index(path, other)
    assert staging_path(path).exists()
    write_picture(photo.with_name("new.jpg"), "a green tree")
    with Index.open(path, MediaEmbedder(truncate_dim=128)) as index:
        index.upsert([Document("last", image=photo.with_name("new.jpg"))])
    again = MediaEmbedder(truncate_dim=64)
    done = reembed_index(path, again)
    assert (done.embedded, done.kept) == (1, 1)
    assert again.embedded == ["a green tree"]
