"""What the README named here before it came from edge_embed; for one release more."""

from typing import Any
from warnings import warn


def __getattr__(name: str) -> Any:
    if name != "reembed_index":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from edge_embed_runtime.maintenance.reembed import reembed_index

    warn(f"import {name} from edge_embed; the next release has it there alone", DeprecationWarning, stacklevel=2)
    return reembed_index
