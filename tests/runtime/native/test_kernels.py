"""Each instruction set's vectors and products against plain C, and one sha256 of vectors for all of them."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from builders.compilers import NATIVE, build_script, c_compiler
from builders.nativebundles import native_bundle

from edge_embed_runtime.native.library import native

KERNELS = Path(__file__).with_name("kernels.c")
HERE = native()
# Pointers of the kernels may have any address, so what the sanitizer says of them is left to the fuzzing.
FLAGS = ("-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", "-ffp-contract=off", "-fno-strict-aliasing")
# Multiply-adds of a run: some seconds for 10^8; the plain test takes less.
TRIPLES = 1_000_000


def runnable() -> list[str]:
    """The instruction sets that this CPU has and this library has units of, the best one last."""
    if HERE is None:
        return []
    known = [isa for isa in ("ssse3", "avx2", "avxvnni", "avx512vnni", "neon", "dotprod", "i8mm")
             if isa in HERE.facts["instruction_sets"]]  # fmt: skip
    return ["baseline", *(isa for isa in known if _isa(isa) == isa)]


def _isa(limit: str) -> str:
    """The instruction set that the library uses where it may use this one at most."""
    assert HERE is not None
    number = HERE.functions.edge_isa(limit.encode())
    return str(HERE.functions.edge_isa_name(number).decode())


def program(folder: Path, isa: str, *flags: str, isa_flags: tuple[str, ...] | None = None) -> Path:
    """The checking program for an instruction set, with flags of the compiler for it (default: the build's)."""
    build, made = build_script(), folder / "kernels"
    machine = build.find_compiler().target().machine
    if isa_flags is None:
        isa_flags = () if isa == "baseline" else build.ISA_FLAGS[machine][isa]
    given = (*FLAGS, *build.BASE_FLAGS.get(machine, ()), *isa_flags, f"-DEDGE_ISA={isa}", f"-DEDGE_ISA_{isa.upper()}=1")
    files = (f"-I{NATIVE}", str(KERNELS), "-o", str(made), "-lm")
    subprocess.run([c_compiler(), *given, *flags, *files], check=True)
    return made


def output(made: Path) -> tuple[int, str]:
    """Of the checking program: 0 and "", or what is wrong."""
    done = subprocess.run([made, str(TRIPLES)], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout


@pytest.mark.parametrize("isa", runnable())
def test_an_instruction_set_computes_what_plain_c_does(tmp_path: Path, isa: str) -> None:
    """Products at their limits, all numbers of rows, codes, transposing, and the multiply-add of a million triples."""
    assert output(program(tmp_path, isa)) == (0, "")


def test_products_of_avx_vnni(tmp_path: Path) -> None:
    """In the form that AVX512 has of the same instruction: CPUs with the one often lack the other."""
    if "avx512vnni" not in runnable():
        pytest.skip("this CPU has no AVX512-VNNI")
    flags = ("-mavx2", "-mfma", "-mavx512vl", "-mavx512vnni", "-DEDGE_EVEX_FORM")
    assert output(program(tmp_path, "avxvnni", isa_flags=flags)) == (0, "")


@pytest.mark.skipif(HERE is None or HERE.facts["machine"] != "x86_64", reason="other CPUs have a multiply-add")
def test_the_check_of_multiply_add_finds_what_doubles_alone_get_wrong(tmp_path: Path) -> None:
    """Without the move to odd, a result is rounded twice: the program says so."""
    for file in NATIVE.glob("*.h"):
        (tmp_path / file.name).write_text(file.read_text())
    broken = (tmp_path / "isa_sse.h").read_text().replace("s0 = round_pair_to_odd(p0, c0, s0);", "")
    (tmp_path / "isa_sse.h").write_text(broken)
    status, said = output(program(tmp_path, "baseline", f"-I{tmp_path}"))
    assert status == 1
    assert "vfma(" in said


SHA = """
import hashlib, sys
import numpy as np
from edge_embed_runtime.embed.embedder import Embedder
texts = [f"w{i} " * (1 + i % 23) for i in range(60)]
embedder = Embedder(sys.argv[1], threads=int(sys.argv[2]))
size = int(sys.argv[3])
vectors = np.vstack([embedder.encode(texts[i : i + size]) for i in range(0, 60, size)])
assert embedder.engine == "native", embedder.engine_reason
print(hashlib.sha256(vectors.tobytes()).hexdigest())
"""


def test_vectors_have_the_same_bits_on_all_instruction_sets(tmp_path: Path) -> None:
    """A bundle's vectors of 60 texts: one sha256, whatever the instruction set, the batch and the threads."""
    isas = runnable()
    if not isas:
        pytest.skip("there is no native library")
    bundle = native_bundle(tmp_path, hidden_size=32)
    found = {}
    for place, isa in enumerate(isas):
        words = [str(bundle), str(1 + place % 2), str((60, 7, 1)[place % 3])]
        environment = {**os.environ, "EDGE_EMBED_ISA": isa}
        done = subprocess.run(
            [sys.executable, "-c", SHA, *words], capture_output=True, text=True, check=False, env=environment
        )
        assert done.returncode == 0, done.stderr
        found[isa] = done.stdout.strip()
    assert len(set(found.values())) == 1, found
    assert hashlib.sha256(b"").hexdigest() not in found.values()
