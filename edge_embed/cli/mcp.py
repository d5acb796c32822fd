"""`edge-embed mcp`."""

from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import click

from edge_embed.cli.access import access_options, access_to, given_token
from edge_embed.cli.options import bundle_option, json_option, kind_options, more_embedders, run_options, show
from edge_embed.cli.terminal import say_step
from edge_embed_runtime.errors import InputError


@click.command()
@click.argument("index", metavar="INDEX")
@click.option(
    "--http", metavar="HOST:PORT", help="Serve HTTP at this address instead of stdin; the next three are for it."
)
@access_options
@click.option("--read-only", is_flag=True, help="Leave out the tools that change INDEX.")
@click.option(
    "--max-characters",
    type=click.IntRange(4000),
    default=20_000,
    show_default=True,
    help="Characters in one answer, at most; about four are a token of a language model.",
)
@bundle_option
@kind_options
@run_options
@json_option
def mcp(
    index: str,
    http: str | None,
    token_file: str | None,
    allow_remote: bool,
    names: tuple[str, ...],
    read_only: bool,
    max_characters: int,
    sparse: str | None,
    multi: str | None,
    as_json: bool,
    **model: Any,
) -> None:
    """Give INDEX to programs with a language model, by MCP.

    They start this command and talk to it on stdin and stdout: search, read, list, add and forget are its tools, and
    documents its resources. INDEX is made with the first document; other servers and commands may write to it at the
    same time. The model is loaded by the first call that needs it: that of the vectors in INDEX, or --bundle.

    \b
    Most clients take this in their settings (paths have to be whole):
      {"mcpServers": {"notes": {"command": "edge-embed",
                                "args": ["mcp", "/home/me/notes.db"]}}}
    VS Code says "servers" for "mcpServers". Claude Code, Codex:
      claude mcp add notes -- edge-embed mcp /home/me/notes.db
      codex mcp add notes -- edge-embed mcp /home/me/notes.db
    """
    from edge_embed_runtime.extras import require

    if http is None and (token_file or allow_remote or names):
        raise click.UsageError("--token-file, --allow-remote and --allow-host are for --http.")
    require("mcp", "mcp")
    _check_bundles(model["bundle"], sparse, multi)
    from edge_embed.integrations.mcp.limits import Limits
    from edge_embed.integrations.mcp.notebook import Notebook

    models = partial(_models, sparse=sparse, multi=multi, model=model)
    limits = Limits(characters=max_characters)
    notebook = Notebook(index, models, limits=limits, read_only=read_only, max_rss_mb=model["max_rss_mb"])
    if http is None:
        from edge_embed.integrations.mcp.stdio import run_stdio

        say_step("edge-embed: a client of the Model Context Protocol starts this; edge-embed mcp --help shows how")
        run_stdio(notebook)
        return
    from edge_embed.integrations.mcp.http import PATH, run_http
    from edge_embed.service.sockets import listen_tcp

    token = given_token(token_file)
    with closing(listen_tcp(*_address(http))) as listening:
        access = access_to([listening], token, remote=allow_remote, names=names, writes=not read_only)
        started = {"listening": f"{listening.name}{PATH}", "token": None if access.token == token else access.token}
        run_http(notebook, access, listening.socket, partial(show, started, as_json, partial(_lines, started)))


def _lines(started: dict[str, str | None]) -> Iterator[str]:
    yield f"listening on {started['listening']}"
    if started["token"] is not None:
        yield f"token for writing: {started['token']}"


def _address(given: str) -> tuple[str, int]:
    """ "127.0.0.1:8123" -> ("127.0.0.1", 8123)."""
    host, colon, port = given.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not (host and colon and port.isascii() and port.isdigit() and int(port) < 65536):
        raise InputError(f"--http is {given!r}, expected an address and a port: 127.0.0.1:8123", option="http")
    return host, int(port)


def _check_bundles(*given: str | None) -> None:
    """A bundle that is not there is said before anything is served, not to the model that calls a tool."""
    named = [bundle for bundle in given if bundle is not None]
    if named:  # this imports numpy, for which a client waits
        from edge_embed.embedder import bundle_path
        from edge_embed_runtime.bundle.bundle import open_bundle

        for bundle in named:
            open_bundle(bundle_path(bundle))


def _models(path: Path, sparse: str | None, multi: str | None, model: dict[str, Any]) -> dict[str, Any]:
    """What `Index.open` takes for the models of an index, which names its bundle where it is there already."""
    from edge_embed.embedder import Embedder, own_embedder

    chosen = {name: model[name] for name in ("bundle", "truncate_dim", "adapter")}
    options = {name: value for name, value in model.items() if name not in chosen}
    named = any(value is not None for value in chosen.values())
    embedder = Embedder(**model) if named else own_embedder(path, **options)
    return {"embedder": embedder, **more_embedders(sparse, multi, model)}
