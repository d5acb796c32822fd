"""Sounds as blocks of mono samples: what soundfile and soxr give of the whole, or one error that names the file."""

import io
import math
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr
from builders.sounds import encoded, id3, mp3_without_index, swept

from edge_embed.errors import InputError, MediaError
from edge_embed_runtime.inputs import sounds
from edge_embed_runtime.inputs.mediafile import read_media
from edge_embed_runtime.inputs.sounds import mono

KINDS = [
    ("WAV", "PCM_16"), ("WAV", "PCM_24"), ("WAV", "FLOAT"), ("WAV", "PCM_U8"), ("FLAC", None), ("OGG", "VORBIS"),
    ("OGG", "OPUS"), ("MP3", None), ("AIFF", None), ("AU", None), ("CAF", None), ("W64", None), ("RF64", None),
]  # fmt: skip


def whole(given: object, rate: int) -> np.ndarray:
    return np.concatenate(list(mono(given, rate)))


def reference(content: bytes, rate: int) -> np.ndarray:
    """As librosa.load and transformers: everything at once."""
    samples, own = soundfile.read(io.BytesIO(content), dtype="float32", always_2d=True)
    mixed = samples.T.mean(axis=0) if samples.shape[1] > 1 else samples[:, 0]
    if own == rate:
        return np.asarray(mixed)
    count = math.ceil(len(mixed) * rate / own)
    found = soxr.resample(mixed, own, rate, quality="soxr_hq")
    return np.pad(found, (0, max(0, count - len(found))))[:count]


def error_of(given: object, rate: int = 16_000) -> MediaError:
    with pytest.raises(MediaError) as caught:
        whole(given, rate)
    assert caught.value.code == "bad_audio"
    return caught.value


