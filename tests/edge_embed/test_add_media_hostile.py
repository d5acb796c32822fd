"""add: a folder with every odd picture and sound that there is: each is right, or one problem that names it."""

from pathlib import Path

import pytest
from builders.colours import picture, sound
from builders.commands import added, run_json
from builders.pictures import READABLE, REFUSED, corpus, mutated

from edge_embed import Index
from edge_embed_runtime.maintenance.verify import verify_index

SOUND = sound("a deep hum", 1.0)
# Sounds that cannot be read.
BROKEN_SOUNDS = {
    "empty.wav": b"",
    "text.wav": b"no sound at all",
    "head.wav": SOUND[:40],
    "riff.wav": b"RIFF\xff\xff\xff\xffWAVEfmt ",
    "nothing.flac": b"fLaC" + bytes(30),
    "nothing.ogg": b"OggS" + bytes(60),
    "nothing.mp3": bytes(4000),
}


@pytest.fixture(autouse=True)
def place(tmp_path: Path, colours: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDGE_EMBED_BUNDLE", str(colours))
    Path("m").mkdir()
    return tmp_path


def test_every_odd_file_in_one_folder() -> None:
    known = {".svg", ".pdf", ".psd"}  # types of which nobody says that they are pictures
    for name, make in READABLE.items():
        Path("m", f"good {name}").write_bytes(make())
    for name, (make, _) in REFUSED.items():
        Path("m", f"bad {name}").write_bytes(make())
    for name, content in BROKEN_SOUNDS.items():
        Path("m", f"bad {name}").write_bytes(content)
    Path("m/good hum.wav").write_bytes(SOUND)
    Path("m/good red.png").write_bytes(picture("red", "JPEG"))  # the content decides
    told = added("m", status=1)
    problems = {Path(problem["path"]).name: problem["reason"] for problem in told["problems"]}
    bad = {f"bad {name}" for name in (*REFUSED, *BROKEN_SOUNDS) if Path(name).suffix not in known}
    assert set(problems) == bad | ({"bad paper.pdf"} & set(problems))
    assert len(told["problems"]) == len(problems)
    assert "pip install pillow-heif" in problems["bad phone.heic"]
    assert "50,000 x 50,000 pixels" in problems["bad huge.png"]
    assert problems["bad empty.wav"] == "is empty"
    assert problems["bad text.wav"].startswith("is not a sound: ")
    assert told["passed_over"] == {"unknown type .svg": 1, "unknown type .psd": 1}
    with Index.open("a.db", read_only=True) as index:
        keys = {Path(key).name for key in index.keys()}  # noqa: SIM118 - an index gives documents
        assert all(index.thumbnail(f"m/good {name}") for name in READABLE)
    assert keys == {f"good {name}" for name in READABLE} | {"good hum.wav", "good red.png"}
    found = run_json("search", "a.db", "red", "--kind", "image", "-k", "3")["hits"]
    assert "m/good red.png" in {hit["key"] for hit in found}
    assert verify_index("a.db").whole


@pytest.mark.slow
def test_damaged_pictures() -> None:
    """Of each damaged file a document or a problem; never both, nor a crash."""
    names = set()
    for number, (_, content) in enumerate(corpus()):
        for seed in range(12):
            names.add(name := f"m/{number}-{seed}.jpg")
            Path(name).write_bytes(mutated(content, seed))
    told = added("m", status=1)
    refused = {problem["path"] for problem in told["problems"]}
    with Index.open("a.db", read_only=True) as index:
        stored = set(index.keys())
    assert stored | refused == names
    assert not stored & refused
    assert verify_index("a.db").whole
