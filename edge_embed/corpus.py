"""The small real corpus that ships with the package."""

import gzip
import json
from importlib.resources import files

from edge_embed_runtime.storage.documents import Document


def demo_documents() -> list[Document]:
    """Questions of bank customers with their topic, from Banking77 (CC BY 4.0; see data/README.md)."""
    lines = gzip.decompress((files("edge_embed") / "data" / "demo.jsonl.gz").read_bytes()).decode().splitlines()
    rows = [json.loads(line) for line in lines]
    return [Document(row["key"], row["text"], {"topic": row["topic"]}) for row in rows]
