"""add: folders of pictures and sounds, with what is said about them beside them."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from builders.colours import picture, picture_bundle, sound
from builders.commands import added, run, run_json

from edge_embed import Index
from edge_embed.embedder import modalities_of
from edge_embed.files import storing
from edge_embed_runtime.embed.embedder import Embedder


@pytest.fixture(autouse=True)
def place(tmp_path: Path, colours: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDGE_EMBED_BUNDLE", str(colours))
    Path("m").mkdir()
    return tmp_path


@pytest.fixture
def embedded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many pictures and sounds each call of a tower is given."""
    counts: list[int] = []
    whole = Embedder.each_input

    def counting(self: Embedder, modality: str, inputs: Any) -> Any:
        counts.append(len(inputs))
        return whole(self, modality, inputs)

    monkeypatch.setattr(Embedder, "each_input", counting)
    return counts


def write(**files: bytes | str) -> None:
    """write(**{"m/a.png": b"..."})."""
    for name, content in files.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(content.encode() if isinstance(content, str) else content)


def texts() -> dict[str, str]:
    with Index.open("a.db", read_only=True) as index:
        return {document.key: document.text for document in index}


def document(key: str) -> Any:
    with Index.open("a.db", read_only=True) as index:
        return index.get(key)


def test_pictures_sounds_and_texts_are_found_by_words(colours: Path) -> None:
    """One index; each hit says what it is, and where its file lies."""
    assert modalities_of(colours) == {"text", "image", "audio"}
    write(**{
        "m/one.png": picture("red"), "m/two.jpg": picture("blue", "JPEG"), "m/hum.wav": sound("a deep hum"),
        "m/note.md": "A note about the harbour.",
    })  # fmt: skip
    told = added("m")
    assert (told["files"], told["stored"], told["problems"]) == (4, 4, [])
    (hit, *_) = run_json("search", "a.db", "blue", "--kind", "image")["hits"]
    assert (hit["key"], hit["kind"], Path(hit["source"]).name) == ("m/two.jpg", "image", "two.jpg")
    (hit, *_) = run_json("search", "a.db", "a deep hum", "--kind", "audio")["hits"]
    assert (hit["key"], hit["kind"]) == ("m/hum.wav", "audio")
    (listed,) = run_json("find", "a.db", "--where", "$key=m/two.jpg")["documents"]
    assert (listed["kind"], listed["source"], len(listed["sha256"])) == ("image", "m/two.jpg", 64)
    (hit, *_) = run_json("search", "a.db", "harbour", "--kind", "text")["hits"]
    assert (hit["key"], hit["kind"], hit["source"]) == ("m/note.md", "text", "")
    write(**{"asked.png": picture("blue", size=(70, 20))})
    (hit, *_) = run_json("search", "a.db", "--image", "asked.png", "--kind", "image")["hits"]
    assert hit["key"] == "m/two.jpg"
    shown = run("search", "a.db", "--audio", "m/hum.wav", "--kind", "audio").stdout
    assert "1. m/hum.wav" in shown
    assert "audio" in shown


def test_captions_beside_them() -> None:
    """.txt and .json, as Google Takeout names them, too; they are no documents of their own then."""
    write(**{
        "m/a.jpg": picture("red", "JPEG"), "m/a.txt": "A barn\n",
        "m/b.png": picture("green"), "m/b.png.json": json.dumps({"caption": "A meadow", "place": "Alps"}),
        "m/c(1).jpg": picture("blue", "JPEG"),
        "m/c.jpg.supplemental-metadata(1).json": json.dumps(
            {"title": "c.jpg", "description": "At sea", "photoTakenTime": {"timestamp": "1600000000"},
             "people": [{"name": "Ida"}], "geoData": {"latitude": 54.1, "longitude": 8.2}}
        ),
        "m/d.wav": sound("silence"), "m/d.txt": "Nothing to hear", "m/d.json": json.dumps({"version": 3}),
    })  # fmt: skip
    told = added("m")
    assert told["passed_over"] == {"captions of other files": 4}
    said = texts()
    assert (said["m/a.jpg"], said["m/b.png"], said["m/c(1).jpg"]) == ("A barn", "A meadow", "At sea")
    assert said["m/d.wav"] == "Nothing to hear"
    assert said["m/d.json"] == '{"version": 3}'  # says nothing about the sound: a document of its own
    assert document("m/b.png").metadata["place"] == "Alps"
    taken = document("m/c(1).jpg")
    assert (taken.metadata["taken"], taken.metadata["people"]) == ("2020-09-13T12:26:40Z", ["Ida"])
    assert taken.time == "2020-09-13T12:26:40Z"
    assert "latitude" not in taken.metadata  # where somebody was is not stored unasked


