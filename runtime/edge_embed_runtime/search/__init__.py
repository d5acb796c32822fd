"""A question to hits: one file for each way to find, then one fusion."""
