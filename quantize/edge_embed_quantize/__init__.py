"""Int8 linear layers, calibration, and the receipt of what quantization lost."""
