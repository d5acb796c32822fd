"""The facade over all of these."""
