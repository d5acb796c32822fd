"""Instructions of a program: by a plugin of an emulator built for it, or by the host's own counters.

Debian's qemu-user is linked statically and takes no plugins, so the same source is built once more with them: some
minutes, once for each bed. What it needs (glib's headers, meson, ninja) is unpacked beside it, nothing is installed.
"""

import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from bed import QEMU_SUITE, Apt, Bed, MissingError, run

HELPER = Path("/usr/lib/apt/apt-helper")
GLIB = (
    "libglib2.0-dev", "libglib2.0-0", "libpcre2-dev", "libpcre2-8-0", "libffi-dev", "zlib1g-dev",
    "libmount-dev", "libblkid-dev", "libselinux1-dev", "libsepol-dev",
)  # fmt: skip
TOOLS = ("meson", "ninja", "pycotap", "setuptools", "wheel")
TARGETS = ("aarch64", "x86_64")
OPTIONS = (
    "--enable-plugins", "--without-default-features", "--disable-system", "--disable-tools", "--disable-docs",
    "--disable-download", "--disable-install-blobs", "--disable-werror", "--disable-debug-info",
)  # fmt: skip
# Start and so many queries, less start and one: what is left is the queries.
FEW, MANY = 1, 11


def emulator(bed: Bed, architecture: str) -> Path:
    """The emulator that takes plugins; ours lies beside it."""

    def make(part: Path) -> None:
        for program in ("gcc", "pkg-config", "tar"):
            if not shutil.which(program):
                raise MissingError(f"{program} is not here: counting builds an emulator")
        source, glib = _source(part), part / "glib"
        apt = Apt(part / "apt", {"bookworm": "debian", "bookworm-security": "debian-security"}, "amd64")
        apt("download", *GLIB)
        apt.unpack(glib)
        run([sys.executable, "-m", "venv", part / "tools"])
        run([part / "tools/bin/python", "-m", "pip", "install", "-q", *TOOLS])
        _compile(part, source, glib)
        for leftover in ("apt", "source", "build", "tools"):
            shutil.rmtree(part / leftover)

    return bed.part("counting", make) / f"qemu-{architecture}"


def _source(part: Path) -> Path:
    """The source that Debian's package is made of, unpacked; its SHA256 is in Debian's signed index."""
    apt = Apt(part / "apt-source", {QEMU_SUITE: "debian"}, "amd64", "deb-src")
    listed = re.search(r"'(\S+\.orig\.tar\.xz)' (\S+) \d+ (SHA256:\w+)", apt("source", "--print-uris", "qemu"))
    if listed is None:
        raise MissingError("the mirror lists no source of qemu")
    archive = part / "qemu.tar.xz"
    run([HELPER, "download-file", listed[1], archive, listed[3]])
    (part / "source").mkdir()
    run(["tar", "xf", archive, "-C", part / "source", "--strip-components=1"])
    archive.unlink()
    shutil.rmtree(part / "apt-source")
    return part / "source"


def _compile(part: Path, source: Path, glib: Path) -> None:
    build = part / "build"
    build.mkdir()
    libraries = glib / "usr/lib/x86_64-linux-gnu"
    environment = {
        **os.environ,
        "PATH": f"{part}/tools/bin:{os.environ['PATH']}",
        "PKG_CONFIG_LIBDIR": f"{libraries}/pkgconfig:{glib}/usr/share/pkgconfig",
        "PKG_CONFIG_SYSROOT_DIR": str(glib),
        "LD_LIBRARY_PATH": f"{glib}/lib/x86_64-linux-gnu:{libraries}",
    }
    lasting = str(part.with_suffix("") / "glib")  # where the folder goes when all is made
    paths = f"--extra-ldflags=-Wl,-rpath,{lasting}/lib/x86_64-linux-gnu:{lasting}/usr/lib/x86_64-linux-gnu"
    targets = "--target-list=" + ",".join(f"{name}-linux-user" for name in TARGETS)
    configure = [source / "configure", f"--python={part}/tools/bin/python", targets, paths, *OPTIONS]
    run(["nice", *configure], cwd=build, env=environment)
    run(["nice", "ninja", *(f"qemu-{name}" for name in TARGETS)], cwd=build, env=environment)
    for name in TARGETS:
        (build / f"qemu-{name}").rename(part / f"qemu-{name}")
    include = [source / "include/qemu", glib / "usr/include/glib-2.0", libraries / "glib-2.0/include"]
    plugin = Path(__file__).with_name("count.c")
    flags = [word for folder in include for word in ("-I", folder)]
    run(["gcc", "-shared", "-fPIC", "-O2", *flags, "-o", part / "count.so", plugin])


def without_memory(environment: Mapping[str, str], folder: str) -> dict[str, str]:
    """That of a program which finds nothing of earlier runs: they would save it checks at its start."""
    return {**environment, "XDG_CACHE_HOME": folder}


def emulated(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Instructions of an emulated program; the command starts with that of `emulator`."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "count"
        plugin = ["-plugin", f"{Path(command[0]).parent / 'count.so'},out={out}"]
        run([command[0], *plugin, *command[1:]], env=without_memory(environment, folder))
        return int(out.read_text())


def native(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Instructions of a program on this machine, in user mode, as `perf` counts them."""
    if not shutil.which("perf"):
        raise MissingError("perf is not here")
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "count"
        counter = ["perf", "stat", "-j", "-e", "instructions:u", "-o", out, "--"]
        run([*counter, *command], env=without_memory(environment, folder))
        lines = [line for line in out.read_text().splitlines() if line.startswith("{")]
    value = json.loads(lines[-1])["counter-value"] if lines else "nothing"
    if not re.fullmatch(r"\d+(\.0*)?", value):
        raise MissingError(f"perf counts no instructions here: {value}")
    return int(float(value))


def per_query(count: Callable[[int], int]) -> float:
    """Instructions of one query, start-up left out. count(n): those of start and n queries."""
    return (count(MANY) - count(FEW)) / (MANY - FEW)
