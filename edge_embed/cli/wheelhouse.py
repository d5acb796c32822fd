"""`edge-embed wheelhouse`."""

import platform as machine
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from edge_embed.cli.options import json_option, show
from edge_embed.cli.terminal import say


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--platform",
    required=True,
    help="The device: linux_x86_64 or linux_aarch64, musllinux_x86_64 or musllinux_aarch64 (Alpine), macos_arm64, "
    "macos_x86_64, windows_amd64 or windows_arm64.",
)
@click.option(
    "--python",
    metavar="VERSION",
    default=".".join(machine.python_version_tuple()[:2]),
    show_default=True,
    help="Python of the device.",
)
@click.option(
    "--system",
    metavar="VERSION",
    help="The device's glibc, musl or macOS, or an earlier one.  [default: 2.28, 1.2, 14.0]",
)
@click.option(
    "--lean", is_flag=True, help="Only what is imported on a device: no usearch, nothing that only others need."
)
@click.option("--static", is_flag=True, help="Only what static bundles need: no onnxruntime, which some devices lack.")
@click.option(
    "--wheel",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="A wheel of edge_embed.  [default: this installation]",
)
@json_option
def wheelhouse(
    folder: Path,
    platform: str,
    python: str,
    system: str | None,
    lean: bool,
    static: bool,
    wheel: Path | None,
    as_json: bool,
) -> None:
    """Download every wheel that a device without a network needs into DIR.

    Copy DIR there and run, in it: pip install --no-deps -r requirements.txt

    That file holds the hash of each wheel. An interrupted run can be run again and goes on. This command uses the
    network, through pip and its settings; no other does.
    """
    from edge_embed.wheelhouse.build import build
    from edge_embed.wheelhouse.platforms import make_target

    if lean and static:
        raise click.UsageError("--static leaves out more than --lean: give one of them.")

    def progress(step: str) -> None:
        if sys.stderr.isatty():
            say(step, err=True)

    target = make_target(platform, python, system)
    done = build(folder, target, lean=lean, static=static, wheel=wheel, progress=progress)

    def text() -> Iterator[str]:
        yield f"{folder}: {len(done['wheels'])} wheels for {done['target']}"
        for facts in sorted(done["wheels"], key=lambda facts: -facts["installed_bytes"]):
            size, installed = facts["bytes"] / 1e6, facts["installed_bytes"] / 1e6
            yield f"  {size:6.1f} MB, installed {installed:6.1f} MB  {facts['name']} {facts['version']}"
        yield f"  {done['bytes'] / 1e6:6.1f} MB, installed {done['installed_bytes'] / 1e6:6.1f} MB  in all"
        if done["needs"]:
            yield f"needs {done['needs']}"
        yield f"on the device: {done['install']}"

    show(done, as_json, text)
