"""Options of an Embedder, as a door takes them: checked before a bundle is loaded."""

import inspect
from collections.abc import Mapping
from typing import Any

from edge_embed.embedder import Embedder


def checked_options(options: Mapping[str, Any] | None) -> dict[str, Any]:
    """Options of `edge_embed.Embedder` but its bundle, such as {"threads": 1}. Raises TypeError for any other."""
    given = dict(options or {})
    known = [name for name in inspect.signature(Embedder.__init__).parameters if name not in ("self", "bundle")]
    if unknown := sorted(set(given) - set(known)):
        raise TypeError(f"Embedder has no option {', '.join(unknown)}; it has {', '.join(known)}")
    return given
