"""Models that are a table of token vectors."""
