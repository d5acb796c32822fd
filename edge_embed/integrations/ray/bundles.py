"""How a bundle gets to the nodes: by name or path where they have it, else its bytes through the object store."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from edge_embed.embedder import bundle_path
from edge_embed_runtime.bundle.manifest import MANIFEST, read_manifest
from edge_embed_runtime.errors import BundleError, StorageError
from edge_embed_runtime.system.cachefolder import cache_folder


def has_bundle(bundle: str | None, fingerprint: str) -> bool:
    """Whether this node has the bundle by its name or path."""
    try:
        return read_manifest(bundle_path(bundle) / MANIFEST).fingerprint == fingerprint
    except BundleError:
        return False


def packed(bundle: str | None) -> dict[str, bytes]:
    """The files of a bundle, by their paths in it."""
    folder = bundle_path(bundle)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def unpack(files: Mapping[str, bytes], fingerprint: str) -> Path:
    """A folder with these files on this node, the same for all workers on it, so that they share the mapped weights.

    Raises StorageError where it cannot be written. What is there already is checked when it is loaded, as any bundle.
    """
    base = cache_folder()
    if base is None:
        raise StorageError("the bundle cannot be stored on this node: set XDG_CACHE_HOME to a folder for it")
    target = base / "bundles" / fingerprint
    if target.is_dir():
        return target
    temporary = target.with_name(f".{fingerprint[:16]}.{os.urandom(6).hex()}")
    try:
        for name, content in files.items():
            path = temporary / name
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            path.write_bytes(content)
        try:
            temporary.rename(target)
        except OSError:
            if not target.is_dir():  # another worker may have been first
                raise
    except OSError as error:
        raise StorageError(f"the bundle cannot be stored in {target}: {error.strerror}", path=target) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return target
