"""A plugin for Simon Willison's `llm`: its collections embedded by bundles, on this machine.

Models are `edge-embed` (the default bundle), `edge-embed/static`, and `edge-embed/NAME` for each bundle that
`llm edge-embed register NAME FOLDER` has named. `llm` loads this file whenever it starts: all else is imported by the
first text.
"""

import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_embed.errors import EdgeEmbedError, InputError
from edge_embed_runtime.extras import require

require("llm", "llm")

import click
import llm

if TYPE_CHECKING:
    from edge_embed.embedder import Embedder

DEFAULT = "edge-embed"
# Bundles that come with edge_embed, by the model's name.
EMBEDDED = {DEFAULT: "minilm", f"{DEFAULT}/static": "static"}
# Folders of bundles by name, in llm's own folder.
NAMED = "edge-embed.json"
# Texts that are embedded at a time.
BATCH = 256
MEDIA = ("image", "audio")


class EdgeEmbeddingModel(llm.EmbeddingModel):
    """A bundle as `llm` asks it.

    bundle: a folder, or the name of an embedded one; read by the first text. None of the roles' prompts is put before a
            text, since llm does not say which texts are questions
    """

    batch_size = BATCH

    def __init__(self, model_id: str, bundle: str) -> None:
        self.model_id, self.bundle = model_id, bundle

    @cached_property
    def embedder(self) -> "Embedder":
        from edge_embed.embedder import Embedder

        return Embedder(self.bundle)

    @property
    def supports_binary(self) -> bool:
        """Whether it embeds pictures or sounds; known without loading it."""
        return self._media is not None

    @cached_property
    def _media(self) -> str | None:
        """What files are taken for: pictures where the bundle embeds both."""
        from edge_embed.embedder import modalities_of

        known = modalities_of(self.bundle)
        return next((name for name in MEDIA if name in known), None)

    def embed_batch(self, items: Iterable[str | bytes], *, key: str | None = None) -> Iterator[list[float]]:  # noqa: ARG002 - llm's
        """Embed texts, and pictures or sounds as the bytes of their files: a vector for each, of length 1.

        Texts that are longer than the model reads are cut, with a TruncationWarning. Raises InputError and MediaError;
        in a command of `llm`, one line.
        """
        given = list(items)
        texts = [item for item in given if isinstance(item, str)]
        files = [item for item in given if not isinstance(item, str)]
        with _in_words():
            vectors = {
                str: iter(self.embedder.encode(texts, on_truncation="warn") if texts else ()),
                bytes: iter(self._embed_files(files) if files else ()),
            }
        for item in given:
            yield [float(number) for number in next(vectors[str if isinstance(item, str) else bytes])]

    def _embed_files(self, files: list[bytes]) -> Any:
        if self._media is None:
            raise InputError(f"the bundle {self.bundle} embeds texts alone")
        return self.embedder.encode_image(files) if self._media == "image" else self.embedder.encode_audio(files)


@contextmanager
def _in_words() -> Iterator[None]:
    """In a command of llm, our errors are one line."""
    try:
        yield
    except EdgeEmbedError as error:
        if click.get_current_context(silent=True) is None:
            raise
        raise click.ClickException(" ".join(str(error).split())) from error


@llm.hookimpl
def register_embedding_models(register: Callable[..., None]) -> None:
    for model_id, bundle in {**EMBEDDED, **_named()}.items():
        register(EdgeEmbeddingModel(model_id, bundle))


@llm.hookimpl
def register_commands(cli: Any) -> None:
    @cli.group(name=DEFAULT)
    def edge_embed() -> None:
        """Bundles of edge-embed as embedding models."""

    @edge_embed.command()
    @click.argument("name")
    @click.argument("folder", type=click.Path(exists=True, file_okay=False))
    def register(name: str, folder: str) -> None:
        """Make the bundle in FOLDER the embedding model edge-embed/NAME, which stays its name until it is forgotten."""
        from edge_embed_runtime.bundle.bundle import open_bundle
        from edge_embed_runtime.vectors.kinds import DENSE

        model_id = f"{DEFAULT}/{name}"
        if not name.strip() or not name.isprintable() or model_id in EMBEDDED:
            raise click.ClickException(f"{name!r} cannot be the name of a bundle: choose another one")
        with _in_words():
            if open_bundle(folder).manifest.output is not DENSE:
                raise InputError(f"{folder} does not embed a text as one vector")
        named, place = _named(), str(Path(folder).resolve())
        if named.setdefault(model_id, place) != place:  # collections of that model hold vectors of the other bundle
            raise click.ClickException(f"{name!r} is {named[model_id]} already: take another name, or forget it")
        _write(named)
        click.echo(f"{model_id} is the bundle {Path(folder).name}")

    @edge_embed.command()
    @click.argument("name")
    def forget(name: str) -> None:
        """Forget the embedding model edge-embed/NAME; its bundle stays where it is."""
        named = _named()
        if named.pop(f"{DEFAULT}/{name}", None) is None:
            raise click.ClickException(f"no bundle was registered as {name!r}")
        _write(named)


def _named() -> dict[str, str]:
    """Folders of the bundles that the user has named, by the model's name. Raises ClickException for a damaged file."""
    path = llm.user_dir() / NAMED
    try:
        found = json.loads(path.read_text("utf-8"))
        if not isinstance(found, dict) or not all(isinstance(folder, str) for folder in found.values()):
            raise ValueError("it is no object of folders")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise click.ClickException(f"{path} cannot be read ({error}): repair it, or delete it") from None
    return found


def _write(named: dict[str, str]) -> None:
    path = llm.user_dir() / NAMED
    unfinished = path.with_suffix(f".{os.getpid()}.part")
    unfinished.write_text(json.dumps(named, indent=2), "utf-8")
    unfinished.replace(path)
