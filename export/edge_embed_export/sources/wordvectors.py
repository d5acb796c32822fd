"""Word vectors in files of GloVe (text) and word2vec (text or binary), one word after the other, most frequent first.

GloVe     the 0.418 0.24968 ...           a line for each word
word2vec  400000 50, then such lines      or, in binary: the word, a space, float32 numbers, and perhaps a line end
"""

import math
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from edge_embed_export.files.stored import Array
from edge_embed_runtime.errors import SourceError
from edge_embed_runtime.system.files import open_unpacked

HEADER = re.compile(rb"(\d{1,12})[ \t]+(\d{1,6})\s*\n")
MAX_DIM = 65_536
# A line of text: a word and up to MAX_DIM numbers would be longer, but no such file is known.
MAX_LINE = 2**20
MAX_WORD = 4096


@dataclass(frozen=True)
class WordVectors:
    """Words and their vectors [n, dim], in the order of the file."""

    words: list[str]
    vectors: Array


def read_word_vectors(path: Path, limit: int | None = None) -> WordVectors:
    """Read a file of word vectors; .gz is unpacked.

    limit: stop after so many words

    Raises SourceError, with the line or the word, for a file that is cut off, numbers that are missing, NaN or
    infinite, a word that comes twice, text that is not UTF-8, and a header that does not fit the file.
    """
    try:
        with open_unpacked(path) as file:
            return _read(file, path, limit)
    except (OSError, EOFError, zlib.error) as error:
        raise SourceError(f"{path} cannot be read: {error}", path=path) from error


def _read(file: IO[bytes], path: Path, limit: int | None) -> WordVectors:
    first = file.readline(MAX_LINE)
    header = HEADER.fullmatch(first)
    count, dim = (int(header[1]), int(header[2])) if header else (None, len(first.split()) - 1)
    if not 0 < dim <= MAX_DIM:
        raise SourceError(f"{path}, line 1: expected a word and its numbers, or how many words and numbers follow")
    if header and _is_binary(file, dim):
        rows = _binary(file, path, dim, count or 0)
    else:
        rows = _text(file, path, dim, None if header else first)
    wanted = min(limit or math.inf, math.inf if count is None else count)
    words: dict[str, int] = {}
    vectors: list[Array] = []
    for place, word, vector in rows:
        if len(words) == wanted:
            if count is not None and wanted == count:
                raise SourceError(f"{path}, {place}: the header says {count} words, there are more")
            break
        if word in words:
            raise SourceError(f"{path}, {place}: the word {word[:40]!r} was there before, as word {words[word] + 1}")
        if not np.isfinite(vector).all():
            raise SourceError(f"{path}, {place}: the vector of {word[:40]!r} holds NaN or infinity")
        words[word] = len(words)
        vectors.append(vector)
    if count is not None and len(words) < wanted:
        raise SourceError(f"{path} ends after {len(words)} words, its header says {count}: it is cut off")
    if not words:
        raise SourceError(f"{path} holds no words")
    return WordVectors(list(words), np.stack(vectors))


def _is_binary(file: IO[bytes], dim: int) -> bool:
    """Whether what follows the header is no line of a word and `dim` numbers."""
    start = file.tell()
    line = file.readline(MAX_LINE)
    file.seek(start)
    try:
        return len([float(part) for part in line.split()[-dim:]]) != dim
    except ValueError:
        # a line of text with a mistake in it is still text: bytes of float32 numbers are hardly ever all printable
        return not line.strip().decode("utf-8", errors="replace").replace("\t", " ").isprintable()


def _text(file: IO[bytes], path: Path, dim: int, first: bytes | None) -> Iterator[tuple[str, str, Array]]:
    number = 0 if first is not None else 1
    line = first if first is not None else file.readline(MAX_LINE)
    while line:
        number += 1
        place = f"line {number}"
        # some words of GloVe hold spaces: ". . ."
        word, *numbers = line.rstrip(b"\r\n").rstrip(b" ").rsplit(b" ", dim) if b"\t" not in line else line.split()
        try:
            vector = np.array([float(x) for x in numbers], np.float32)
        except ValueError as error:
            raise SourceError(f"{path}, {place}: {error}") from None
        if len(vector) != dim or not word:
            raise SourceError(f"{path}, {place}: expected a word and {dim} numbers, got {len(vector)} numbers")
        yield place, _decode(word, path, place), vector
        line = file.readline(MAX_LINE)


def _binary(file: IO[bytes], path: Path, dim: int, count: int) -> Iterator[tuple[str, str, Array]]:
    for i in range(1, count + 1):
        place = f"word {i}"
        word = bytearray()
        while (byte := file.read(1)) != b" ":
            if not byte or len(word) == MAX_WORD:
                raise SourceError(f"{path}, {place}: the word does not end; the file is cut off, or of another form")
            word += byte
        raw = file.read(4 * dim)
        if len(raw) != 4 * dim:
            raise SourceError(f"{path}, {place}: {len(raw)} bytes of numbers, expected {4 * dim}; the file is cut off")
        yield place, _decode(bytes(word).lstrip(b"\n"), path, place), np.frombuffer(raw, "<f4").astype(np.float32)
    if file.read(2).strip():
        raise SourceError(f"{path}: there is more after the {count} words that the header says")


def _decode(word: bytes, path: Path, place: str) -> str:
    try:
        return word.decode()
    except UnicodeDecodeError as error:
        raise SourceError(f"{path}, {place}: the word is not UTF-8 text: {error}") from None
