"""Devices that wheels are for: tags that pip knows them by, answers to markers, what a wheel asks of them."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from edge_embed_runtime.errors import InputError

# what is there besides the CPU; sys_platform, platform_system, os_name, platform_machine
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
# What the device's system is sure to be, unless it is said: Debian 10, Ubuntu 20.04, RHEL 8; Alpine; macOS of 2023.
SYSTEM = {"glibc": "2.28", "musl": "1.2", "macOS": "14.0", "Windows": ""}
SHAPES = {"glibc": r"2\.\d{1,2}", "musl": r"1\.\d", "macOS": r"\d{2}\.\d{1,2}"}
# The oldest that wheels are tagged for, and the older names of three of them.
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
        """Platform tags of wheels that fit; pip adds older macOS itself."""
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
            f"python {python!r}: expected a version as 3.11, which is the least", option="python", value=python
        )
    kind = PLATFORMS[platform][0]
    system = SYSTEM[kind] if system is None else system
    if kind == "Windows":
        if system:
            raise InputError("the version of Windows makes no difference: leave it out")
    elif not re.fullmatch(SHAPES[kind], system):
        raise InputError(
            f"system {system!r}: expected a version of {kind}, as {SYSTEM[kind]}", option="platform", value=platform
        )
    return Target(platform, python, system)


def floor(target: Target, wheels: Iterable[str]) -> tuple[str, str] | None:
    """What the wheels ask of the device's system, and which of them asks for so much; None where they ask nothing.

    ["numpy-2.4.6-cp311-cp311-manylinux_2_27_aarch64.manylinux_2_28_aarch64.whl"] -> ("glibc 2.27", "numpy")
    """
    kind = PLATFORMS[target.platform][0]
    needs = []
    for wheel in wheels:
        tags = wheel.removesuffix(".whl").rsplit("-", 1)[1]
        versions = re.findall(r"(?:manylinux|musllinux|macosx)_(\d+)_(\d+)_", tags)  # any of a wheel's tags is enough
        versions += [("2", str(minor)) for minor, name in OLD_NAMES.items() if name in tags]
        if versions:
            least = min((int(major), int(minor)) for major, minor in versions)
            needs.append((least, wheel.split("-")[0]))
    if not needs:
        return None
    (major, minor), wheel = max(needs, key=lambda need: need[0])
    return f"{kind} {major}.{minor}", wheel
