"""`edge-embed prune`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from edge_embed.cli.options import json_option, show
from edge_embed.cli.terminal import say_step


def _names(_: click.Context, __: click.Parameter, given: tuple[str, ...]) -> list[str]:
    """("en,de", "fr") -> ["en", "de", "fr"]."""
    return [name.strip() for entry in given for name in entry.split(",") if name.strip()]


@click.command()
@click.argument("bundle", metavar="BUNDLE")
@click.argument("out", metavar="OUT")
@click.option("--languages", metavar="CODES", multiple=True, callback=_names, help="Languages to keep: en,de,ru.")
@click.option("--scripts", metavar="NAMES", multiple=True, callback=_names, help="Scripts to keep: Latin,Cyrillic.")
@click.option(
    "--texts",
    metavar="FILE",
    help="Keep the tokens of these texts: one per line, or .jsonl and .csv with the field `text`, as `add` reads them.",
)
@click.option(
    "--min-count", type=click.IntRange(1), default=1, show_default=True, help="Keep tokens this frequent in --texts."
)
@click.option("--keep", type=click.IntRange(1), metavar="N", help="Keep at most N tokens, the most frequent ones.")
@click.option(
    "--floor",
    type=click.FloatRange(-1, 1),
    help="Lowest mean cosine to the vectors of BUNDLE to accept.  [default: 0.99]",
)
@click.option("--name", help="The new bundle's name.  [default: the folder's]")
@click.option("--force", is_flag=True, help="Replace an existing bundle.")
@json_option
def prune(
    bundle: str,
    out: str,
    languages: list[str],
    scripts: list[str],
    texts: str | None,
    min_count: int,
    keep: int | None,
    floor: float | None,
    name: str | None,
    force: bool,
    as_json: bool,
) -> None:
    """Make a bundle smaller by removing tokens of its vocabulary.

    OUT becomes a copy of BUNDLE with the tokens of some languages or scripts, or of your texts. Texts whose tokens are
    all kept keep their vectors bit for bit; other texts are split into smaller tokens. Languages are recognized by
    their script only: to keep German and not Italian, give --texts. Needs the extra `export`.
    """
    from edge_embed.embedder import bundle_path
    from edge_embed_export.pruning.prune import prune_bundle
    from edge_embed_export.pruning.scripts import indistinct

    if not (languages or scripts or texts or keep):
        raise click.UsageError("Say what to keep: --languages, --scripts, --texts or --keep.")
    if min_count > 1 and texts is None:
        raise click.UsageError("--min-count counts tokens of --texts.")
    manifest = prune_bundle(
        bundle_path(bundle),
        out,
        languages=languages,
        scripts=scripts,
        texts=[] if texts is None else _read(Path(texts)),
        texts_name="" if texts is None else Path(texts).name,
        min_count=min_count,
        keep=keep,
        floor=floor,
        name=name,
        overwrite=force,
        progress=say_step,
    )
    receipt = manifest.receipt["pruning"]
    result = {"bundle": out, "fingerprint": manifest.fingerprint, **receipt, "kept": manifest.provenance["pruned_from"]}
    alike = indistinct(languages) if texts is None else []
    show(result, as_json, lambda: _lines(out, receipt, alike))


def _lines(out: str, receipt: dict[str, Any], alike: list[str]) -> Iterator[str]:
    """alike: languages whose script others have as well."""
    tokens, size = receipt["vocabulary"], receipt["bytes"]
    yield f"{out}: {tokens['after']} of {tokens['before']} tokens, {_mb(size['after'])} of {_mb(size['before'])} MB"
    if receipt["texts"]:
        cosines, unknown = receipt["cosine_to_unpruned"], receipt["unknown_tokens"]
        yield f"{receipt['texts']} texts ({receipt['measured_on']}): {receipt['unchanged_texts']:.1%} unchanged"
        yield f"  cosine to the vectors before: mean {cosines['mean']:.4f}, lowest {cosines['min']:.4f}"
        yield f"  unknown tokens: {unknown['before']:.2%} before, {unknown['after']:.2%} after"
    else:
        yield "the exporter has no texts in these scripts: give --texts to see how much the vectors change"
    if alike:
        yield f"other languages have the script of {', '.join(alike)}: their tokens were kept; --texts keeps fewer"


def _mb(size: int) -> str:
    return f"{size / 1e6:.1f}"


def _read(path: Path) -> list[str]:
    from edge_embed.files.documents import read_documents
    from edge_embed_runtime.system.files import read_lines

    if path.suffix.lower() in (".jsonl", ".csv"):
        return [document.text for document in read_documents(path)]
    return read_lines(path)
