"""Where searches ask for the native library."""

from functools import cache
from typing import TYPE_CHECKING

from edge_embed_runtime.native.library import native

if TYPE_CHECKING:
    from edge_embed_runtime.native.hamming import Search

# Vectors that it takes: EDGE_MOST_WORDS of 64 bits.
MOST_DIM = 4096


def native_search(dim: int) -> "Search | None":
    """Search in C for vectors of so many dimensions; None where the library is not there, or they are too long for it:
    numpy then gives the same results."""
    return loaded_search() if 0 < dim <= MOST_DIM else None


@cache
def loaded_search() -> "Search | None":
    """Search in C, once the library was looked for."""
    loaded = native()
    if loaded is None:
        return None
    from edge_embed_runtime.native.hamming import Search

    return Search(loaded)
