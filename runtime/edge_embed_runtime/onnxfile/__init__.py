"""ONNX bytes without the onnx package: wire format, allow-list, mapped weights, outputs, uint8."""
