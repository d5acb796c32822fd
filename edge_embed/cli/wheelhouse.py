"""`edge-embed wheelhouse`."""

import platform as machine
from collections.abc import Iterator
from pathlib import Path

import click

from edge_embed.cli.options import json_option, show
from edge_embed.cli.terminal import say_step


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
    help="The device's Python.",
)
@click.option(
    "--system",
    metavar="VERSION",
    help="The version of the device's glibc, musl or macOS, or an earlier one.  [default: 2.28, 1.2, 14.0]",
)
@click.option(
    "--lean",
    is_flag=True,
    help="Only what edge-embed imports on a device: no usearch, and nothing that only other programs need.",
)
@click.option(
    "--static", is_flag=True, help="Only what static bundles need: no onnxruntime, which some devices cannot have."
)
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
    """Download all wheels for a device without a network.

    Copy DIR to the device and run there, in DIR: pip install --no-deps -r requirements.txt

    That file has the hash of each wheel. You can run an interrupted command again, and it continues. This is the only
    command that uses the network; it runs pip with your settings of pip.
    """
    from edge_embed_runtime.extras import require

    require("packaging.requirements", "wheelhouse")  # onnxruntime brings it, which a small install lacks
    from edge_embed.wheelhouse.build import build
    from edge_embed.wheelhouse.platforms import make_target

    if lean and static:
        raise click.UsageError("--static leaves out more than --lean: give one of them.")

    target = make_target(platform, python, system)
    done = build(folder, target, lean=lean, static=static, wheel=wheel, progress=say_step)

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
