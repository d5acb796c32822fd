"""The workstation half: checkpoint -> ONNX graph -> verified bundle."""

from edge_embed_export.exporter import export_model

__all__ = ["export_model"]
