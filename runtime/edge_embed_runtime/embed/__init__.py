"""What callers embed with: Embedder, composed, sparse, multi, token vectors."""
