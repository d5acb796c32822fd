"""Late chunking: a document goes through the model in one long pass, and its passages' vectors are cut out of that.

A passage that says "it was rebuilt in 1908" has, embedded alone, no idea what was; as part of its document its tokens
have seen what stood before. Its vector is the mean of its tokens' vectors in the document, brought to length 1
(https://arxiv.org/abs/2409.04701). A document that the model cannot take whole goes through it in windows, each half
over the one before; a passage is taken from the one in whose middle it lies nearest. Passages are at most a quarter of
a window, so that they have something around them. A document of one passage has the vector that it has otherwise.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeGuard, TypeVar

import numpy as np
from numpy.typing import NDArray

from edge_embed_runtime.embed.embedder import Embedder
from edge_embed_runtime.errors import InputError
from edge_embed_runtime.inputs.words import Span
from edge_embed_runtime.passages.borders import NEAR, is_border, near_border
from edge_embed_runtime.passages.split import PASSAGE_TOKENS, reserved_tokens, split, token_spans
from edge_embed_runtime.progress import progress_bar
from edge_embed_runtime.vectors.int8 import quantize_int8
from edge_embed_runtime.vectors.kinds import DENSE
from edge_embed_runtime.vectors.normalize import cut
from edge_embed_runtime.vectors.types import Int8Codes, Vectors

T = TypeVar("T")

# Passages of a window: the least that it has room for.
PARTS = 4
# Tokens whose vectors are held at a time.
SLICE_TOKENS = 8192
# Passages without a window that are embedded at a time.
SLICE_PASSAGES = 1024
# Less, and something follows the mean.
LEAST_COSINE = 0.999
PROBE = "Passages are cut out of what the model makes of a document."


class _Window(NamedTuple):
    """A part of a text that goes through the model, in characters, and the passages that are cut out of it."""

    text: int
    start: int
    stop: int
    passages: list[int]


def check_late(embedder: object) -> TypeGuard[Embedder]:
    """Raise InputError for an embedder whose passages are not the means of their tokens."""
    what = "late chunking makes passages' vectors of those of their tokens"
    if not isinstance(embedder, Embedder) or embedder.is_static or embedder.output is not DENSE:
        raise InputError(
            f"{what}: it needs an Embedder with a bundle that runs a network and gives a vector for a text",
            option="late_chunking",
        )
    name, pooling = embedder.manifest.name, embedder.manifest.pooling
    if pooling != "mean":
        raise InputError(
            f"{what}, by their mean: the bundle {name!r} has the pooling {pooling!r}", option="late_chunking"
        )
    (tokens,) = embedder.encode_tokens([PROBE], role="document")
    left = embedder.left_out(embedder.prompts["document"])
    mean = cut(tokens.vectors[left:].mean(axis=0, keepdims=True), embedder.dim, embedder.manifest.truncation)
    (vector,) = embedder.encode_document([PROBE])
    if mean.shape[1] != embedder.dim or (mean[0] * vector).sum() < LEAST_COSINE:
        raise InputError(
            f"{what}, by their mean: the bundle {name!r} has layers that follow its pooling", option="late_chunking"
        )
    return True


def late_size(embedder: Embedder) -> int:
    """Tokens of a passage, at most."""
    return max(1, min(PASSAGE_TOKENS, _room(embedder) // PARTS))


def _room(embedder: Embedder) -> int:
    """Tokens of a text that the model takes with the prompt."""
    return max(1, embedder.tokenizer.max_content - reserved_tokens(embedder))


def embed_late(
    embedder: Embedder, texts: Sequence[str], show_progress: bool
) -> tuple[list[list[Span]], Int8Codes, Vectors]:
    """The passages of texts, and int8 codes [n, dim] and scales [n] of all, one after the other."""
    spans = late_passages(embedder, texts)
    count = sum(map(len, spans))
    codes, scales = np.empty((count, embedder.dim), np.int8), np.empty(count, np.float32)
    with progress_bar(count, show_progress) as advance:
        for passages, vectors in late_vectors(embedder, texts, spans):
            codes[passages], scales[passages] = quantize_int8(vectors)
            advance(len(passages))
    return spans, codes, scales


def late_passages(embedder: Embedder, texts: Sequence[str]) -> list[list[Span]]:
    """The passages of each text, in characters."""
    size = late_size(embedder)
    return [split(text, embedder.tokenizer, most=size) for text in texts]


def late_vectors(
    embedder: Embedder, texts: Sequence[str], spans: Sequence[list[Span]]
) -> Iterator[tuple[list[int], Vectors]]:
    """Numbers of passages, counted over all texts, and their vectors [n, dim]: each passage once, in any order.

    spans: as `late_passages` gives them
    """
    places = [(number, *span) for number, parts in enumerate(spans) for span in parts]
    alone, windows, first = [], list[_Window](), 0
    room = _room(embedder)
    for number, parts in enumerate(spans):
        if len(parts) == 1:
            alone.append(first)
        else:
            tokens = token_spans(texts[number], embedder.tokenizer)
            windows += _windows(number, texts[number], tokens, parts, room, first)
        first += len(parts)
    for part in _slices(windows, max(1, SLICE_TOKENS // room)):
        read = [texts[window.text][window.start : window.stop] for window in part]
        for window, found in zip(part, embedder.encode_tokens(read, role="document"), strict=True):
            begins = np.where(found.special, -1, found.offsets[:, 0] + window.start)
            means: dict[int, NDArray[np.float64]] = {}
            for passage in window.passages:
                _, start, stop = places[passage]
                inside = (begins >= start) & (begins < stop)
                if inside.any():
                    means[passage] = found.vectors[inside].mean(axis=0, dtype=np.float64)
                else:  # cut off where the window starts, the text has other tokens, and these were too many
                    alone.append(passage)
            if means:
                vectors = cut(np.array(list(means.values())), embedder.dim, embedder.manifest.truncation)
                yield list(means), vectors.astype(np.float32)
    for passages in _slices(alone, SLICE_PASSAGES):
        yield list(passages), embedder.encode_document([texts[n][i:j] for n, i, j in map(places.__getitem__, passages)])


def _windows(
    number: int, text: str, tokens: NDArray[np.int64], spans: list[Span], room: int, first: int
) -> Iterator[_Window]:
    """The windows of a text of several passages, the first of which has the number `first`."""
    last, step = max(0, len(tokens) - room), max(1, room // 2)
    by_start: dict[int, list[int]] = {}
    for passage, (start, stop) in enumerate(spans, start=first):
        middle = np.searchsorted(tokens[:, 0], [start, stop]).mean()
        begin = min(last, max(0, round((middle - room / 2) / step) * step))
        by_start.setdefault(int(begin), []).append(passage)
    for begin, passages in by_start.items():
        # no word is cut, and no passage: they begin and end at borders
        near = range(begin, min(len(tokens), begin + NEAR))
        begin = next((i for i in near if is_border(text, int(tokens[i, 0]))), begin)  # noqa: PLW2901
        end = near_border(text, tokens, min(len(tokens), begin + room), begin + 1) - 1
        yield _Window(number, int(tokens[begin, 0]), int(tokens[end, 1]), passages)


def _slices(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    yield from (items[start : start + size] for start in range(0, len(items), size))
