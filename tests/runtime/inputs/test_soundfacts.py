"""What a sound's file says about it."""

from pathlib import Path

import numpy as np
import pytest
from builders.sounds import encoded, id3, mp3_without_index, swept, tagged

from edge_embed.errors import InputError, MediaError
from edge_embed_runtime.inputs import soundfacts
from edge_embed_runtime.inputs.mediafile import MediaFile
from edge_embed_runtime.inputs.soundfacts import SoundFacts, describe_sound

TAGS = {"title": "Rain on a tin roof, déjà", "artist": "Ann", "comment": "June", "date": "2024-05-31"}


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG"])
def test_tags_as_text_and_metadata(tmp_path: Path, kind: str) -> None:
    content = tagged(tmp_path / "made", kind, **TAGS)
    (tmp_path / "a.bin").write_bytes(content)
    expected = SoundFacts(
        "Rain on a tin roof, déjà\nAnn\nJune",
        "2024-05-31",
        {**TAGS, "seconds": 1.0, "rate": 16_000, "channels": 1},
    )
    assert describe_sound(content) == expected
    assert describe_sound(tmp_path / "a.bin") == expected
    assert describe_sound(MediaFile("a.wav", content)) == expected


def test_an_mp3_with_a_cover() -> None:
    content = id3(np.random.default_rng(0).bytes(200_000), "Waves") + encoded(swept(2), 16_000, "MP3")
    facts = describe_sound(content)
    assert facts.text == "Waves"
    assert facts.time is None
    assert facts.metadata == {"title": "Waves", "seconds": 2.0, "rate": 16_000, "channels": 1}


def test_a_length_that_nobody_knows() -> None:
    facts = describe_sound(mp3_without_index(encoded(swept(2), 16_000, "MP3")))
    assert facts == SoundFacts("", None, {"rate": 16_000, "channels": 1})


def test_no_tags() -> None:
    assert describe_sound(encoded(swept(0.5), 16_000, "AU")).text == ""


def test_text_has_a_limit_and_shows() -> None:
    """Characters that do not show become spaces; long tags are cut."""
    content = id3(title="a\x00b\x07c" + "word " * 3000) + encoded(swept(), 16_000, "MP3")
    text = describe_sound(content).text
    assert len(text) <= soundfacts.LONGEST_FIELD
    assert all(character.isprintable() or character == "\n" for character in text)


def test_tags_that_are_broken_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    content = id3(np.random.default_rng(0).bytes(5000), "Waves") + encoded(swept(), 16_000, "MP3")
    monkeypatch.setattr(soundfacts, "LARGEST_READ", 8)
    assert describe_sound(content).text == ""
    monkeypatch.setattr(soundfacts, "MOST_READS", 1)
    assert describe_sound(content).metadata["seconds"] == 1.0


@pytest.mark.parametrize("content", [b"", b"no sound", encoded(swept(), 16_000)[:500]])
def test_what_is_no_sound(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(content)
    with pytest.raises(MediaError, match=r"a\.wav is ") as caught:
        describe_sound(path)
    assert caught.value.path == str(path)


def test_other_types() -> None:
    with pytest.raises(InputError):
        describe_sound((swept(), 16_000))  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG", "MP3", "AIFF"])
def test_damaged_files_give_facts_or_one_error(tmp_path: Path, kind: str) -> None:
    content, random = tagged(tmp_path / "made", kind, title="Rain", artist="Ann"), np.random.default_rng(0)
    for _ in range(60):
        damaged = bytearray(content)
        for place in random.integers(0, len(content), random.integers(1, 8)):
            damaged[int(place) if random.random() < 0.3 else int(place) % 300] = int(random.integers(256))
        try:
            facts = describe_sound(bytes(damaged))
        except MediaError:
            continue
        assert len(facts.text) <= soundfacts.LONGEST_TEXT
