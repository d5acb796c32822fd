"""Verify, repair, compact, rebuild, reembed."""


def __getattr__(name: str) -> object:
    """What the README named here before it came from edge_embed; for one release more."""
    if name not in ("compact_index", "verify_index"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from warnings import warn

    from edge_embed_runtime.maintenance import repair

    warn(f"import {name} from edge_embed; the next release has it there alone", DeprecationWarning, stacklevel=2)
    found: object = getattr(repair, name)
    return found
