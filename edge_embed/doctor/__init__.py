"""`edge-embed doctor`: this machine, the native packages, and how fast bundles are here."""
