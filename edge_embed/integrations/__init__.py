"""Doors into programs of others, one file each; what a file imports is an extra of its name."""
