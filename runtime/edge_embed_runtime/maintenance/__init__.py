"""Verify, repair, compact, merge, rebuild, reembed."""


def __getattr__(name: str) -> object:
    """What the README named here before it came from edge_embed; for one release more."""
    homes = {"compact_index": "compact", "verify_index": "verify"}
    if name not in homes:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module
    from warnings import warn

    warn(f"import {name} from edge_embed; the next release has it there alone", DeprecationWarning, stacklevel=2)
    found: object = getattr(import_module(f"{__name__}.{homes[name]}"), name)
    return found
