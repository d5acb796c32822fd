"""The device half: bundle, tokenizer, embedder, index. Needs numpy, onnxruntime and tokenizers."""