@pytest.mark.parametrize(
    ("name", "table"),
    [
        ("metadata.jsonl", '{"file_name": "in/a.png", "text": "Barn", "year": 1990}\n'
         '{"file_name": "in/a.png", "text": "in May"}\n{"file_name": "b.png", "text": "Sea"}\n'),
        ("metadata.csv", "file_name,text,year\nin/a.png,Barn,1990\nin/a.png,in May,1990\nb.png,Sea,\n"),
        ("captions.csv", "file;caption;year\nin/a.png;Barn;1990\nin/a.png;in May;1990\nb.png;Sea;\n"),
    ],
)  # fmt: skip
def test_tables_of_captions(name: str, table: str) -> None:
    """As Hugging Face's folders of pictures have them: rows name files below, several rows are one text."""
    write(**{"m/in/a.png": picture("red"), "m/b.png": picture("blue"), f"m/{name}": table})
    told = added("m")
    assert told["stored"] == 2
    assert texts() == {"m/in/a.png": "Barn\nin May", "m/b.png": "Sea"}
    assert document("m/in/a.png").metadata["year"] == 1990
    write(**{f"m/{name}": table.replace("Sea", "Lake")})
    assert added("m")["stored"] == 1
    assert texts()["m/b.png"] == "Lake"


def test_a_table_that_names_no_file_here_is_read_as_any_other() -> None:
    write(**{"m/a.png": picture("red"), "m/metadata.csv": "file_name,text\nelsewhere.png,A row\n"})
    assert added("m")["stored"] == 2
    assert texts()["m/metadata.csv:2"] == "A row"


def test_a_changed_caption_costs_no_picture(embedded: list[int]) -> None:
    """Nor do copies, renamed files, and those that are as they were."""
    write(**{"m/a.png": picture("red"), "m/b.png": picture("blue"), "m/a.txt": "A barn"})
    assert added("m")["stored"] == 2
    assert sum(embedded) == 2
    assert added("m")["known"] == 2
    write(**{"m/a.txt": "A shed"})
    assert added("m")["stored"] == 1
    assert texts()["m/a.png"] == "A shed"
    shutil.copy("m/b.png", "m/copy.png")
    assert added("m")["stored"] == 1
    Path("m/a.png").rename("m/z.png")
    Path("m/a.txt").rename("m/z.txt")
    told = added("m", "--sync")
    assert (told["moved"], told["stored"], told["deleted"]) == (1, 0, 0)
    assert texts() == {"m/z.png": "A shed", "m/b.png": "", "m/copy.png": ""}
    Path("m/z.txt").unlink()
    assert added("m")["stored"] == 1
    assert texts()["m/z.png"] == ""
    assert sum(embedded) == 2
    write(**{"m/b.png": picture("green")})
    assert added("m")["stored"] == 1
    assert sum(embedded) == 3


def test_a_text_that_becomes_a_caption() -> None:
    """With a picture beside it a text is no document any more; without it, it is one again."""
    write(**{"m/a.txt": "A barn"})
    added("m")
    write(**{"m/a.png": picture("red")})
    assert "add --sync removes them" in run("add", "a.db", "m").stdout
    assert added("m", "--sync")["deleted"] == 1
    assert texts() == {"m/a.png": "A barn"}
    Path("m/a.png").unlink()
    assert added("m", "--sync")["deleted"] == 1
    assert texts() == {"m/a.txt": "A barn"}


def test_files_that_are_given_themselves() -> None:
    """With their captions, which a shell's m/* gives, too."""
    write(**{"m/a.png": picture("red"), "m/a.txt": "A barn", "m/b.txt": "A note"})
    assert added("m/a.png", "m/a.txt", "m/b.txt")["stored"] == 2
    assert texts() == {"m/a.png": "A barn", "m/b.txt": "A note"}


def test_captions_that_are_excluded_or_links() -> None:
    """--exclude leaves them out; --include that names pictures alone does not."""
    write(**{"m/a.png": picture("red"), "m/a.txt": "A barn", "other.txt": "From elsewhere", "m/b.png": picture("blue")})
    Path("m/b.txt").symlink_to("../other.txt")
    added("m", "--include", "*.png")
    assert texts() == {"m/a.png": "A barn", "m/b.png": ""}
    added("m", "--exclude", "*.txt")
    assert texts() == {"m/a.png": "", "m/b.png": ""}
    added("m", "--follow-links")
    assert texts() == {"m/a.png": "A barn", "m/b.png": "From elsewhere"}


