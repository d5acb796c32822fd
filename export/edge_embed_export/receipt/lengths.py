"""Before a bundle is written: texts of the shortest and the longest lengths have one vector each, alone and in a batch.

The edges of a model's lengths are where products of one row, blocks of queries and tables of positions begin and end.
"""

from pathlib import Path

import numpy as np

from edge_embed_runtime.embed.embedder import Embedder
from edge_embed_runtime.errors import EdgeEmbedError, ExportError
from edge_embed_runtime.inputs.tokenizer import TokenIds

# Tokens of the longest text that is run. Attention to more than 1,024 tokens has another form (see blockwise.APART), of
# which this is a block beyond. So 6,000 tokens are run at most, where an export runs some 200,000 besides; at 8,192
# tokens it would be 41,000, and attention to each of them to all.
LONGEST = 1152


def check_lengths(embedder: Embedder, source: Path, text: str) -> None:
    """Raise ExportError for a model that fails at a length, or whose vectors depend on the texts in a batch.

    text: whose tokens the texts are made of

    Lengths are 1, 2, 3, limit - 1 and limit, from that of the empty text on; limit + 1 is cut to the limit.
    """
    limit = min(embedder.max_tokens, LONGEST)
    words = text + " "
    longest = embedder.tokenizer.encode(words * (embedder.max_tokens // max(1, len(text.split())) + 1))
    if len(longest) > embedder.max_tokens:
        raise ExportError(f"{source}: a long text has {len(longest)} tokens, the limit is {embedder.max_tokens}")
    longest = np.resize(longest, (limit, *longest.shape[1:]))
    least = max(1, len(embedder.tokenizer.encode("")))
    short = sorted({n for n in (least, 1, 2, 3) if least <= n < limit - 1})
    rows = {n: longest[:n] for n in (*short, max(limit - 1, least), limit)}
    alone = {n: _run(embedder, source, [row])[0] for n, row in rows.items()}
    if embedder.manifest.architecture.get("batches", "padded") != "padded":
        return  # such a model sees texts of one length together at most, which was looked at when it was read
    for batch in ([short[0], limit, max(limit - 1, least)] if short else [limit], short[::-1] or [limit]):
        together = _run(embedder, source, [rows[n] for n in batch])
        for n, found in zip(batch, together, strict=True):
            expected = alone[n]
            if not np.array_equal(found[: len(expected)].view(np.uint32), expected.view(np.uint32)):
                furthest = float(np.abs(found[: len(expected)] - expected).max())
                raise ExportError(
                    f"{source}: a text of {n} tokens has another vector in a batch with one of {max(batch)} than "
                    f"alone, by up to {furthest:.1g}; this should not be so, please report it"
                )


def _run(embedder: Embedder, source: Path, rows: list[TokenIds]) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """What the model gives; of kind "multi" a vector for each token, those of padding behind the others."""
    try:
        return embedder.network.run(rows)
    except EdgeEmbedError as error:
        sizes = ", ".join(str(len(row)) for row in rows)
        raise ExportError(f"{source}: the model fails at texts of {sizes} tokens: {error}") from error
