"""Documents cut and embedded."""
