"""Sounds for tests, ordinary and odd, all made here: samples, and files as bytes."""

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]


def swept(seconds: float = 1.0, rate: int = 16_000, channels: int = 0, seed: int = 0) -> Samples:
    """A rising tone with a little noise: float32 [n], or [n, channels] where they are asked for, each of them other."""
    time = np.arange(int(seconds * rate)) / rate
    random = np.random.default_rng(seed)
    each = [
        0.3 * np.sin(2 * np.pi * (200 + 50 * i + 400 * time) * time) + 0.02 * random.standard_normal(len(time))
        for i in range(max(1, channels))
    ]
    return (np.stack(each, axis=1) if channels else each[0]).astype(np.float32)


def encoded(samples: NDArray[Any], rate: int = 16_000, kind: str = "WAV", subtype: str | None = None) -> bytes:
    """The file of samples [n] or [n, channels] in a format of libsndfile."""
    import soundfile

    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=kind, subtype=subtype)
    return file.getvalue()


def tagged(path: Any, kind: str, **tags: str) -> bytes:
    """A second of sound with tags; `path` is where the file is made."""
    import soundfile

    with soundfile.SoundFile(path, "w", 16_000, 1, format=kind) as file:
        for name, value in tags.items():
            setattr(file, name, value)
        file.write(swept())
    return bytes(path.read_bytes())


def mp3_without_index(content: bytes) -> bytes:
    """An MP3 without its first frame, which holds the index of its length."""
    first, second = content.find(b"\xff"), content.find(b"\xff", content.find(b"\xff") + 4)
    while content[second + 1] & 0xE0 != 0xE0 or content[second + 1] != content[first + 1]:
        second = content.find(b"\xff", second + 1)
    return content[second:]


def id3(picture: bytes = b"", title: str = "") -> bytes:
    """An ID3v2.4 tag with a title and a cover."""

    def sync_safe(number: int) -> bytes:
        return bytes(number >> shift & 127 for shift in (21, 14, 7, 0))

    def frame(name: bytes, body: bytes) -> bytes:
        return name + sync_safe(len(body)) + b"\0\0" + body

    body = frame(b"TIT2", b"\x03" + title.encode()) if title else b""
    if picture:
        body += frame(b"APIC", b"\0image/jpeg\0\x03\0" + picture)
    return b"ID3\x04\0\0" + sync_safe(len(body)) + body
