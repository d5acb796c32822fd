"""What the files of Office have in common: ZIP files of XML parts that refer to each other."""

import posixpath

from edge_embed.files.formats.archive import Archive
from edge_embed.files.formats.content import clean
from edge_embed.files.formats.xml import attributes_of, texts_of

PROPERTIES = "docProps/core.xml"


def properties(archive: Archive) -> dict[str, str]:
    """Title and author."""
    if PROPERTIES not in archive:
        return {}
    found = texts_of(archive.open(PROPERTIES), PROPERTIES, "title", "creator")
    names = {"title": "title", "creator": "author"}
    return {names[name]: clean(text) for name, text in found.items()}


def related_parts(archive: Archive, name: str) -> dict[str, tuple[str, str]]:
    """The parts that a part refers to, by its ids for them: (kind, name)."""
    folder, base = posixpath.split(name)
    relations = f"{folder}/_rels/{base}.rels"
    if relations not in archive:
        return {}
    found = attributes_of(archive.open(relations), relations, "Relationship")
    return {
        entry.get("Id", ""): (
            entry.get("Type", ""),
            posixpath.normpath(posixpath.join("/", folder, entry.get("Target", ""))).lstrip("/"),
        )
        for _, entry in found
        if entry.get("TargetMode") != "External"
    }
