"""Who may connect: the options of the commands that listen on an address, and what they say together."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from edge_embed.cli.options import all_options
from edge_embed_runtime.errors import InputError

if TYPE_CHECKING:
    from edge_embed.service.security import Access
    from edge_embed.service.sockets import Listening

access_options = all_options(
    click.option(
        "--token-file",
        metavar="FILE",
        help="File with the token, which only you can read; or EDGE_EMBED_TOKEN in the environment.",
    ),
    click.option(
        "--allow-remote", is_flag=True, help="Listen where other machines or users can connect; needs a token."
    ),
    click.option(
        "--allow-host",
        "names",
        metavar="NAME",
        multiple=True,
        help="A name by which clients call this machine, with or without port; may be given several times.",
    ),
)


def given_token(token_file: str | None) -> str | None:
    """The token of --token-file, or of the environment, from which it is removed."""
    from edge_embed.service.tokens import read_token, take_token

    from_environment = take_token()
    return read_token(token_file) if token_file is not None else from_environment


def access_to(
    listening: "Sequence[Listening]", token: str | None, *, remote: bool, names: Sequence[str], writes: bool
) -> "Access":
    """Who is let in. A token is made where none is given and writes need one. Raises InputError where others could
    connect, and that was not allowed, or there is no token.

    remote, names: of --allow-remote and --allow-host
    writes:        whether something can be changed
    """
    from edge_embed.service.security import Access, hosts_of
    from edge_embed.service.tokens import VARIABLE, new_token

    wide = [one.name for one in listening if not one.local]
    if wide and not remote:
        raise InputError(
            f"others could connect to {wide[0]}: --allow-remote allows that, with a token", option="allow_remote"
        )
    if wide and token is None:
        raise InputError(f"others can connect to {wide[0]}: give --token-file or {VARIABLE}", option="token_file")
    hosts: frozenset[str] = frozenset()
    for one in listening:
        own = [] if one.host is None else [f"{one.host}:{one.port}"]
        hosts |= hosts_of(one.port, [*own, *names])
    always = token is not None
    if token is None and writes:
        token = new_token()
    return Access(token, always, hosts)
