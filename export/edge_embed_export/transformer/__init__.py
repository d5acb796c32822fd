"""Build the graph."""
