"""What a vector is: int8, bits, rotation, sparse, maxsim, normalise."""
