"""Every error that edge_embed raises on purpose; `help(edge_embed.errors)` draws the tree."""

from edge_embed_runtime import errors
from edge_embed_runtime.errors import *  # noqa: F403 - the same names, where users look for them

__all__ = errors.__all__
__doc__ = errors.__doc__
