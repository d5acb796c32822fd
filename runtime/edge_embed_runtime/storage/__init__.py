"""The SQLite file: store, schema, rows, filters."""
