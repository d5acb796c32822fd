"""Records become entries of the store part after part, so that a long document takes little more memory than a short
one."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, cast

from edge_embed_runtime.index.embedders import Models
from edge_embed_runtime.inputs.words import Span
from edge_embed_runtime.passages.encode import EMBED_SLICE, embed_passages, embed_texts, reserved_tokens
from edge_embed_runtime.passages.split import each_span
from edge_embed_runtime.progress import progress_bar
from edge_embed_runtime.storage.documents import Record
from edge_embed_runtime.storage.rows import Entry
from edge_embed_runtime.vectors.int8 import Int8Codes, Vectors

if TYPE_CHECKING:
    from edge_embed_runtime.embed.embedder import Embedder
    from edge_embed_runtime.embed.encoder import Encoder

# Passages of a part, fewer under a memory budget (else EMBED_SLICE), and about how many characters.
BOUNDED_SLICE = 256
SLICE_CHARACTERS = 2**20

Part = tuple[Record, list[Span]]


def text_entries(
    models: Models, records: Sequence[Record], late: bool, bounded: bool, show_progress: bool
) -> Iterator[Entry]:
    """Records with their passages, embedded when they are asked for, some hundred at a time."""
    first = models.first
    assert first is not None  # noqa: S101 - the caller asks `Models.missing`
    with progress_bar(sum(len(record.text) for record in records), show_progress) as advance:
        for part in _parts(first, records, late=late, bounded=bounded):
            texts = [record.text[start:stop] for record, spans in part for start, stop in spans]
            if late:
                _, codes, scales = embed_passages(first, [record.text for record, _ in part], False, late=True)
            else:
                codes, scales = embed_texts(first, texts)
            yield from entries(part, codes, scales, models.rows(texts))
            advance(sum(stop - start for _, spans in part for start, stop in spans))


def entries(
    part: Iterable[Part],
    codes: Int8Codes,
    scales: Vectors,
    attached: Mapping[str, Sequence[bytes]] | None = None,
) -> Iterator[Entry]:
    """Of records with the spans of their passages; codes, scales and other rows are given one after the other."""
    start = 0
    for record, spans in part:
        stop = start + len(spans)
        rows = {name: given[start:stop] for name, given in (attached or {}).items()}
        yield Entry(record, spans, codes[start:stop], scales[start:stop], rows)
        start = stop


def _parts(
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
