"""The workstation half: checkpoint -> ONNX graph -> verified bundle."""

from edge_embed_runtime.extras import require_onnxruntime

require_onnxruntime("the exporter")  # before the modules that import it

from edge_embed_export.exporter import export_model  # noqa: E402 - see above
from edge_embed_export.options import GraphOptions, TowerOptions  # noqa: E402

__all__ = ["GraphOptions", "TowerOptions", "export_model"]
