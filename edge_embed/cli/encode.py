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
@click.argument("files", metavar="[FILE|-]...", nargs=-1)
@click.option("-o", "--output", metavar="FILE", required=True, help="The file to write the vectors to (.npy).")
@click.option("--image", "modality", flag_value="image", help="Each FILE is a picture.")
@click.option("--audio", "modality", flag_value="audio", help="Each FILE is a sound.")
@click.option("--role", help="Put the prompt of this role before each text: query, document, ...")
@click.option("--prompt", help="Put this text before each text, instead of a role's prompt.")
@bundle_option
@run_options
@json_option
def encode(
    files: tuple[str, ...],
    output: str,
    modality: str | None,
    role: str | None,
    prompt: str | None,
    as_json: bool,
    **model: Any,
) -> None:
    """Embed every line of FILE and write the vectors to a .npy file.

    The array is float32 [lines, dim]. If FILE is - or missing, stdin is read. With --image or --audio each FILE is a
    picture or a sound, and the array [files, dim], in the order in which they are given.
    """
    import numpy as np

    from edge_embed.embedder import Embedder
    from edge_embed_runtime.system.writing import replacing

    target = _target(output)
    if modality is None:
        if len(files) > 1:
            raise click.UsageError("One FILE of texts is read at a time; --image and --audio take several.")
        texts = _lines(files[0] if files else "-")
        embedder = Embedder(**model)
        vectors = embedder.encode(texts, role=role, prompt=prompt, show_progress=True)
        counts = {"texts": len(texts)}
    else:
        if not files or role is not None or prompt is not None:
            raise click.UsageError(f"--{modality} needs FILE, and takes neither --role nor --prompt.")
        embedder = Embedder(**model, towers=(modality,))
        encoded = embedder.encode_image if modality == "image" else embedder.encode_audio
        vectors = encoded(list(files), show_progress=True)
        counts = {"images" if modality == "image" else "sounds": len(files)}
    with replacing(target, 0o666) as stream:
        np.save(stream, vectors)
    result = {**counts, "dim": vectors.shape[1], "output": str(target), "fingerprint": embedder.fingerprint}
    show(result, as_json, lambda: [f"{target}: {len(vectors)} vectors of {vectors.shape[1]} dimensions"])


def _target(output: str) -> Path:
    from edge_embed_runtime.errors import SourceError
    from edge_embed_runtime.system.writing import check_output

    target = Path(output)
    check_output(target)
    folder = target.absolute().parent
    if not folder.is_dir():
        raise SourceError(f"{target}: the folder {folder} does not exist", path=target, code="source_missing")
    return target


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
