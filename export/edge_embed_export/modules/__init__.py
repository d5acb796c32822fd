"""The modules of a sentence-transformers folder, in their order."""
