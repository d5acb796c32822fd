"""bench/encode/mask.py: processes whose CPU looks as if it had AVX2 and nothing newer."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bench.encode import mask, runtimes
from bench.report import head
from edge_embed.errors import InputError
from edge_embed_runtime.system.cpu import cpu_flags

COMPILER = shutil.which("cc")
masks = pytest.mark.skipif(
    sys.platform != "linux" or COMPILER is None or shutil.which("objdump") is None or "avx2" not in cpu_flags(),
    reason="needs Linux on x86-64 with AVX2, a C compiler and objdump",
)

SOURCE = r"""
#include <stdio.h>
unsigned number(unsigned x) { return x + 0xa20fa20fu; }  /* the bytes of cpuid, twice, in a number */
unsigned features(unsigned leaf, unsigned subleaf, int which) {
    unsigned a = leaf, b, c = subleaf, d;
    __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
    return which == 0 ? a : which == 1 ? b : which == 2 ? c : d;
}
"""
ASK = """
import ctypes, json, sys
library = ctypes.CDLL(sys.argv[1])
library.number.restype = library.features.restype = ctypes.c_uint
ask = library.features
print(json.dumps([library.number(5), ask(7, 0, 1), ask(7, 0, 2), ask(1, 0, 2), ask(0, 0, 1)]))
"""


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """A library that asks the CPU, on sys.path."""
    source, made = tmp_path / "asks.c", tmp_path / "packages" / "asks.so"
    made.parent.mkdir()
    source.write_text(SOURCE)
    subprocess.run([str(COMPILER), "-O2", "-fPIC", "-shared", source, "-o", made], check=True)
    return made


@masks
def test_instructions_are_told_from_numbers(library: Path) -> None:
    """Only what is run as cpuid counts."""
    (place,) = mask.cpuid_places(library)
    assert library.read_bytes()[place : place + 2] == mask.CPUID
    assert library.read_bytes().count(mask.CPUID) >= 2
    (library.parent / "text.so").write_text("GROUP ( libc.so.6 )")
    assert mask.cpuid_places(library.parent / "text.so") == []


@masks
def test_a_masked_process(library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It sees AVX2 and none of AVX-512; everything else as it is; afterwards nothing is masked."""

    def ask() -> list[int]:
        done = subprocess.run([sys.executable, "-c", ASK, library], capture_output=True, check=True)
        found: list[int] = json.loads(done.stdout)
        return found

    monkeypatch.setattr(sys, "path", [str(library.parent)])
    plain = ask()
    with mask.applied(mask.AVX2, tmp_path):
        assert mask.masked()
        hidden = ask()
        assert runtimes.quantization_target() == "avx2"
        assert not any(flag.startswith("avx512") for flag in mask.visible_flags())
    assert not mask.masked()
    assert "LD_AUDIT" not in os.environ
    assert ask() == plain
    assert plain[0] == 5 + 0xA20FA20F
    avx2, avx512 = 1 << 5, 1 << 16 | 1 << 17 | 1 << 30 | 1 << 31
    assert hidden[1] & avx2
    assert hidden[1] & avx512 == 0
    assert plain[1] & ~avx512 & ~hidden[1] & 0xFFFF == 0
    assert hidden[2] & (1 << 11 | 1 << 14) == 0
    assert [hidden[0], hidden[4]] == [plain[0], plain[4]]


@masks
@pytest.mark.slow
def test_onnxruntime_saturates_under_the_mask(tmp_path: Path) -> None:
    """Its products are those of AVX2 without VNNI, whatever this CPU has."""
    program = "from edge_embed_runtime.model.session import products_saturate; print(products_saturate())"
    with mask.applied(mask.AVX2, tmp_path):
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", "")


@masks
def test_no_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line that says what to install, and nothing is changed."""
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(InputError, match="needs a C compiler and objdump"), mask.applied(mask.AVX2, tmp_path):
        pass
    assert "LD_AUDIT" not in os.environ


def test_no_mask() -> None:
    """The CPU as it is."""
    before = dict(os.environ)
    with mask.applied(mask.NATIVE, Path("nowhere")):
        assert dict(os.environ) == before
    assert mask.visible_flags() == cpu_flags()


def test_tables_say_so() -> None:
    """AVX2 (masked on the CPU's name)."""
    result = {
        "cpu": "avx2",
        "date": "2026-01-02",
        "machine": {"cpu": "A CPU", "flags": ["avx2"], "cores": 1, "architecture": "x86_64"},
        "model": {"bundle": "b", "fingerprint": "f"},
    }
    assert list(head(result))[1] == "AVX2 (masked on A CPU), cores: 1 (avx2)"
