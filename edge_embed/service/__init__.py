"""A bundle and an index behind HTTP, on this machine: `edge-embed serve`."""
