"""`edge-embed bench`: how fast a bundle is on this device, and what it takes."""

from collections.abc import Iterator
from typing import Any

import click

from edge_embed.cli.options import bundle_option, engine_option, json_option, max_rss_option, show, threads_option


@click.group(invoke_without_command=True, subcommand_metavar="")
@bundle_option
@engine_option
@threads_option
@max_rss_option
@click.option("--repeat", type=click.IntRange(1), default=3, show_default=True, help="Processes for each figure.")
@click.option(
    "--seconds", type=click.FloatRange(0), default=1.0, show_default=True, help="How long each of them measures."
)
@click.option(
    "--documents",
    type=click.IntRange(0),
    default=10_000,
    show_default=True,
    help="Documents in the index that is searched; 0 leaves the search out.",
)
@json_option
@click.pass_context
def bench(context: click.Context, /, bundle: str | None, as_json: bool, **settings: Any) -> None:
    """Measure this device: start, latency, texts/s, memory, search.

    Each figure is measured in processes of its own. Keep what --json prints to compare releases, bundles or devices:
    its names do not change while `schema` is the same.
    """
    if context.invoked_subcommand:
        return
    from edge_embed.measuring.device import Settings, measure_device

    result = measure_device(bundle or None, Settings(**settings), show_progress=True)
    show(result, as_json, lambda: _lines(result))


def _lines(result: dict[str, Any]) -> Iterator[str]:
    from edge_embed.measuring.device import FIGURES

    model, machine, settings = result["model"], result["machine"], result["settings"]
    load = "" if machine["load"] is None else f", load {machine['load']:.1f}"
    yield f"{model['bundle']} ({model['fingerprint']}), {model['kind']}, {model['size_mb']:.1f} MB"
    yield f"{machine['cpu']}, cores: {machine['cores']} ({' '.join(machine['flags']) or machine['architecture']}){load}"
    yield ", ".join(f"{name} {version}" for name, version in result["versions"].items() if version)
    short, passage = (f"{least} to {most}" for least, most in (settings["query_tokens"], settings["passage_tokens"]))
    engine = f"engine {model['engine']}, " if model["engine"] else ""
    yield f"{engine}threads {settings['threads']}, short texts of {short} tokens, passages of {passage} tokens"
    yield f"documents {settings['documents']:,}"
    yield ""
    for name, value in result["figures"].items():
        if value is not None:
            yield f"{name:<22}{_number(value):>10}   {FIGURES[name]}"


def _number(value: float) -> str:
    """Three digits that count: 1234.5 -> "1,234", 1.2345 -> "1.23", 0.012345 -> "0.0123"."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _moved(name: str) -> click.Command:
    """What was `edge-embed bench encode` and `bench search` until release 0.1, whatever follows it."""

    def refuse() -> None:
        raise click.UsageError(f"`edge-embed bench {name}` is now `python -m bench.{name}`, run in the source tree.")

    anything = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}
    return click.Command(name, callback=refuse, hidden=True, context_settings=anything)


bench.add_command(_moved("encode"))
bench.add_command(_moved("search"))
