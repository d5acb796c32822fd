"""Bytes of a vector of so many numbers, by how it is stored."""

TIERS = {"float": lambda dim: 4 * dim, "int8": lambda dim: dim + 4, "binary": lambda dim: -(-dim // 8)}
