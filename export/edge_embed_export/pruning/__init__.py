"""A bundle without the tokens that are not needed."""
