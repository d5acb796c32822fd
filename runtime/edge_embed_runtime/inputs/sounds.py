"""Sounds that a person gives, as blocks of mono samples: files are decoded and resampled block by block.

A sound of hours takes no more memory than one of seconds. The samples do not depend on where blocks end: soxr's
streams give the bits that the whole sound at once would give.
"""

import io
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from edge_embed_runtime.errors import InputError, MediaError
from edge_embed_runtime.extras import require
from edge_embed_runtime.inputs.mediafile import MediaFile
from edge_embed_runtime.inputs.soundfiles import fault, mp3_index
from edge_embed_runtime.system.files import open_regular

Samples = NDArray[np.float32]
EXTRA = "audio"
# Hertz: below are measurements and not sounds, above are rates that no recorder has.
LOWEST_RATE, HIGHEST_RATE = 1_000, 768_000
MOST_CHANNELS = 64
LONGEST_SECONDS = 24 * 3600
# Numbers read at a time, of all channels together.
BLOCK = 2**17
# Samples of a sound, from here on the decoder's word for "not known".
UNKNOWN_FRAMES = 2**62


@dataclass(frozen=True)
class Source:
    """Where a sound came from, for messages: its path, or what it was given as."""

    name: str
    path: str | None = None

    def error(self, what: str) -> MediaError:
        """MediaError that names the file: "a.wav is cut off"."""
        return MediaError(f"{self.name} {what}", code="bad_audio", path=self.path)


@dataclass(frozen=True)
class Sound:
    """An open sound.

    rate:     Hz
    blocks:   its samples, float32 [n, channels]
    declared: how many samples its header promises; None where it does not say
    """

    source: Source
    rate: int
    channels: int
    blocks: Iterator[Samples]
    declared: int | None = None


def mono(given: object, rate: int) -> Iterator[Samples]:
    """The samples of a sound at `rate` Hz, as blocks of float32 [n]; the mean of its channels.

    given: the path of a file, the bytes of one, a MediaFile, or (samples, rate) with samples float [n] or [n, channels]

    Raises MediaError, with the name of the file, where it is no sound or only part of one.
    """
    with open_sound(given) as sound:
        blocks = _mixed(sound)
        yield from blocks if sound.rate == rate else _resampled(sound, blocks, rate)


@contextmanager
def open_sound(given: object) -> Iterator[Sound]:
    """A sound whose header was read, see `mono` for what is given. Raises MediaError."""
    if isinstance(given, tuple) and len(given) == 2:
        yield _check(_array(*given))
        return
    with open_file(given) as (file, source), decode(file, source) as sound:
        yield sound


@contextmanager
def open_file(given: object) -> Iterator[tuple[BinaryIO, Source]]:
    """The file of a sound, given as path or bytes. Raises MediaError where it cannot be read, or is written to
    meanwhile."""
    if isinstance(given, bytes | bytearray | memoryview):
        yield io.BytesIO(given), Source(f"the sound of {len(given):,} bytes")
    elif isinstance(given, MediaFile):
        yield io.BytesIO(given.content), Source(given.path, given.path)
    elif isinstance(given, str | os.PathLike) and isinstance(path := os.fspath(given), str):
        with _file(path) as file:
            yield file, Source(path, path)
    else:
        expected = "a path, the bytes of a file, or samples and their rate as (array, 44100)"
        raise InputError(f"a sound is given as {type(given).__name__}, expected {expected}")


def _check(sound: Sound) -> Sound:
    if not LOWEST_RATE <= sound.rate <= HIGHEST_RATE:
        raise sound.source.error(f"has {sound.rate:,} samples a second, expected {LOWEST_RATE:,} to {HIGHEST_RATE:,}")
    if not 1 <= sound.channels <= MOST_CHANNELS:
        raise sound.source.error(f"has {sound.channels:,} channels, expected 1 to {MOST_CHANNELS}")
    if sound.declared is not None and sound.declared > LONGEST_SECONDS * sound.rate:
        hours = sound.declared / sound.rate / 3600
        raise sound.source.error(
            f"is {hours:,.0f} hours long by its header, more than {LONGEST_SECONDS // 3600}: cut it"
        )
    return sound


def _mixed(sound: Sound) -> Iterator[Samples]:
    """Blocks of the mean of all channels [n]."""
    longest, total = LONGEST_SECONDS * sound.rate, 0
    for block in sound.blocks:
        total += len(block)
        if total > longest:
            raise sound.source.error(f"is longer than {LONGEST_SECONDS // 3600} hours: cut it")
        with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is refused
            # the layout that the reference sums, so the last bits are equal
            mixed = block[:, 0] if sound.channels == 1 else block.T.mean(axis=0)
        if not np.isfinite(mixed).all():
            place = total - len(block) + int(np.argmin(np.isfinite(mixed)))
            raise sound.source.error(f"holds a sample that is no finite number, at {place / sound.rate:,.3f} seconds")
        yield np.ascontiguousarray(mixed)
    if not total:
        raise sound.source.error("has no samples")


def _resampled(sound: Sound, blocks: Iterator[Samples], rate: int) -> Iterator[Samples]:
    """The sound at another rate, ceil(n * rate / its rate) samples: soxr may give one less, then a 0 follows."""
    soxr = require("soxr", EXTRA)
    stream = soxr.ResampleStream(sound.rate, rate, 1, dtype="float32", quality="HQ")
    read = given = 0

    def cut(block: Samples) -> Samples:
        return block[: max(0, math.ceil(read * rate / sound.rate) - given)]

    for block in blocks:
        read += len(block)
        ready = cut(stream.resample_chunk(block))
        given += len(ready)
        yield ready
    ready = cut(stream.resample_chunk(np.zeros(0, np.float32), last=True))
    given += len(ready)
    yield ready
    yield np.zeros(math.ceil(read * rate / sound.rate) - given, np.float32)


