"""What a person gives, as arrays: texts (tokenizer), and behind one protocol pictures and sounds."""
