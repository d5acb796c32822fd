"""Static models: a table of rows."""
