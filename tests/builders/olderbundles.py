"""Bundles as releases made them before weights were rounded so that products cannot saturate."""

from dataclasses import replace
from pathlib import Path

from edge_embed_runtime.bundle.manifest import MANIFEST, read_manifest


def saturating(bundle: Path) -> Path:
    """The bundle, whose manifest no longer says that its products cannot saturate: what it needs is found out again."""
    file = bundle / MANIFEST
    manifest = read_manifest(file)
    told = {name: value for name, value in manifest.quantization.items() if name != "pairs"}
    file.write_bytes(replace(manifest, quantization=told).to_json())
    return bundle