@contextmanager
def _file(path: str) -> Iterator[BinaryIO]:
    """A regular file, which is not written to meanwhile."""
    try:
        file = open_regular(path, error=MediaError)
    except MediaError as error:
        error.code = "bad_audio" if error.code == MediaError.code else error.code
        raise
    with file:
        before = _state(file)
        try:
            yield file
        except MediaError as error:
            if _state(file) == before:
                raise
            raise MediaError(f"{path} was changed while it was read", code="bad_audio", path=path) from error
        if _state(file) != before:
            raise MediaError(f"{path} was changed while it was read", code="bad_audio", path=path)


def _state(file: BinaryIO) -> tuple[int, int]:
    status = os.fstat(file.fileno())
    return status.st_size, status.st_mtime_ns


@contextmanager
def decode(file: BinaryIO, source: Source) -> Iterator[Sound]:
    """The sound in a file. Raises MediaError, also while its blocks are read."""
    soundfile = require("soundfile", EXTRA)
    if wrong := fault(file):
        raise source.error(wrong)
    lead = mp3_index(file)
    stream = _Stream(file, lead)
    try:
        with _forward(soundfile)(stream) as decoder:
            declared = decoder.frames if not lead and decoder.frames < UNKNOWN_FRAMES else None
            blocks = _blocks(decoder, source, declared)
            yield _check(Sound(source, decoder.samplerate, decoder.channels, blocks, declared))
    except (soundfile.SoundFileError, MediaError) as found:
        if stream.failed is not None:
            raise source.error(f"cannot be read: {stream.failed.strerror or stream.failed}") from stream.failed
        if isinstance(found, MediaError):
            raise
        said = str(getattr(found, "error_string", found)).removeprefix("Error : ").rstrip(".")
        raise source.error(f"is damaged, or not a sound: {said}") from found


def _forward(soundfile: Any) -> Any:
    """A decoder that reads on from where it is: soundfile's seeks behind each block, and an MP3 sounds a little
    different behind a seek."""

    class Forward(soundfile.SoundFile):  # type: ignore[misc]
        def seekable(self) -> bool:
            return False

    return Forward


def _blocks(decoder: Any, source: Source, declared: int | None) -> Iterator[Samples]:
    """Everything that can be decoded, float32 [n, channels]. Raises where that is less than the header promises."""
    total = 0
    block = np.empty((max(1, BLOCK // decoder.channels), decoder.channels), np.float32)
    while count := decoder.buffer_read_into(block, "float32"):
        total += count
        yield block[:count].copy()
    # an MP3's index counts frames, of whose last one samples may be missing
    if declared is not None and total < declared - (1152 if decoder.format == "MP3" else 0):
        raise source.error(f"is cut off or damaged: {total:,} samples of {declared:,} can be read")


class _Stream:
    """A file as the decoder reads it, behind `lead`; it has no name, which would be taken for its kind."""

    def __init__(self, file: BinaryIO, lead: bytes = b"") -> None:
        self._file, self._lead, self._place = file, lead, 0
        self.failed: OSError | None = None

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        if whence == os.SEEK_END:
            offset += len(self._lead) + self._file.seek(0, os.SEEK_END)
        elif whence == os.SEEK_CUR:
            offset += self._place
        self._place = max(0, offset)
        return self._place

    def readinto(self, buffer: Any) -> int:
        if self._place < len(self._lead):
            part = self._lead[self._place : self._place + len(buffer)]
        else:
            try:
                self._file.seek(self._place - len(self._lead))
                part = self._file.read(len(buffer))
            except OSError as error:  # the decoder, which called, would lose it
                self.failed = self.failed or error
                part = b""
        buffer[: len(part)] = part
        self._place += len(part)
        return len(part)


def _array(samples: Any, rate: Any) -> Sound:
    """(float [n] or [n, channels], Hz) as a sound."""
    source = Source("a sound given as samples")
    if isinstance(rate, bool) or not isinstance(rate, int | float | np.integer | np.floating):
        raise source.error(f"has the rate {type(rate).__name__}, expected a number of samples a second")
    if not LOWEST_RATE <= rate <= HIGHEST_RATE or rate % 1:
        raise source.error(
            f"has {rate} samples a second, expected a whole number from {LOWEST_RATE:,} to {HIGHEST_RATE:,}"
        )
    array = np.asarray(samples)
    if array.dtype.kind in "iu":
        raise source.error(f"has samples of type {array.dtype}, expected float from -1 to 1: divide by 2**(bits - 1)")
    if array.dtype.kind != "f":
        raise source.error(f"has samples of type {array.dtype}, expected float")
    if array.ndim not in (1, 2):
        raise source.error(f"has samples of shape {array.shape}, expected [n] or [n, channels]")
    if array.ndim == 1:
        array = array[:, None]
    if array.shape[1] > MOST_CHANNELS:
        raise source.error(f"has {array.shape[1]:,} channels, expected [n, channels] with at most {MOST_CHANNELS}")
    step = max(1, BLOCK // max(1, array.shape[1]))

    def blocks() -> Iterator[Samples]:
        for start in range(0, len(array), step):
            with np.errstate(over="ignore"):  # what becomes infinite is refused
                yield np.ascontiguousarray(array[start : start + step], dtype=np.float32)

    return Sound(source, int(rate), array.shape[1], blocks())
