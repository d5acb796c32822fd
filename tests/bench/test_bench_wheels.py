"""bench/wheels: what a library says about itself, and what would be wrong with one."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
from builders.compilers import c_compiler, small_library

from bench.wheels.__main__ import complaints
from bench.wheels.nativefile import NativeFile, read_native

GOOD = NativeFile("x86_64", "linux", {"edge_abi", "edge_isa", "edge_isa_name"}, {"memcpy"}, {"libc.so.6"}, "glibc 2.14")


@pytest.mark.skipif(sys.platform != "linux", reason="makes an ELF file")
def test_a_library_of_this_machine(tmp_path: Path) -> None:
    """Its CPU, what it exports and needs, and the newest symbol of the C library that it asks for."""
    c_compiler()
    made = small_library(
        tmp_path,
        "#include <stdlib.h>\n#include <sys/auxv.h>\n"
        "static int hidden(int x) { return x + 1; }\n"
        "int edge_abi(void) { return hidden((int)getauxval(16)) + atoi(\"1\"); }\n",
    )  # fmt: skip
    found = read_native(made)
    assert found.system == "linux"
    assert "edge_abi" in found.exports
    assert "hidden" not in found.exports | found.undefined
    assert found.undefined >= {"getauxval"}
    assert any(name.startswith(("libc.so", "ld-musl", "libc.musl")) for name in found.needs)
    if found.oldest:
        assert tuple(map(int, found.oldest.removeprefix("glibc ").split("."))) >= (2, 16)


def test_no_library(tmp_path: Path) -> None:
    for content in (b"", b"\x7fELF\x01\x01", b"#!/bin/sh\n"):
        (tmp_path / "f").write_bytes(content)
        with pytest.raises(ValueError, match="no 64-bit library"):
            read_native(tmp_path / "f")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, ""),
        ({"machine": "aarch64"}, "it is for aarch64 on linux"),
        ({"needs": {"libc.so.6", "libm.so.6"}}, "it needs libm.so.6"),
        ({"undefined": {"memcpy", "expf"}}, "it asks the C library for expf"),
        ({"oldest": "glibc 2.34"}, "it needs glibc 2.34"),
        ({"exports": {"edge_abi"}}, "it lacks edge_abi, edge_isa or edge_isa_name"),
        ({"exports": GOOD.exports | {"helper"}}, "it exports helper"),
    ],
)
def test_complaints(change: dict[str, object], said: str) -> None:
    """Each thing that would keep a library from loading somewhere."""
    assert "; ".join(complaints(replace(GOOD, **change), "x86_64-linux-gnu.2.17")) == said


def test_macos_on_arm_wants_a_signature() -> None:
    seen = NativeFile("aarch64", "macos", GOOD.exports, set(), {"/usr/lib/libSystem.B.dylib"}, "macOS 13.0")
    assert complaints(seen, "aarch64-macos.13.0") == ["it is not signed, which macOS on ARM refuses"]
    assert complaints(replace(seen, signed=True), "aarch64-macos.13.0") == []
