"""An embedder for tests whose "pictures" and "sounds" are files of a few words: what one shows is what it says, so that
what should be found is known, without a model of pictures."""

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from edge_embed import Embedder
from edge_embed.errors import MediaError
from edge_embed_runtime.vectors.types import Vectors

HEAD = b"PICTURE "


class MediaEmbedder(Embedder):
    """The static bundle, with towers that read such files; "a boat|a dog" has two vectors. embedded: what it embedded
    so far."""

    def __init__(self, bundle: str = "static", modalities: Sequence[str] = ("text", "image", "audio"), **options: Any):
        self.embedded: list[str] = []
        self._modalities = tuple(modalities)
        super().__init__(bundle, **options)

    @property
    def modalities(self) -> tuple[str, ...]:
        return self._modalities

    def each_input(self, modality: str, inputs: Any) -> "Iterator[tuple[int, Vectors | MediaError]]":  # noqa: ARG002 - of the real one
        for place, given in enumerate(inputs):
            try:
                vectors = self._shown([given])
                yield place, vectors if len(vectors) == 1 else vectors[None]
            except MediaError as error:
                yield place, error

    def encode_image(self, images: Sequence[Any], **_: Any) -> Vectors:
        return self._shown(images)

    def encode_audio(self, sounds: Sequence[Any], **_: Any) -> Vectors:
        return self._shown(sounds)

    def _shown(self, given: Iterable[Any]) -> Vectors:
        words = [_words(one) for one in given]
        self.embedded += words
        return self.encode([part for one in words for part in one.split("|")])


def _words(given: Any) -> str:
    path = None if isinstance(given, bytes) else os.fspath(given)
    content = given if path is None else Path(path).read_bytes()
    if not content.startswith(HEAD):
        raise MediaError(f"{path or 'the picture'} is no picture", code="bad_image", path=path)
    return content.removeprefix(HEAD).decode()


def picture(words: str) -> bytes:
    """The bytes of a picture that shows this."""
    return HEAD + words.encode()


def write_picture(path: Path, words: str) -> Path:
    path.write_bytes(picture(words))
    return path
