"""The picture or sound of a document: what is known of it, and how one that is given is checked and recognised."""

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np

from edge_embed_runtime.checks import shown
from edge_embed_runtime.errors import DocumentError, MediaError
from edge_embed_runtime.inputs.mediafile import MediaFile
from edge_embed_runtime.system.files import open_regular

MediaKind = Literal["image", "audio"]
Kind = Literal["text", "image", "audio"]
MEDIA_KINDS: tuple[MediaKind, ...] = ("image", "audio")
SHA256_BYTES = 32
MAX_TIME_CHARACTERS = 40
MAX_THUMBNAIL_BYTES = 12_288


@dataclass(frozen=True)
class Media:
    """What an index knows of a document's picture or sound. Where one is asked for, it can be given as `Index.get` gave
    it: the vector that the index has is used, or the file is read again.

    kind:   "image" or "audio"
    source: the path of the file it was read from, absolute, or relative to the index's root; "" for none
    sha256: of the file's bytes, or of the pixels or samples where these were given, in hexadecimal digits
    time:   when it was taken, in ISO 8601; None where that is not known
    thumbnail: a small picture to store with it (WebP); None for none, or where an index was asked for the rest alone
    """

    kind: MediaKind
    source: str
    sha256: str
    time: str | None = None
    thumbnail: bytes | None = field(default=None, repr=False, compare=False)


# What tells whether a file has changed: device, number, size, time of the last write.
_Stamp = tuple[int, int, int, int]


@dataclass(frozen=True)
class Given:
    """A picture or sound that was given, checked.

    content: what the embedder reads; None where only what is known of it was given, and it is read from its source
    """

    media: Media
    content: object = field(default=None, repr=False)
    stamp: _Stamp | None = field(default=None, repr=False)

    @property
    def kind(self) -> MediaKind:
        return self.media.kind

    def check_unchanged(self) -> None:
        """Raise MediaError where the file is another one than when it was checked."""
        if self.stamp is not None and isinstance(self.content, str) and _stamp(self.content) != self.stamp:
            raise MediaError(f"{self.content} changed while it was read", path=self.content)


def check_media(image: object, audio: object, time: object, where: str) -> Given | None:
    """The picture or sound of a document; None for neither. Its file is read once, for its hash, and not decoded.

    Raises DocumentError for what is none, MediaError for a file that cannot be read.
    """
    if image is None and audio is None:
        if time is not None:
            raise DocumentError(f"{where}: time says when a picture or sound was taken, and there is none")
        return None
    if image is not None and audio is not None:
        raise DocumentError(f"{where} has a picture and a sound; expected one of them: make two documents")
    kind: MediaKind = "image" if audio is None else "audio"
    given = _recognised(kind, image if audio is None else audio, where)
    return given if time is None else replace(given, media=replace(given.media, time=_checked_time(time, where)))


def _recognised(kind: MediaKind, given: Any, where: str) -> Given:
    if isinstance(given, Media):
        return Given(_checked(kind, given, where))
    if isinstance(given, str | os.PathLike) and isinstance(os.fspath(given), str):
        return _file(kind, os.fspath(given))
    if isinstance(given, bytes | bytearray | memoryview):
        content = bytes(given)
        return Given(Media(kind, "", hashlib.sha256(content).hexdigest()), content)
    if isinstance(given, MediaFile):
        return Given(Media(kind, str(Path(given.path).absolute()), given.sha256), given)
    parts = _parts(given) if kind == "image" else _sound_parts(given)
    if parts is None:
        expected = (
            "a path, bytes, a PIL image or a uint8 array [height, width, 3]"
            if kind == "image"
            else "a path, bytes or (samples, rate)"
        )
        raise DocumentError(f"{where}: {kind} is {type(given).__name__}, expected {expected}")
    return Given(Media(kind, "", _digest(parts, where)), given)


