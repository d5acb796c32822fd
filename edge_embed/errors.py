"""Every error that edge_embed raises on purpose; `help(edge_embed.errors)` draws the tree."""

from edge_embed_runtime import errors
from edge_embed_runtime.errors import *  # noqa: F403 - the same names, where users look for them
from edge_embed_runtime.errors import Code as Code  # noqa: PLC0414 - handed on

__doc__ = errors.__doc__
