"""Bundles with towers for pictures and sounds: from folders with several models, and from ONNX graphs."""
