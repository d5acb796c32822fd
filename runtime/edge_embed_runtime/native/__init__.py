"""The library in C: found, loaded, and what it computes."""
