"""The build script of the native library, and what tests make with the system's C compiler."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

NATIVE = Path(__file__).parents[2] / "runtime" / "native"


def build_script(source: Path = NATIVE) -> ModuleType:
    """runtime/native/build.py, which belongs to no package."""
    spec = importlib.util.spec_from_file_location("edge_embed_native_build", source / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def c_compiler() -> str:
    """A C compiler of this machine; the test is skipped where there is none."""
    found = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if not found:
        pytest.skip("there is no C compiler: cc, gcc or clang")
    return found


def small_library(folder: Path, source: str, **facts: Any) -> Path:
    """A library of this C source, with facts that fit this package and this machine, except for those given."""
    from edge_embed_runtime.native.library import ABI, FACTS, machine, system

    folder.mkdir(parents=True, exist_ok=True)
    made = folder / "edge_embed_native.so"
    (folder / "small.c").write_text(source)
    subprocess.run([c_compiler(), "-shared", "-fPIC", "-o", str(made), str(folder / "small.c")], check=True)
    told = {"abi": ABI, "machine": machine(), "system": system(), "file": made.name, "bytes": made.stat().st_size}
    (folder / FACTS).write_text(json.dumps({**told, **facts}))
    return made


def script(path: Path, program: str) -> str:
    """A program of the shell: script(tmp_path / "cc", "exit 3") -> its path."""
    if os.name == "nt":
        pytest.skip("compilers of this test are shell scripts")
    path.write_text(f"#!/bin/sh\n{program}\n")
    path.chmod(0o755)
    return str(path)
