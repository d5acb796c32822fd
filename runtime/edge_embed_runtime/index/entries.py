"""Documents become entries of the store part after part, so that a long document takes little more memory than a short
one."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, cast

from edge_embed_runtime.passages.encode import EMBED_SLICE, reserved_tokens
from edge_embed_runtime.passages.split import Span, each_span
from edge_embed_runtime.storage.documents import Record
from edge_embed_runtime.storage.rows import Entry
from edge_embed_runtime.vectors.int8 import Int8Codes, Vectors

if TYPE_CHECKING:
    from edge_embed_runtime.embed.embedder import Embedder
    from edge_embed_runtime.embed.encoder import Encoder

# Passages of a part, fewer under a memory budget, and about how many characters.
BOUNDED_SLICE = 256
SLICE_CHARACTERS = 2**20

Part = tuple[Record, list[Span]]


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


def entries(
    part: Iterable[Part], codes: Int8Codes, scales: Vectors, attached: Mapping[str, Sequence[bytes]]
) -> Iterator[Entry]:
    start = 0
    for record, spans in part:
        stop = start + len(spans)
        rows = {name: given[start:stop] for name, given in attached.items()}
        yield Entry(record, spans, codes[start:stop], scales[start:stop], rows)
        start = stop
