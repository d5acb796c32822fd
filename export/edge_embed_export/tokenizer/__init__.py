"""The tokenizer of a folder, as today's libraries load it."""
