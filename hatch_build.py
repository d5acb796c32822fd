"""Build hook: compiles the native library into the wheel, or makes a wheel without it and says why. See docs/native.md.

EDGE_EMBED_NATIVE=1 makes a failure an error, EDGE_EMBED_NATIVE=0 compiles nothing. EDGE_EMBED_CC=ziglang takes zig from
the package index for this build alone. EDGE_EMBED_TARGET=aarch64-linux-gnu.2.17 compiles for another machine.
"""

import importlib.util
import os
import shutil
import sys
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

NATIVE = Path("runtime/native/build.py")
FOLDER = "edge_embed_runtime/native"


def native_build(root: Path) -> ModuleType:
    """runtime/native/build.py, which is a script and no part of a package."""
    spec = importlib.util.spec_from_file_location("edge_embed_native_build", root / NATIVE)
    if spec is None or spec.loader is None:
        raise ImportError(f"{root / NATIVE} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def platform_tag(build: ModuleType, target: str) -> str:
    """The part of the wheel's name that says where it runs."""
    if target:
        return str(build.wheel_platform(target))
    from packaging.tags import platform_tags

    tags = list(platform_tags())
    if sys.platform == "darwin":  # compiled for this kind of CPU alone
        return tags[0].replace("universal2", os.uname().machine)
    # not manylinux: nobody looked which versions of libc it runs with
    return next((tag for tag in tags if tag.startswith("linux_")), tags[0])


class NativeLibrary(BuildHookInterface):  # type: ignore[type-arg]
    """Adds the library, or the reason why there is none, to a wheel."""

    made: Path | None = None

    def dependencies(self) -> list[str]:
        """What pip installs for the build alone."""
        return ["ziglang>=0.13"] if os.environ.get("EDGE_EMBED_CC", "").strip() == "ziglang" else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        root = Path(self.root)
        build = native_build(root)
        if version == "editable":
            folder = root / "runtime" / FOLDER
        else:
            folder = self.made = Path(tempfile.mkdtemp(prefix="edge_embed_native"))
        target = os.environ.get("EDGE_EMBED_TARGET", "").strip()
        try:
            library = build.build_or_say_why(folder, target)
        except build.BuildError as error:
            self._remove()
            self.app.abort(f"no native library: {error}")
        if version == "editable":
            self.app.display_info(f"native library: {library}") if library else None
            return
        for path in folder.iterdir():
            build_data["force_include"][str(path)] = f"{FOLDER}/{path.name}"
        if library:
            build_data["pure_python"] = False
            build_data["tag"] = f"py3-none-{platform_tag(build, target)}"
        else:
            self.app.display_warning("no native library: `edge-embed doctor` says why, docs/native.md how to get it")

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:  # noqa: ARG002
        self._remove()

    def _remove(self) -> None:
        if self.made:
            shutil.rmtree(self.made, ignore_errors=True)
