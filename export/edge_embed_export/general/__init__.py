"""Foreign graphs."""
