"""The device half: bundle, tokenizer, embedder, index. Needs numpy, onnxruntime and tokenizers."""

import os

# onnxruntime from 1.29 on sends usage events to its maker, some seconds after it is imported, also when told not to by
# disable_telemetry_events() after that. It reads this once, so it is set before any module here imports onnxruntime.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
