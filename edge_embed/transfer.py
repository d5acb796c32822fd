"""What the changelog named here before it came from edge_embed; for one release more."""

from typing import Any
from warnings import warn

import edge_embed


def __getattr__(name: str) -> Any:
    if name not in ("dump_vectors", "load_vectors"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    warn(f"import {name} from edge_embed; the next release has it there alone", DeprecationWarning, stacklevel=2)
    return getattr(edge_embed, name)
