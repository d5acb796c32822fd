"""Int8 layers of a float model, by texts that ship with the exporter."""
