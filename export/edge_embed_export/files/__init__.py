"""Files of a model as JSON and arrays, and what of them nothing has read."""
