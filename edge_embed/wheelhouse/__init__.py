"""A folder with every wheel that a device needs."""
