"""`edge-embed serve`."""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge_embed.cli.access import access_options, access_to, given_token
from edge_embed.cli.options import (
    BUNDLE_VARIABLE,
    all_options,
    engine_option,
    json_option,
    kind_options,
    max_rss_option,
    more_embedders,
    show,
    threads_option,
)
from edge_embed.cli.terminal import say
from edge_embed.service.limits import Limits
from edge_embed_runtime.errors import MissingExtraError
from edge_embed_runtime.extras import require

if TYPE_CHECKING:
    from edge_embed.embedder import Embedder
    from edge_embed.service.service import Service
    from edge_embed.service.sockets import Listening
    from edge_embed_runtime.embed.loadedbundle import LoadedBundle

HOST, PORT = "127.0.0.1", 8080
# A name that clients use for a bundle.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,99}")
MB = 1_000_000

address_options = all_options(
    click.option("--host", help=f"Address to listen on.  [default: {HOST}]"),
    click.option(
        "--port", type=click.IntRange(0, 65535), help=f"Port to listen on; 0 takes a free one.  [default: {PORT}]"
    ),
    click.option("--unix", metavar="PATH", help="Listen on this unix socket instead, which only you can connect to."),
)
bundle_options = all_options(
    click.option(
        "--bundle",
        "bundles",
        metavar="[NAME=]BUNDLE",
        multiple=True,
        help="Bundle to embed with, as in other commands, and the name that clients use for it; may be given several "
        f"times, the first is the default; or {BUNDLE_VARIABLE} in the environment.  [default: minilm]",
    ),
    click.option(
        "--rerank",
        "rerankers",
        metavar="[NAME=]BUNDLE",
        multiple=True,
        help="Bundle to rerank with; may be given several times.",
    ),
    kind_options,
)
read_only_option = click.option("--read-only", is_flag=True, help="Never write INDEX.")


def _limit(option: str, name: str, kind: Any, text: str, unit: int = 1) -> Any:
    """An option for a field of Limits, which has the default. unit: how many of the field's are one of the option's"""
    default = f"{getattr(Limits, name) / unit:g}"
    return click.option(option, name, type=kind, default=default, show_default=True, help=text)


limit_options = all_options(
    _limit("--max-body", "body_bytes", click.FloatRange(0.001), "Megabytes of a request in JSON, at most.", MB),
    _limit("--max-upload", "upload_bytes", click.FloatRange(0.001), "Megabytes of a file that is added, at most.", MB),
    _limit("--max-texts", "texts", click.IntRange(1), "Texts in one request, at most."),
    _limit("--max-characters", "characters", click.IntRange(1), "Characters of a text, at most."),
    _limit("--max-pixels", "pixels", click.FloatRange(0.001), "Millions of pixels of a picture, at most.", MB),
    _limit("--max-hits", "hits", click.IntRange(1), "Hits of one search, at most."),
    _limit("--queue", "waiting", click.IntRange(1), "Texts that wait for a model, at most; then 429."),
    _limit("--deadline", "seconds", click.FloatRange(0.001), "Seconds for a request; then 503."),
    _limit("--connections", "connections", click.IntRange(1), "Open connections, at most."),
    _limit("--stop-seconds", "stop_seconds", click.FloatRange(0), "Seconds for what runs when it is stopped."),
)


@click.command()
@click.argument("index", metavar="[INDEX]", required=False)
@address_options
@bundle_options
@access_options
@read_only_option
@limit_options
@engine_option
@threads_option
@max_rss_option
@click.option("--access-log", is_flag=True, help="Write a line for each answer: method, route, status and time.")
@click.option("--check", is_flag=True, help="Start nothing, but ask the service at this address whether it is ready.")
@json_option
def serve(
    index: str | None, check: bool, token_file: str | None, access_log: bool, as_json: bool, **given: Any
) -> None:
    """Answer requests over HTTP on this machine.

    Without INDEX, only models are served. With it, INDEX is searched, and written by clients that have the token; it is
    made where it is missing.
    """
    address = {name: given[name] for name in ("host", "port", "unix")}
    if address["unix"] is not None and not address["host"] is address["port"] is None:
        raise click.UsageError("--unix stands alone, without --host and --port.")
    token = given_token(token_file)
    if check:
        from edge_embed.service.checking import check_ready

        check_ready(address["host"] or HOST, address["port"] or PORT, address["unix"], token)
        show({"ready": True}, as_json, lambda: iter(["ready"]))
        return
    for module in ("starlette", "uvicorn", "prometheus_client"):
        require(module, "serve")
    from edge_embed.service import logs
    from edge_embed.service.server import run

    with ExitStack() as opened:
        listening = _listen(address, opened)
        writes = index is not None and not given["read_only"]
        access = access_to(listening, token, remote=given["allow_remote"], names=given["names"], writes=writes)
        logs.set_up(access=access_log)
        service = _service(index, given)
        started = {
            "listening": [one.name for one in listening],
            "token": None if access.token == token else access.token,
            "models": list(service.embedders),
            "engines": {name: model.engine for name, model in service.embedders.items()},
            "rerankers": list(service.rerankers),
            "index": index,
        }
        told = partial(show, started, as_json, partial(_lines, started, service.embedders))
        run(service, access, [one.socket for one in listening], told)


