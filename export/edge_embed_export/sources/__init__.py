"""Read what is on disk."""