@pytest.mark.parametrize(("kind", "subtype"), KINDS)
@pytest.mark.parametrize("channels", [1, 2])
def test_files_give_what_the_libraries_give_of_the_whole(
    kind: str, subtype: str | None, channels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the bit, though they are read and resampled in blocks of a few thousand samples."""
    monkeypatch.setattr(sounds, "BLOCK", 5000)
    content = encoded(swept(0.7, 48_000, channels), 48_000, kind, subtype)
    for rate in (48_000, 16_000):
        np.testing.assert_array_equal(whole(content, rate), reference(content, rate))


@pytest.mark.parametrize("channels", [3, 8, 11])
@pytest.mark.parametrize("own", [8_000, 44_100, 192_000])
def test_channels_and_rates(channels: int, own: int) -> None:
    content = encoded(swept(0.3, own, channels), own)
    np.testing.assert_array_equal(whole(content, 16_000), reference(content, 16_000))


def test_files_arrays_and_bytes_are_the_same_sound(tmp_path: Path) -> None:
    samples = swept(0.4, 22_050, 2)
    path = tmp_path / "a.wrong"  # the content decides
    path.write_bytes(encoded(samples, 22_050, "WAV", "FLOAT"))
    given = [path, str(path), path.read_bytes(), read_media(path, "bad_audio"), (samples, 22_050)]
    given += [(samples.astype(np.float64), 22_050.0), (samples, np.int32(22_050))]
    found = [whole(one, 16_000) for one in given]
    assert all(np.array_equal(one, found[0]) for one in found)
    link = tmp_path / "link.wav"
    link.symlink_to(path)
    np.testing.assert_array_equal(whole(link, 16_000), found[0])


def test_beyond_full_scale_is_kept() -> None:
    """A float file may say more than 1; integers are clipped where they were made."""
    loud = np.array([0.5, -3.0, 7.0], np.float32)
    np.testing.assert_array_equal(whole(encoded(loud, 16_000, "WAV", "FLOAT"), 16_000), loud)
    np.testing.assert_allclose(whole(encoded(loud, 16_000, "WAV", "PCM_16"), 16_000), [0.5, -1, 1], atol=1e-4)


def test_mp3_without_an_index_and_with_a_cover() -> None:
    """The decoder guesses the length of the first, and would lose its end."""
    content = encoded(swept(4, 44_100, 2) * np.linspace(0, 1, 4 * 44_100)[:, None], 44_100, "MP3")
    bare = mp3_without_index(content)
    # what the index says of silence at both ends is lost with it
    assert 0 <= len(whole(bare, 44_100)) - 4 * 44_100 < 3 * 1152
    assert len(soundfile.read(io.BytesIO(bare))[0]) < 3.5 * 44_100
    cover = id3(np.random.default_rng(0).bytes(300_000), "Rain")
    np.testing.assert_array_equal(whole(cover + content, 44_100), whole(content, 44_100))


@pytest.mark.parametrize("kind", ["OGG", "MP3"])
def test_several_files_in_one(kind: str) -> None:
    """The decoder would give the first and say nothing of the others."""
    first, second = (encoded(swept(1, seed=seed), 16_000, kind) for seed in (0, 1))
    assert "holds several sounds one after the other" in str(error_of(first + second))
    if kind == "MP3":
        assert "holds several sounds" in str(error_of(first + id3(title="b") + second))
        assert len(whole(first + b"TAG" + bytes(125), 16_000)) == 16_000


@pytest.mark.parametrize(
    ("kind", "part"),
    [
        (kind, part)
        for kind in ("WAV", "FLAC", "OGG", "MP3", "AIFF", "AU", "CAF", "W64", "RF64")
        for part in (0.98, 0.4)
    ],
)
def test_a_file_that_was_cut_off(tmp_path: Path, kind: str, part: float) -> None:
    content = encoded(swept(8, 16_000, 2), 16_000, kind)
    path = tmp_path / "half.wav"
    path.write_bytes(content[: int(len(content) * part)])
    error = error_of(path)
    assert error.path == str(path)
    assert str(error).startswith(f"{path} is ")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"hello " * 100, "is not a sound: WAV, FLAC"),
        (b"\xff\xd8\xff\xe0" + bytes(100), "is not a sound"),
        (b"\0\0\0\x18ftypM4A " + bytes(50), "is MP4 or M4A, which is not read here"),
        (b"RIFF\x24\0\0\0WAVEfmt ", "is cut off: 16 bytes of 44"),
        (b"RIFF" + bytes(40), "is not a sound"),
        (b"fLaC" + bytes(60), "is damaged, or not a sound"),
        (b"ID3\x04\0\0\x7f\x7f\x7f\x7f" + bytes(60), "is not a sound"),
        (encoded(np.zeros((0, 1)), 16_000), "has no samples"),
        (encoded(np.array([0.1, np.nan, 0.2]), 16_000, "WAV", "FLOAT"), "no finite number, at 0.000 seconds"),
        (encoded(np.full((4, 2), np.inf), 16_000, "WAV", "DOUBLE"), "no finite number"),
        (encoded(np.full((4, 2), 3e38), 16_000, "WAV", "FLOAT"), "no finite number"),
        (encoded(np.zeros(50), 500), "has 500 samples a second, expected 1,000 to 768,000"),
        (encoded(np.zeros(50), 10**9), "has 1,000,000,000 samples a second"),
        (encoded(np.zeros((50, 100)), 16_000), "has 100 channels, expected 1 to 64"),
    ],
    ids=lambda given: given if isinstance(given, str) else "",  # a float WAV holds the time at which it was made
)
def test_what_is_no_sound(content: bytes, said: str) -> None:
    assert said in str(error_of(content))


def test_headers_that_lie() -> None:
    """Sizes that only say "not known yet" are none; one that promises more than a day is refused before it is read."""
    content = bytearray(encoded(swept(0.2), 16_000))
    for size in (b"\xff\xff\xff\xff", b"\0\0\0\0"):
        content[4:8], content[40:44] = size, b"\xff\xff\xff\xff"
        assert len(whole(bytes(content), 16_000)) == 3200
    flac = bytearray(encoded(swept(0.2), 16_000, "FLAC"))
    flac[21] |= 0x0F  # the number of samples in STREAMINFO: 36 bits from here
    flac[22:26] = b"\xff\xff\xff\xff"
    assert "1,193 hours long by its header, more than 24" in str(error_of(bytes(flac)))
    flac[21:26] = (3201 | flac[21] >> 4 << 36).to_bytes(5, "big")
    assert "is cut off or damaged" in str(error_of(bytes(flac)))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ((np.zeros(0), 16_000), "has no samples"),
        ((np.zeros((3, 4, 5)), 16_000), "shape (3, 4, 5), expected [n] or [n, channels]"),
        ((np.zeros((2, 9000)), 16_000), "has 9,000 channels, expected [n, channels]"),
        ((np.zeros((0, 0)), 16_000), "has 0 channels"),
        ((np.zeros(9, np.int16), 16_000), "of type int16, expected float from -1 to 1"),
        ((np.zeros(9, complex), 16_000), "of type complex128, expected float"),
        ((np.array([1e300]), 16_000), "no finite number"),
        ((np.zeros(9), 0), "has 0 samples a second"),
        ((np.zeros(9), -8000), "has -8000 samples a second"),
        ((np.zeros(9), 10**9), "has 1000000000 samples a second"),
        ((np.zeros(9), 8000.5), "has 8000.5 samples a second, expected a whole number"),
        ((np.zeros(9), math.nan), "has nan samples a second"),
        ((np.zeros(9), "8000"), "has the rate str"),
        ((np.zeros(9), True), "has the rate bool"),
    ],
)
def test_arrays_that_are_no_sound(given: Any, said: str) -> None:
    assert said in str(error_of(given))


@pytest.mark.parametrize("given", [3, None, ["a.wav"], (np.zeros(3),), np.zeros(3)])
def test_other_types(given: object) -> None:
    with pytest.raises(InputError, match="a sound is given as"):
        whole(given, 16_000)


def test_paths_that_are_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.wav")
    assert "is a pipe, not a regular file" in str(error_of(tmp_path / "pipe.wav"))
    assert "is a folder" in str(error_of(tmp_path))
    with pytest.raises(MediaError, match="does not exist") as caught:
        whole(tmp_path / "none.wav", 16_000)
    assert caught.value.code == "source_missing"


@pytest.mark.parametrize(
    "change", [lambda f: f.truncate(60_000), lambda f: f.write(b"more"), lambda f: os.utime(f.fileno())]
)
def test_a_file_that_changes_while_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Any], object]
) -> None:
    monkeypatch.setattr(sounds, "BLOCK", 5000)
    path = tmp_path / "a.wav"
    path.write_bytes(encoded(swept(4), 16_000))
    os.utime(path, (1, 1))
    blocks = mono(path, 16_000)
    next(blocks)
    with path.open("r+b") as file:
        change(file)
    with pytest.raises(MediaError, match="was changed while it was read") as caught:
        list(blocks)
    assert caught.value.path == str(path)


def test_a_disk_that_fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The decoder, which asked for the bytes, cannot hand the error on."""
    path = tmp_path / "a.wav"
    path.write_bytes(encoded(swept(4), 16_000))

    class Failing(io.BytesIO):
        def read(self, count: int | None = -1, /) -> bytes:
            if self.tell() > 50_000:
                raise OSError(5, "Input/output error")
            return super().read(count)

    source = sounds.Source(str(path), str(path))
    raises = pytest.raises(MediaError, match=r"a\.wav cannot be read: Input/output error")
    with raises, sounds.decode(Failing(path.read_bytes()), source) as sound:
        list(sound.blocks)


def test_threads_read_side_by_side() -> None:
    content = encoded(swept(0.5, 44_100, 2), 44_100, "OGG")
    expected, found = reference(content, 16_000), []
    threads = [threading.Thread(target=lambda: found.append(whole(content, 16_000))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert all(np.array_equal(one, expected) for one in found)


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG", "MP3", "AIFF"])
def test_damaged_files_give_samples_or_one_error(kind: str) -> None:
    """Whatever bytes are changed; bench/ has the long form of this."""
    content, random = encoded(swept(0.1, 8000), 8000, kind), np.random.default_rng(0)
    for _ in range(60):
        damaged = bytearray(content)
        for place in random.integers(0, len(content), random.integers(1, 8)):
            damaged[int(place) if random.random() < 0.5 else int(place) % 100] = int(random.integers(256))
        try:
            found = whole(bytes(damaged[: random.integers(1, len(content) + 1)]), 16_000)
        except MediaError:
            continue
        assert np.isfinite(found).all()
