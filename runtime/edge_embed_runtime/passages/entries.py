"""Documents part after part: their passages, embedded, and as entries of the store. So a long document takes little
more memory than a short one."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, cast

import numpy as np

from edge_embed_runtime.embed.embedder import Embedder
from edge_embed_runtime.passages.split import Span, each_span
from edge_embed_runtime.progress import progress_bar
from edge_embed_runtime.storage.documents import Record
from edge_embed_runtime.storage.store import Entry
from edge_embed_runtime.vectors.int8 import Int8Codes, Vectors, quantize_int8

if TYPE_CHECKING:
    from edge_embed_runtime.embed.encoder import Encoder

# Passages that are embedded before their int8 codes replace the float vectors; those under a memory budget; and about
# how many characters of them.
EMBED_SLICE, BOUNDED_SLICE = 1024, 256
SLICE_CHARACTERS = 2**20

Part = tuple[Record, list[Span]]


def embed_passages(
    embedder: "Encoder", texts: Sequence[str], show_progress: bool, *, late: bool = False
) -> tuple[list[list[Span]], Int8Codes, Vectors]:
    """The passages of documents: their spans, and int8 codes [n, dim] and scales [n] of all, one after the other.

    late: see late.py; `check_late` says which embedders can do it
    """
    if late:
        from edge_embed_runtime.passages.late import embed_late

        return embed_late(cast("Embedder", embedder), texts, show_progress)
    spans = [list(each_span(text, embedder.tokenizer, reserved_tokens(embedder))) for text in texts]
    passages = [text[start:stop] for text, parts in zip(texts, spans, strict=True) for start, stop in parts]
    return spans, *embed_texts(embedder, passages, show_progress)


def embed_texts(embedder: "Encoder", passages: Sequence[str], show_progress: bool = False) -> tuple[Int8Codes, Vectors]:
    """int8 codes [n, dim] and scales [n] of passages."""
    if embedder.output.apart:
        return np.empty((len(passages), 0), np.int8), np.ones(len(passages), np.float32)
    codes = np.empty((len(passages), embedder.dim), np.int8)
    scales = np.empty(len(passages), np.float32)
    with progress_bar(len(passages), show_progress) as advance:
        for first in range(0, len(passages), EMBED_SLICE):
            part = slice(first, first + EMBED_SLICE)
            vectors = embedder.encode_document(passages[part])
            codes[part], scales[part] = quantize_int8(vectors)
            advance(len(vectors))
    return codes, scales


def passage_parts(
    embedder: "Encoder", records: Iterable[Record], *, late: bool, bounded: bool = False
) -> Iterator[list[Part]]:
    """Records with the spans of their passages, some hundred passages at a time; of a long record, some at a time.

    late:    documents stay whole
    bounded: fewer passages at a time
    """
    size = BOUNDED_SLICE if bounded else EMBED_SLICE
    reserved = 0 if late else reserved_tokens(embedder)
    part: list[Part] = []
    passages = characters = 0
    for record in records:
        part.append((record, []))
        spans = _late_spans(embedder, record) if late else each_span(record.text, embedder.tokenizer, reserved)
        for span in spans:
            part[-1][1].append(span)
            passages, characters = passages + 1, characters + span[1] - span[0]
            if not late and (passages >= size or characters >= SLICE_CHARACTERS):
                yield part
                part, passages, characters = [(record, [])], 0, 0
        if not part[-1][1]:  # all of it has been given
            part.pop()
        if passages >= size or characters >= SLICE_CHARACTERS:
            yield part
            part, passages, characters = [], 0, 0
    if part:
        yield part


def _late_spans(embedder: "Encoder", record: Record) -> list[Span]:
    from edge_embed_runtime.passages.late import late_passages

    (spans,) = late_passages(cast("Embedder", embedder), [record.text])
    return spans


def reserved_tokens(embedder: "Encoder") -> int:
    """Tokens that a document's prompt takes."""
    tokenizer = embedder.tokenizer
    return len(tokenizer.encode(embedder.prompts["document"])) - len(tokenizer.encode(""))


def entries(
    part: Iterable[Part], codes: Int8Codes, scales: Vectors, attached: Mapping[str, Sequence[bytes]]
) -> Iterator[Entry]:
    start = 0
    for record, spans in part:
        stop = start + len(spans)
        rows = {name: given[start:stop] for name, given in attached.items()}
        yield Entry(record, spans, codes[start:stop], scales[start:stop], rows)
        start = stop
