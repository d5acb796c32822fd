"""A bundle with a part of its vocabulary."""
