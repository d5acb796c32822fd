"""The folder on disk: bundle, manifest, adapters."""
