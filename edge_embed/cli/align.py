"""`edge-embed align`."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge_embed.cli.options import json_option, show, threads_option
from edge_embed.cli.terminal import say, say_step

if TYPE_CHECKING:
    from edge_embed_runtime.errors import MediaError

# Files that cannot be read are named up to so many.
NAMED = 10


@click.command()
@click.argument("pairs", metavar="PAIRS")
@click.argument("out", metavar="OUT")
@click.option("--image-tower", metavar="FOLDER", help="A bundle with a tower for pictures.")
@click.option("--audio-tower", metavar="FOLDER", help="A bundle with a tower for sounds.")
@click.option(
    "--text-bundle",
    metavar="FOLDER|minilm|static",
    default="minilm",
    show_default=True,
    help="The bundle whose texts the pictures or sounds are to be found by.",
)
@click.option("--tower-only", is_flag=True, help="Write the tower alone, without the text bundle's model in OUT.")
@click.option(
    "--held-out",
    type=click.FloatRange(0.01, 0.4),
    default=0.1,
    show_default=True,
    help="Share of the captions that the figures are measured on.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the split.")
@click.option(
    "--views",
    type=click.IntRange(1, 5),
    default=3,
    show_default=True,
    help="Views of each picture to learn from: itself, mirrored, with a border, turned, turned and mirrored.",
)
@click.option(
    "--precision",
    type=click.Choice(["int8", "fp32"]),
    default="int8",
    show_default=True,
    help="How weights are stored; both compute in float32.",
)
@click.option("--cache", metavar="FOLDER", help="Keep what the tower says of files here, for another run.")
@click.option("--name", help="The new bundle's name.  [default: the folder's]")
@click.option("--force", is_flag=True, help="Replace an existing bundle.")
@threads_option
@json_option
def align(
    pairs: str,
    out: str,
    image_tower: str | None,
    audio_tower: str | None,
    text_bundle: str,
    tower_only: bool,
    cache: str | None,
    name: str | None,
    force: bool,
    as_json: bool,
    **training: Any,
) -> None:
    """Train a tower of pictures or sounds to be searched by texts.

    PAIRS is a .jsonl or .csv file: in each row a file (`path`) and its `caption`, or a list of `captions`. OUT is the
    bundle to write: the text bundle with the tower, a small trained network behind it. The tower itself stays as it
    is. Some hundred pairs are a beginning, some thousand better. Needs the extra `train`.
    """
    from edge_embed.embedder import bundle_path
    from edge_embed_export.align.align import AlignOptions, align_tower

    towers = {"image": image_tower, "audio": audio_tower}
    given = {modality: tower for modality, tower in towers.items() if tower is not None}
    if len(given) != 1:
        raise click.UsageError("Give either --image-tower or --audio-tower.")
    ((modality, tower),) = given.items()
    aligned = align_tower(
        pairs,
        out,
        tower,
        bundle_path(text_bundle),
        AlignOptions(modality, cache=None if cache is None else Path(cache), **training),
        tower_only=tower_only,
        name=name,
        overwrite=force,
        show_progress=True,
        progress=say_step,
    )
    _name(aligned.unreadable)
    size = sum(record.size for record in aligned.manifest.files.values())
    result = {"bundle": out, "bytes": size, "fingerprint": aligned.manifest.fingerprint, **aligned.figures}
    show(result, as_json, lambda: _lines(out, size, aligned.figures))


def _name(unreadable: "list[MediaError]") -> None:
    for error in unreadable[:NAMED]:
        say(f"skipped: {error}", err=True)
    if len(unreadable) > NAMED:
        say(f"skipped: {len(unreadable) - NAMED} more files that cannot be read", err=True)


def _lines(out: str, size: int, figures: dict[str, Any]) -> Iterator[str]:
    held_out = figures["held_out"]
    yield f"{out}: {size / 1e6:.1f} MB"
    yield f"{held_out['files']} files held out, found by their captions among each other:"
    for k in (1, 10):
        yield (
            f"  among the first {k:>2}: {held_out[f'found@{k}']:.3f} of the captions find one of their files "
            f"(chance {held_out[f'chance@{k}']:.3f}), recall {held_out[f'recall@{k}']:.3f}"
        )
    if cosine := figures["receipt"].get("cosine_to_fp32"):
        yield f"cosine of int8 weights to float32: mean {cosine['mean']:.4f}, lowest {cosine['min']:.4f}"