def test_a_bundle_that_was_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing changes, and the message names the bundle that the pictures of the index are of."""
    write(**{"m/a.png": picture("red")})
    added("m")
    monkeypatch.setenv("EDGE_EMBED_BUNDLE", "static")
    told = run("add", "a.db", "m", "--sync").stdout
    assert "0 stored, 0 unchanged; 1 document in all" in told
    assert "a.db has pictures of the bundle 'colours': give it that bundle, --bundle FOLDER" in told


def test_a_bundle_without_towers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures are counted, with what they need; one that is given itself is a problem. Captions are texts then."""
    monkeypatch.setenv("EDGE_EMBED_BUNDLE", "static")
    write(**{"m/a.png": picture("red"), "m/a.txt": "A barn", "m/b.wav": sound("silence")})
    told = run("add", "a.db", "m").stdout
    assert "skipped: 1 pictures (the bundle has no image tower), 1 sounds (the bundle has no audio tower)" in told
    assert "for pictures give a bundle with an image tower: --bundle FOLDER" in told
    assert texts() == {"m/a.txt": "A barn"}
    told = added("m/a.png", status=1)
    assert told["problems"][0]["reason"] == "is one of the pictures (the bundle has no image tower)"


def test_a_bundle_for_pictures_alone(colours: Path, tmp_path: Path) -> None:
    """Captions are found by their words; texts are counted, with what they need."""
    alone = picture_bundle(tmp_path / "alone", colours)
    write(**{"m/a.png": picture("red"), "m/a.txt": "A barn", "m/note.md": "A note", "m/b.png": picture("blue")})
    told = added("m", "--bundle", alone)
    assert told["passed_over"] == {"captions of other files": 1, "texts (the bundle has no text tower)": 1}
    assert [hit["key"] for hit in run_json("search", "a.db", "barn", "--bundle", alone)["hits"]] == ["m/a.png"]
    (hit, *_) = run_json("search", "a.db", "--image", "m/b.png", "--bundle", alone)["hits"]
    assert hit["key"] == "m/b.png"


