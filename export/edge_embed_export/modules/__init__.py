"""The modules of a sentence-transformers folder."""
