"""`edge-embed tokens`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from edge_embed.cli.options import adapter_option, bundle_option, json_option, max_rss_option, show, threads_option


@click.command()
@click.argument("texts", metavar="TEXT...", nargs=-1, required=True)
@click.option("--layer", type=int, help="0 for the embeddings, 1 for the first layer, -1 for the last.  [default: -1]")
@click.option("--weights", metavar="N,N,...", help="Mix all layers instead: a weight for each, embeddings first.")
@click.option("--normalize", is_flag=True, help="Scale each vector to length 1.")
@click.option("--role", help="Put the prompt of this role before each text: query, document, ...")
@click.option("--prompt", help="Put this text before each text, instead of a role's prompt.")
@click.option("-o", "--output", metavar="FILE", help="The file to write tokens and vectors to (.npz).")
@adapter_option
@bundle_option
@threads_option
@max_rss_option
@json_option
def tokens(
    texts: tuple[str, ...],
    layer: int | None,
    weights: str | None,
    normalize: bool,
    role: str | None,
    prompt: str | None,
    output: str | None,
    as_json: bool,
    **model: Any,
) -> None:
    """Show the tokens of each TEXT and their positions.

    With --json or -o also the vector of each token. The .npz file has `tokens`, `vectors` float32 [n, hidden],
    `offsets` [n, 2] in characters, `special` [n], and `texts` [n]: the number of the text that each token is from.
    """
    from edge_embed.embedder import Embedder
    from edge_embed_runtime.system.writing import check_output

    if output is not None:
        check_output(Path(output))
    mix = None if weights is None else _numbers(weights)
    embedder = Embedder(**model)
    found = embedder.encode_tokens(list(texts), role=role, prompt=prompt, layer=layer, weights=mix, normalize=normalize)
    if output is not None:
        _write(Path(output), found)

    def text() -> Iterator[str]:
        for given, result in zip(texts, found, strict=True):
            yield given
            for token, (start, stop), special in zip(result.tokens, result.offsets, result.special, strict=True):
                yield f"  {'' if special else f'{start}-{stop}':<9} {token}"

    show({"texts": [_plain(given, result) for given, result in zip(texts, found, strict=True)]}, as_json, text)


def _numbers(given: str) -> list[float]:
    """ "0,0.5,0.5" -> [0.0, 0.5, 0.5]."""
    try:
        return [float(part) for part in given.split(",")]
    except ValueError:
        raise click.BadParameter("write numbers with commas, as in 0,0.5,0.5", param_hint="--weights") from None


def _plain(text: str, found: Any) -> dict[str, Any]:
    return {
        "text": text,
        "tokens": found.tokens,
        "offsets": found.offsets.tolist(),
        "special": found.special.tolist(),
        "vectors": found.vectors.tolist(),
    }


def _write(target: Path, found: list[Any]) -> None:
    import numpy as np

    from edge_embed_runtime.system.writing import replacing

    counts = [len(result.tokens) for result in found]
    vectors, offsets, special = (
        np.concatenate([getattr(result, name) for result in found]) for name in ("vectors", "offsets", "special")
    )
    names = np.array([token for result in found for token in result.tokens])
    of = np.repeat(np.arange(len(found)), counts)
    with replacing(target) as stream:
        np.savez(stream, tokens=names, texts=of, vectors=vectors, offsets=offsets, special=special)
