"""Models, folders and texts that tests are made of."""
