"""How each kind of file is read: one file for a format, or for a family of formats."""
