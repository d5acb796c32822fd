"""Bulk embedding on Ray Data: `EdgeEmbed` for datasets that you have, `embed_files` for files, as `edge-embed bulk`."""

from edge_embed.integrations.ray.bulk import embed_files
from edge_embed.integrations.ray.embed import EdgeEmbed, embed_dataset
from edge_embed.integrations.ray.outcome import Bulked, Progress

__all__ = ["Bulked", "EdgeEmbed", "Progress", "embed_dataset", "embed_files"]
