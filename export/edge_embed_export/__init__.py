"""The workstation half: checkpoint -> ONNX graph -> verified bundle."""

from edge_embed_export.exporter import export_model
from edge_embed_export.onnxfile import GraphOptions

__all__ = ["GraphOptions", "export_model"]