def test_each_bad_file_is_one_problem_and_the_others_go_on() -> None:
    """Not an image, cut off, empty, a wrong suffix (which does not matter), and a caption that cannot be read."""
    whole = picture("red", "JPEG", (600, 500))
    write(**{
        "m/text.jpg": "no picture", "m/cut.jpg": whole[: len(whole) // 3], "m/empty.png": b"", "m/good.png": whole,
        "m/other.gif": picture("blue"), "m/other.txt": b"\x81\x8d\xff", "m/bad.wav": b"RIFF",
        "m/last.wav": sound("silence"),
    })  # fmt: skip
    told = added("m", status=1)
    found = {problem["path"]: problem["reason"] for problem in told["problems"]}
    assert set(found) == {"m/text.jpg", "m/cut.jpg", "m/empty.png", "m/bad.wav", "m/other.txt"}
    assert found["m/text.jpg"].startswith("cannot be read: not a picture")
    assert found["m/cut.jpg"].startswith("cannot be stored: ")
    assert str(Path.cwd()) not in found["m/cut.jpg"]
    assert found["m/other.txt"].startswith("is the caption of m/other.gif, and not UTF-8 text")
    assert set(texts()) == {"m/good.png", "m/other.gif", "m/last.wav"}
    assert added("m", status=1)["stored"] == 0
    write(**{"m/cut.jpg": whole})
    assert added("m", status=1)["stored"] == 1


def test_a_picture_that_changes_while_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is a problem, and stored by the next run; nothing of two states is."""
    write(**{"m/a.png": picture("red"), "m/b.png": picture("blue")})
    whole = storing.upsert

    def changing(*given: Any, **options: Any) -> Any:
        write(**{"m/a.png": picture("green")})
        return whole(*given, **options)

    monkeypatch.setattr(storing, "upsert", changing)
    told = added("m", status=1)
    assert [problem["reason"] for problem in told["problems"]] == ["changed while it was read; run again"]
    assert set(texts()) == {"m/b.png"}
    monkeypatch.setattr(storing, "upsert", whole)
    assert added("m")["stored"] == 1
    (hit, *_) = run_json("search", "a.db", "green", "--kind", "image")["hits"]
    assert hit["key"] == "m/a.png"


def test_many_unreadable_files(embedded: list[int]) -> None:
    """They are named, and cost the good ones nothing."""
    cut = picture("red", "JPEG", (600, 500))[:2000]
    for i in range(300):
        Path(f"m/{i:03}.jpg").write_bytes(cut + bytes([i % 256, i // 256]))
    write(**{"m/good.png": picture("blue")})
    told = added("m", status=1)
    assert (len(told["problems"]), told["stored"]) == (300, 1)
    assert sum(embedded) == 301


def test_rows_that_name_pictures() -> None:
    """A row with `image` or `audio` is a document of it; without a tower these are fields like others."""
    write(**{
        "m/p/a.png": picture("red"), "m/s.wav": sound("a deep hum"), "secret.png": picture("blue"),
        "m/rows.jsonl": '{"id": 1, "image": "p/a.png", "text": "A barn", "by": "Ida"}\n'
        '{"id": 2, "audio": "s.wav"}\n{"id": 3, "image": "../secret.png"}\n{"id": 4, "image": "gone.png"}\n'
        '{"id": 5, "image": "p/a.png", "audio": "s.wav"}\n{"id": 6, "image": 7}\n{"id": 7, "text": "A text"}\n',
    })  # fmt: skip
    told = added("m/rows.jsonl", status=1)
    assert told["stored"] == 3
    assert [problem["line"] for problem in told["problems"]] == [3, 4, 5, 6]
    assert "does not lie in the folder of this table" in told["problems"][0]["reason"]
    with Index.open("a.db", read_only=True) as index:
        one = index.get("m/rows.jsonl#1")
        assert one is not None
        assert (one.text, one.metadata["by"], one.image is not None) == ("A barn", "Ida", True)
    (hit, *_) = run_json("search", "a.db", "red", "--kind", "image")["hits"]
    assert hit["key"] == "m/rows.jsonl#1"
    Path("a.db").unlink()
    assert added("m/rows.jsonl", "--bundle", "static", status=1)["stored"] == 2


def test_a_table_whose_rows_have_pictures_alone() -> None:
    """It needs no column of texts."""
    write(**{"m/a.png": picture("red"), "m/t.csv": "key,image\none,a.png\n"})
    assert added("m/t.csv")["stored"] == 1
    assert texts() == {"m/t.csv#one": ""}


def test_thumbnails() -> None:
    """As a rule, but not with --no-thumbnails."""
    write(**{"m/a.png": picture("red")})
    added("m")
    with Index.open("a.db", read_only=True) as index:
        assert (index.thumbnail("m/a.png") or b"")[8:12] == b"WEBP"
    Path("a.db").unlink()
    added("m", "--no-thumbnails")
    with Index.open("a.db", read_only=True) as index:
        assert index.thumbnail("m/a.png") is None


def test_long_captions_are_passages() -> None:
    long = "The barn by the lake. " * 400
    write(**{"m/a.png": picture("red"), "m/a.txt": long})
    added("m")
    assert texts()["m/a.png"] == long.strip()
    assert run_json("info", "a.db")["passages"] > 2


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each picture is a problem with the pip line."""
    monkeypatch.setattr("edge_embed.files.documents.is_installed", lambda name: name != "PIL")
    write(**{"m/a.png": picture("red"), "m/b.txt": "A text"})
    told = added("m", status=1)
    assert told["stored"] == 1
    assert "pip install 'edge-embed[image]'" in told["problems"][0]["reason"]


def test_a_memory_budget() -> None:
    """One that the tower cannot keep is one error, not one for each picture; otherwise it is kept."""
    write(**{f"m/{i}.png": picture("red", size=(30 + i, 30)) for i in range(5)})
    told = run("add", "a.db", "m", "--max-rss", "60")
    assert told.exit_code == 1
    assert told.stderr.count("max_rss_mb=60 cannot be kept") == 1
    assert added("m", "--max-rss", "2000")["stored"] == 5


def test_encode_files(tmp_path: Path) -> None:
    """A row for each file, in the order in which they are given."""
    import numpy as np

    write(**{"a.png": picture("red"), "b.png": picture("blue"), "c.wav": sound("silence"), "bad.png": b"no"})
    told = run_json("encode", "--image", "b.png", "a.png", "-o", "v.npy")
    assert told["images"] == 2
    vectors = np.load("v.npy")
    assert vectors.shape == (2, told["dim"])
    words = run("encode", "-", "-o", "t.npy", stdin="blue\nred\n")
    assert words.exit_code == 0
    assert np.abs((vectors * np.load("t.npy")).sum(axis=1) - 1).max() < 1e-3
    assert run("encode", "--audio", "c.wav", "-o", "s.npy").exit_code == 0
    broken = run("encode", "--image", "a.png", "bad.png", "-o", "w.npy")
    assert broken.exit_code == 1
    assert "bad.png" in broken.stderr
    assert not Path("w.npy").exists()
    assert run("encode", "--image", "-o", "w.npy").exit_code == 2
    assert "no model for pictures" in run("encode", "--image", "a.png", "-o", "w.npy", "--bundle", "static").stderr
