"""`edge-embed info`."""

from typing import TYPE_CHECKING

import click

from edge_embed.cli.options import json_option, show

if TYPE_CHECKING:
    from edge_embed_runtime.embed.loadedbundle import LoadedBundle


@click.command()
@click.argument("path")
@json_option
def info(path: str, as_json: bool) -> None:
    """Show what a bundle or an index holds.

    PATH is a bundle's folder, the name of an embedded bundle, or an index. A bundle is also checked: its files by their
    hashes, and its golden vectors (of a cross-encoder its golden scores) by embedding their texts.
    """
    from edge_embed.cli.describe import bundle_facts, bundle_lines, engine_lines
    from edge_embed.embedder import bundle_path, load_any
    from edge_embed_runtime.errors import SourceError
    from edge_embed_runtime.vectors.kinds import RERANK

    place = bundle_path(path)
    if not place.exists():
        raise SourceError(f"{place} does not exist", path=place, code="source_missing")
    if place.is_dir():
        model = load_any(place)
        unread = _load_towers(model)
        manifest, cosine = model.manifest, model.golden_cosine
        what = (
            "pairs reproduced here, agreement" if manifest.output is RERANK else "texts reproduced here, lowest cosine"
        )
        count = len(manifest.golden) + sum(len(tower.golden) for tower in manifest.towers.values() if not unread)
        what = what.replace("texts", "inputs") if manifest.towers and not unread else what
        reproduced = f"  golden        {count} {what} {cosine:.6f}{unread}"
        runs = {"runs_in": model.engine, "engine_reason": model.engine_reason}
        facts = {**bundle_facts(manifest), "golden_cosine": cosine, **runs}
        show(facts, as_json, lambda: (*bundle_lines(place, manifest), *engine_lines(model), reproduced))
    else:
        from edge_embed_runtime.index.stats import read_stats

        stats = read_stats(place)
        shown = {**stats, "root": stats["root"] or "none: keys of files are paths as they were typed"}
        if "kinds" in stats:
            shown["kinds"] = ", ".join(f"{count} {kind}" for kind, count in stats["kinds"].items())
        show(stats, as_json, lambda: (f"{name:<12} {value}" for name, value in shown.items()))


def _load_towers(model: "LoadedBundle") -> str:
    """Load the models of pictures and sounds, which checks their golden inputs; says why where they cannot be."""
    from edge_embed_runtime.embed.embedder import Embedder
    from edge_embed_runtime.errors import MissingExtraError

    if not isinstance(model, Embedder):
        return ""
    try:
        model.load_towers()
    except MissingExtraError as error:
        return f"; not all of pictures and sounds were checked: {error}"
    return ""
