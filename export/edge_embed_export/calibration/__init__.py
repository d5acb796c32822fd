"""What quantization is calibrated on, and how."""
