"""An index of a few short notes on three subjects, for tests of feedback and sessions."""

from pathlib import Path

from edge_embed import Document, Embedder, Index

NOTES = {
    "bread": "Bread is baked with flour, water and yeast.",
    "cake": "A cake is baked with flour, sugar and eggs.",
    "train": "The night train leaves the station at ten.",
    "tram": "The tram stops in front of the station.",
    "snow": "Snow covers the mountains in winter.",
    "rain": "Rain falls on the hills in autumn.",
}


def make_notes(path: Path, embedder: Embedder, **more: str) -> Path:
    """NOTES and more texts by key, with their lengths as metadata."""
    with Index.open(path, embedder) as index:
        index.add([Document(key, text, {"length": len(text)}) for key, text in {**NOTES, **more}.items()])
    return path
