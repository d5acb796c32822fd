"""What a person gives, as arrays: text (tokenizer) today, image and audio next, behind one protocol."""
