"""How files are written into a wheel: with one time and one mode, so that the same files make the same wheel."""

import base64
import hashlib
import zipfile

WHEN = (1980, 1, 1, 0, 0, 0)
MODE = 0o644 << 16


def digest(content: bytes) -> str:
    """As in RECORD: URL-safe base64 without padding."""
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()


def write(archive: zipfile.ZipFile, path: str, content: bytes) -> None:
    """Put a file into the wheel."""
    entry = zipfile.ZipInfo(path, WHEN)
    entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, MODE
    archive.writestr(entry, content)
