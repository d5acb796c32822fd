"""Devices that wheels are for: their tags for pip, their answers to markers, what a wheel needs of them."""

import re
import sysconfig
from collections.abc import Iterable
from dataclasses import dataclass

from packaging.utils import parse_wheel_filename

from edge_embed_runtime.errors import InputError

# C library or system; sys_platform, platform_system, os_name, platform_machine
PLATFORMS = {
    "linux_x86_64": ("glibc", "linux", "Linux", "posix", "x86_64"),
    "linux_aarch64": ("glibc", "linux", "Linux", "posix", "aarch64"),
    "musllinux_x86_64": ("musl", "linux", "Linux", "posix", "x86_64"),
    "musllinux_aarch64": ("musl", "linux", "Linux", "posix", "aarch64"),
    "macos_arm64": ("macOS", "darwin", "Darwin", "posix", "arm64"),
    "macos_x86_64": ("macOS", "darwin", "Darwin", "posix", "x86_64"),
    "windows_amd64": ("Windows", "win32", "Windows", "nt", "AMD64"),
    "windows_arm64": ("Windows", "win32", "Windows", "nt", "ARM64"),
}
# The version that is assumed without --system: Debian 10, Ubuntu 20.04, RHEL 8; Alpine; macOS of 2023.
SYSTEM = {"glibc": "2.28", "musl": "1.2", "macOS": "14.0", "Windows": ""}
SHAPES = {"glibc": r"2\.\d{1,2}", "musl": r"1\.\d", "macOS": r"\d{2}\.\d{1,2}"}
# The oldest glibc in tags of wheels, and the older names of three of the tags.
OLDEST_GLIBC = 5
OLD_NAMES = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
LEAST_PYTHON = 11


@dataclass(frozen=True)
class Target:
    """A device.

    platform: one of PLATFORMS
    python:   "3.11"
    system:   "2.28", the version of its glibc, musl or macOS; "" on Windows
    """

    platform: str
    python: str
    system: str

    @property
    def environment(self) -> dict[str, str]:
        """The answers to markers."""
        _, sys_platform, platform_system, os_name, machine = PLATFORMS[self.platform]
        return {
            "sys_platform": sys_platform,
            "platform_system": platform_system,
            "os_name": os_name,
            "platform_machine": machine,
            "python_version": self.python,
            "python_full_version": f"{self.python}.0",
            "implementation_name": "cpython",
            "implementation_version": f"{self.python}.0",
            "platform_python_implementation": "CPython",
            "extra": "",
        }

    @property
    def tags(self) -> list[str]:
        """Platform tags of wheels that fit; pip itself adds those of older macOS."""
        kind, *_, machine = PLATFORMS[self.platform]
        if kind == "Windows":
            return [f"win_{machine.lower()}"]
        major, minor = (int(part) for part in self.system.split("."))
        if kind == "macOS":
            return [f"macosx_{major}_{minor}_{machine}"]
        if kind == "musl":
            return [f"musllinux_1_{version}_{machine}" for version in range(minor, -1, -1)]
        tags = []
        for version in range(minor, OLDEST_GLIBC - 1, -1):
            tags += [f"manylinux_2_{version}_{machine}"]
            tags += [f"{OLD_NAMES[version]}_{machine}"] if version in OLD_NAMES else []
        return tags

    def takes(self, tag: str) -> bool:
        """Whether it installs wheels of a platform; linux_x86_64 is one built on this machine, for its C library."""
        kind, *_, machine = PLATFORMS[self.platform]
        if kind == "macOS" and (need := _needed(tag)) and tag.endswith(f"_{machine}"):
            major, minor = (int(part) for part in self.system.split("."))
            return need <= (major, minor)
        here = "musl" if "musl" in (sysconfig.get_config_var("EXT_SUFFIX") or "") else "glibc"
        return tag in ("any", *self.tags) or (tag == f"linux_{machine}" and kind == here)

    def __str__(self) -> str:
        kind = PLATFORMS[self.platform][0]
        return f"{self.platform}, Python {self.python}" + (f", {kind} {self.system}" if self.system else "")


def make_target(platform: str, python: str, system: str | None) -> Target:
    """Raises InputError for a device that edge_embed does not run on."""
    if platform not in PLATFORMS:
        raise InputError(
            f"platform {platform!r}: expected one of {', '.join(PLATFORMS)}", option="platform", value=platform
        )
    found = re.fullmatch(r"3\.(\d{1,2})", python)
    if found is None or int(found[1]) < LEAST_PYTHON:
        raise InputError(
            f"python {python!r}: expected a version such as 3.11, which is the lowest", option="python", value=python
        )
    kind = PLATFORMS[platform][0]
    system = SYSTEM[kind] if system is None else system
    if kind == "Windows":
        if system:
            raise InputError("the version of Windows makes no difference: leave it out")
    elif not re.fullmatch(SHAPES[kind], system):
        raise InputError(
            f"system {system!r}: expected a version of {kind}, such as {SYSTEM[kind]}",
            option="system",
            value=system,
        )
    return Target(platform, python, system)


def floor(target: Target, wheels: Iterable[str]) -> tuple[str, str] | None:
    """The version of the device's system that the wheels need, and the wheel that needs it; None if they need none.

    ["numpy-2.4.6-cp311-cp311-manylinux_2_27_aarch64.manylinux_2_28_aarch64.whl"] -> ("glibc 2.27", "numpy")
    """
    kind = PLATFORMS[target.platform][0]
    needs = []
    for wheel in wheels:
        name, _, _, tags = parse_wheel_filename(wheel)
        versions = [version for tag in tags if (version := _needed(tag.platform)) is not None]
        if versions:
            needs.append((min(versions), name))  # one of the tags is enough
    if not needs:
        return None
    (major, minor), wheel = max(sorted(needs), key=lambda need: need[0])
    return f"{kind} {major}.{minor}", wheel


def _needed(platform: str) -> tuple[int, int] | None:
    """macosx_11_0_arm64 -> (11, 0), manylinux2014_x86_64 -> (2, 17), any -> None."""
    minor = next((minor for minor, name in OLD_NAMES.items() if platform.startswith(f"{name}_")), None)
    found = re.match(r"(?:manylinux|musllinux|macosx)_(\d+)_(\d+)_", platform)
    return (2, minor) if minor is not None else (int(found[1]), int(found[2])) if found else None
