"""A bundle or an index as one HTML page that needs nothing beside it."""
