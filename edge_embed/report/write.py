"""A report into a file, whole or not at all."""

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from edge_embed.embedder import bundle_path
from edge_embed.report.mapping import MapOptions
from edge_embed.report.page import page
from edge_embed_runtime.checks import check_path
from edge_embed_runtime.embed.encoder import Encoder
from edge_embed_runtime.errors import InputError, SourceError
from edge_embed_runtime.system.writing import replacing


@dataclass(frozen=True)
class Report:
    """What was written: of a "bundle" or of an "index"."""

    path: Path
    of: str
    bytes: int


def write_report(
    target: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    embedder: Encoder | None = None,
    options: MapOptions | None = None,
    force: bool = False,
) -> Report:
    """Write one HTML page that says what a bundle or an index is; the page loads nothing from elsewhere.

    target:   a bundle's folder or the name of an embedded one; or an index
    embedder: of the index, to time its largest documents; None leaves that out
    force:    replace an existing output

    Raises SourceError where there is no target, InputError for an output that exists or belongs to the target,
    StorageError where it cannot be written, and what opening a bundle or an index raises.
    """
    place, file = bundle_path(os.fspath(target)), check_path(output, "the output")
    if not place.exists():
        raise SourceError(f"{place} does not exist", path=place, code="source_missing")
    if file.exists() and (file.samefile(place) or file.parent.samefile(place)):
        raise InputError(f"{file} is what the report is about; give another name", path=file)
    if file.exists() and not force:
        raise InputError(f"{file} exists; --force (force=True) replaces it", path=file, code="output_exists")
    is_bundle = place.is_dir()
    if is_bundle:
        from edge_embed.report.ofbundle import bundle_sections

        sections = list(bundle_sections(place))
    else:
        from edge_embed.report.ofindex import index_sections

        sections = list(index_sections(place, embedder, options or MapOptions()))
    kind = "bundle" if is_bundle else "index"
    when = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    written = page(place.name, f"A report of this {kind} by edge-embed, {when}", filter(None, sections)).encode()
    with replacing(file) as opened:
        opened.write(written)
    return Report(file, kind, len(written))
