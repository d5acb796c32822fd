"""JSON and hashes of a model's folder: of regular files alone, of a size that such a file can have.

A file that is there is never passed over because it is of another kind.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from edge_embed_runtime.errors import ExportError, SourceError
from edge_embed_runtime.system.files import open_regular, read_regular

# Bytes of a JSON file that is no tokenizer; the largest known name the tensors of a model, or weights of its tokens.
MAX_JSON = 2**26


def is_there(path: Path) -> bool:
    """Whether anything lies at a path: a pipe and a link that leads nowhere count, so that reading them is refused."""
    return os.path.lexists(path)


def read_json(path: Path, kind: type = dict) -> Any:
    """The object (or, with kind=list, the list) that a JSON file holds."""
    raw = read_limited(path, MAX_JSON)
    try:
        content = json.loads(raw.decode())
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{path} is not readable JSON: {error}", path=path) from error
    if not isinstance(content, kind):
        raise SourceError(f"{path} holds {type(content).__name__}, expected {kind.__name__}", path=path)
    return content


def optional_json(path: Path) -> dict[str, Any]:
    """The object that a JSON file holds; nothing where there is no such file."""
    return dict(read_json(path)) if is_there(path) else {}


def check_size(value: object, name: str, path: Path) -> int:
    """A positive whole number of a config."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 2**31:
        raise ExportError(f"{path}: {name} is {value!r:.40}, expected a positive whole number")
    return value


def check_flag(value: object, name: str, path: object) -> bool:
    """A value of a config that is true or false."""
    if not isinstance(value, bool):
        raise ExportError(f"{path}: {name} is {value!r:.40}, expected true or false")
    return value


def sha256_of(path: Path) -> str:
    """The hash of a file, read part by part."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_limited(path: Path, limit: int) -> bytes:
    """The bytes of a file that must be there. Raises SourceError for none, and for one of more than `limit` bytes."""
    if not is_there(path):
        raise SourceError(f"{path} is missing", path=path, code="source_missing")
    return read_regular(path, limit)
