"""ELMo: words by their characters, then language models in both directions."""
