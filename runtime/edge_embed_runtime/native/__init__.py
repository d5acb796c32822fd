"""The native library in C: how it is found and checked, and what it computes; nothing else calls C."""