def _lines(started: dict[str, Any], models: Mapping[str, "LoadedBundle"]) -> Iterator[str]:
    for name, model in models.items():
        if model.engine_reason:
            yield f"{name} runs in {model.engine}: {model.engine_reason}"
    if started["token"] is not None:
        yield f"token for writing: {started['token']}"
    for name in started["listening"]:
        yield f"listening on {name}"


def _service(index: str | None, given: dict[str, Any]) -> "Service":
    from edge_embed.service.indexes import IndexOptions, ServedIndex
    from edge_embed.service.service import Service

    embedders, rerankers = _embedders(given), _rerankers(given)
    for name, embedder in embedders.items():
        _load_towers(name, embedder)
    if both := embedders.keys() & rerankers.keys():
        raise click.BadParameter(f"a --bundle is named {min(both)!r} already: NAME=BUNDLE", param_hint="--rerank")
    served = None
    if index is not None:
        more = more_embedders(given["sparse"], given["multi"], given)
        options = IndexOptions(**more, max_rss_mb=given["max_rss_mb"], read_only=given["read_only"])
        served = ServedIndex(index, embedders, options)
    return Service(embedders, rerankers, index=served, limits=_limits(given))


def _load_towers(name: str, embedder: "Embedder") -> None:
    """Those for pictures and sounds now, rather than with the first request; what is missing for them is said."""
    if embedder.modalities == ("text",):
        return
    try:
        embedder.load_towers()
    except MissingExtraError as error:
        say(f"edge-embed: {name}: {error}", err=True)


def _listen(address: dict[str, Any], opened: ExitStack) -> "list[Listening]":
    """The sockets of systemd, or one of our own."""
    from edge_embed.service.sockets import listen_tcp, listen_unix, of_socket
    from edge_embed.service.systemd import passed_sockets

    passed = passed_sockets()
    if passed and any(value is not None for value in address.values()):
        raise click.UsageError("systemd passes the socket: leave out --host, --port and --unix.")
    if passed:
        listening = [of_socket(one) for one in passed]
    elif address["unix"] is not None:
        listening = [listen_unix(address["unix"])]
    else:
        listening = [listen_tcp(address["host"] or HOST, PORT if address["port"] is None else address["port"])]
    for one in listening:
        opened.callback(one.close)
    return listening


def _limits(given: dict[str, Any]) -> Limits:
    names = ("texts", "characters", "hits", "waiting", "seconds", "connections", "stop_seconds")
    body, upload, pixels = (round(given[name] * MB) for name in ("body_bytes", "upload_bytes", "pixels"))
    return Limits(
        body_bytes=body,
        upload_bytes=upload,
        held_bytes=2 * max(body, upload),
        pixels=pixels,
        **{name: given[name] for name in names},
    )


def _embedders(given: dict[str, Any]) -> dict[str, Any]:
    from edge_embed.embedder import Embedder

    kind = partial(Embedder, engine=given["engine"])
    return _named("--bundle", given["bundles"] or (os.environ.get(BUNDLE_VARIABLE) or "minilm",), kind, given)


def _rerankers(given: dict[str, Any]) -> dict[str, Any]:
    if not given["rerankers"]:
        return {}
    from edge_embed import Reranker

    return _named("--rerank", given["rerankers"], Reranker, given)


def _named(option: str, bundles: tuple[str, ...], kind: Any, given: dict[str, Any]) -> dict[str, Any]:
    """Models by the names that are given, or that their bundles have."""
    found: dict[str, Any] = {}
    for bundle in bundles:
        before, equals, behind = bundle.partition("=")
        named = bool(equals) and NAME.fullmatch(before) is not None and not Path(bundle).exists()
        model = kind(behind if named else bundle, threads=given["threads"], max_rss_mb=given["max_rss_mb"])
        name = before if named else model.name
        if name in found:
            raise click.BadParameter(f"two are named {name!r}: write NAME=BUNDLE", param_hint=option)
        found[name] = model
    return found
