"""`edge-embed encode`."""

import io
import sys
from pathlib import Path
from typing import Any

import click

from edge_embed.cli.options import (
    bundle_option,
    json_option,
    run_options,
    show,
)


@click.command()
@click.argument("file", metavar="FILE|-", default="-")
@click.option("-o", "--output", metavar="FILE", required=True, help="The file to write the vectors to (.npy).")
@click.option("--role", help="Put the prompt of this role before each text: query, document, ...")
@click.option("--prompt", help="Put this text before each text, instead of a role's prompt.")
@bundle_option
@run_options
@json_option
def encode(file: str, output: str, role: str | None, prompt: str | None, as_json: bool, **model: Any) -> None:
    """Embed every line of FILE and write the vectors to a .npy file.

    The array is float32 [lines, dim]. If FILE is - or missing, stdin is read.
    """
    import numpy as np

    from edge_embed.embedder import Embedder
    from edge_embed_runtime.errors import SourceError
    from edge_embed_runtime.system.writing import check_output, replacing

    target = Path(output)
    check_output(target)
    if not target.absolute().parent.is_dir():
        raise SourceError(
            f"{target}: the folder {target.absolute().parent} does not exist", path=target, code="source_missing"
        )
    texts = _lines(file)
    embedder = Embedder(**model)
    vectors = embedder.encode(texts, role=role, prompt=prompt, show_progress=True)
    with replacing(target, 0o666) as stream:
        np.save(stream, vectors)
    result = {"texts": len(texts), "dim": embedder.dim, "output": str(target), "fingerprint": embedder.fingerprint}
    show(result, as_json, lambda: [f"{target}: {len(texts)} vectors of {embedder.dim} dimensions"])


def _lines(file: str) -> list[str]:
    """The lines of a file, or of stdin for "-"."""
    from edge_embed_runtime.errors import SourceError
    from edge_embed_runtime.system.files import open_regular

    if file == "-" and sys.stdin is None:
        raise SourceError("stdin is closed; give a file to read, or lines on stdin")
    name = "<stdin>" if file == "-" else file
    stream = sys.stdin.buffer if file == "-" else open_regular(file)
    try:
        with io.TextIOWrapper(stream, "utf-8") as text:
            return [line.rstrip("\r\n") for line in text]
    except UnicodeDecodeError as error:
        raise SourceError(f"{name}: not UTF-8 text ({error.reason} at byte {error.start})", path=name) from error
    except OSError as error:
        raise SourceError(f"{name} cannot be read: {error.strerror or error}", path=name) from error
