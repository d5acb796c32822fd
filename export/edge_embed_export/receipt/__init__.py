"""What a bundle keeps of its float model, in figures."""