def _checked(kind: MediaKind, media: Media, where: str) -> Media:
    """One that an index gave; it may have been written by hand."""
    texts = (media.source, media.sha256)
    right = media.kind == kind and all(isinstance(text, str) for text in texts)
    if not right or len(media.sha256) != 2 * SHA256_BYTES or set(media.sha256) - set("0123456789abcdef"):
        raise DocumentError(
            f"{where}: {kind} is {shown(media)}, expected a Media of kind {kind!r} as Index.get gives it"
        )
    small = media.thumbnail
    if small is not None and (
        not isinstance(small, bytes) or len(small) > MAX_THUMBNAIL_BYTES or small[8:12] != b"WEBP"
    ):
        raise DocumentError(f"{where}: its thumbnail is no WebP of at most {MAX_THUMBNAIL_BYTES} bytes")
    return media if media.time is None else replace(media, time=_checked_time(media.time, where))


def _file(kind: MediaKind, path: str) -> Given:
    with open_regular(path, error=MediaError) as file:
        stamp = _stamp_of(os.fstat(file.fileno()))
        try:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise MediaError(f"{path} cannot be read: {error.strerror or error}", path=path) from error
    return Given(Media(kind, str(Path(path).absolute()), sha256), path, stamp)


def read_again(media: Media, root: str | None) -> Given:
    """What an index knows of, from its file. Raises MediaError where that is gone, or another one.

    root: the folder that paths of the index are relative to
    """
    if not media.source:
        raise MediaError(
            f"the {media.kind} was not given as a file, and the index keeps no copy: give it again", path=None
        )
    path = str(Path(root or "", media.source))
    found = _file(media.kind, path)
    if found.media.sha256 != media.sha256:
        raise MediaError(f"{path} is another {media.kind} than the one that was indexed", path=path)
    return replace(found, media=media)


def _stamp_of(status: os.stat_result) -> _Stamp:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _stamp(path: str) -> _Stamp | None:
    try:
        return _stamp_of(Path(path).stat())
    except OSError:
        return None


# What is hashed of pixels or samples, made when it is asked for.
_Parts = Callable[[], Sequence[bytes]]


def _parts(given: Any) -> _Parts | None:
    """Of a picture's pixels; None for what is none."""
    if isinstance(given, np.ndarray):
        fits = given.dtype == np.uint8 and given.ndim == 3 and given.shape[2] == 3
        return (lambda: (repr(given.shape).encode(), given.tobytes())) if fits else None
    if type(given).__module__.partition(".")[0] == "PIL":
        return lambda: (f"{given.mode} {given.size}".encode(), given.tobytes())
    return None


def _sound_parts(given: Any) -> _Parts | None:
    if not isinstance(given, tuple) or len(given) != 2 or not isinstance(given[0], np.ndarray):
        return None
    samples, rate = given
    whole = isinstance(rate, int | float | np.number) and samples.dtype.kind == "f" and samples.ndim in (1, 2)
    return (lambda: (f"{samples.shape} {rate}".encode(), samples.astype("<f4").tobytes())) if whole else None


def _digest(parts: _Parts, where: str) -> str:
    found = hashlib.sha256()
    try:
        for part in parts():
            found.update(part)
    except (OSError, ValueError, SyntaxError) as error:  # of a picture that is decoded only now
        raise MediaError(f"{where}: the picture cannot be decoded: {error}") from error
    return found.hexdigest()


def _checked_time(time: object, where: str) -> str:
    try:
        if isinstance(time, str) and len(time) <= MAX_TIME_CHARACTERS:
            datetime.fromisoformat(time)
            return time
    except ValueError:
        pass
    raise DocumentError(f"{where}: time is {shown(time)}, expected a text in ISO 8601: '2024-05-01T18:30:00'")


def under_root(given: Given, root: str | None) -> Given:
    """With the source relative to the root of the index, where it lies under it: an index that is moved along with its
    files finds them. root: the folder, without links"""
    source = given.media.source
    if not source or not Path(source).is_absolute():
        return given
    real = os.path.realpath(source)
    if root is not None and real.startswith(root.rstrip(os.sep) + os.sep):
        source = Path(os.path.relpath(real, root)).as_posix()
    try:
        source.encode()
    except UnicodeEncodeError:  # a name that is no Unicode cannot be stored, and read again from there
        source = ""
    return replace(given, media=replace(given.media, source=source))
