"""/openapi.json describes the routes that there are."""
