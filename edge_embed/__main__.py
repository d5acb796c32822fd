"""`python -m edge_embed` is `edge-embed`."""

from edge_embed.cli.main import main

main(prog_name="edge-embed")
