"""The loader: which libraries it takes, and what it says of the others; none of them may end the process."""

import json
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from builders.compilers import build_script, c_compiler, small_library

from edge_embed_runtime.errors import InputError
from edge_embed_runtime.native import library
from edge_embed_runtime.native.library import ABI, FACTS, Loader

# Enough of a library to be taken.
FITS = f"""
#include <string.h>
int edge_abi(void) {{ return {ABI}; }}
int edge_isa(const char *limit) {{ return *limit && strcmp(limit, "baseline") ? -1 : 0; }}
const char *edge_isa_name(int isa) {{ return isa == 0 ? "baseline" : ""; }}
"""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="makes ELF files")


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(library.SWITCH, raising=False)
    monkeypatch.delenv(library.LIMIT, raising=False)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the real library."""
    c_compiler()
    build = build_script()
    folder = tmp_path_factory.mktemp("built")
    build.build(folder, build.find_compiler(), build.WARNINGS)
    return folder


def refused(folder: Path) -> str:
    """Why there is no library in this folder."""
    loader = Loader(folder)
    assert loader.native() is None
    return loader.reason()


def test_the_real_library(built: Path) -> None:
    """It says its number, the best instruction set of this CPU, and what the build wrote down."""
    loader = Loader(built)
    found = loader.native()
    assert found is not None
    assert loader.reason() == ""
    assert found.functions.edge_abi() == ABI == build_script().abi()
    assert found.isa_name in ("baseline", *found.facts["instruction_sets"])
    assert loader.native() is found


def test_a_lower_instruction_set(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """EDGE_EMBED_ISA is the highest one; one that this kind of CPU lacks is an error, not another one."""
    monkeypatch.setenv(library.LIMIT, "baseline")
    found = Loader(built).native()
    assert found is not None
    assert (found.isa & 0xFF, found.isa_name) == (0, "baseline")
    for wrong in ("avx9", "AVX2", "baseline ", "sparc", "é", "x" * 10_000):
        monkeypatch.setenv(library.LIMIT, wrong)
        with pytest.raises(InputError, match="is no instruction set of") as error:
            Loader(built).native()
        assert len(str(error.value)) < 250


def test_sets_in_order(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit never gives more than it names, and each set of this CPU can be chosen."""
    best = Loader(built).native()
    assert best is not None
    numbers = []
    for name in ("baseline", *(isa for isa in best.facts["instruction_sets"] if isa != "vpopcnt")):
        monkeypatch.setenv(library.LIMIT, name)
        found = Loader(built).native()
        assert found is not None
        numbers.append(found.isa & 0xFF)
    assert numbers == sorted(numbers)
    assert numbers[-1] == best.isa & 0xFF


def test_switched_off(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """0 switches it off, 1 and nothing leave it on, anything else is an error."""
    monkeypatch.setenv(library.SWITCH, "0")
    assert refused(built) == "EDGE_EMBED_NATIVE=0 switches it off"
    for value in ("", "1"):
        monkeypatch.setenv(library.SWITCH, value)
        assert Loader(built).native() is not None
    monkeypatch.setenv(library.SWITCH, "no")
    with pytest.raises(InputError, match="EDGE_EMBED_NATIVE is 'no', must be 0 or 1"):
        Loader(built).native()


def test_not_built(tmp_path: Path) -> None:
    """Nothing there, or the reason that the build left."""
    assert "it was not built; docs/native.md" in refused(tmp_path)
    (tmp_path / FACTS).write_text(json.dumps({"reason": "the C compiler cc failed with status 1: no stdint.h"}))
    assert refused(tmp_path) == (
        "it was not built when this package was installed: the C compiler cc failed with status 1: no stdint.h; "
        "docs/native.md says how to get it"
    )


def test_another_version(tmp_path: Path) -> None:
    """By what the build wrote down, and by the library's own number, which is asked before anything else."""
    small_library(tmp_path / "a", FITS, abi=ABI + 1)
    assert refused(tmp_path / "a") == (
        f"the library is of another version: its ABI number is {ABI + 1}, this package's {ABI}"
    )
    small_library(tmp_path / "b", f"int edge_abi(void) {{ return {ABI + 2}; }}")
    assert f"another version: its ABI number is {ABI + 2}" in refused(tmp_path / "b")
    small_library(tmp_path / "c", "int edge_something(void) { return 1; }")
    assert "cannot be loaded" in refused(tmp_path / "c")


def test_another_cpu(tmp_path: Path) -> None:
    """By what the build wrote down; and where that is wrong, the system's loader says it."""
    small_library(tmp_path / "a", FITS, machine="sparc64")
    assert f"the library is for sparc64 on linux, this is {library.machine()} on linux" in refused(tmp_path / "a")
    small_library(tmp_path / "b", FITS, system="windows")
    assert "on windows, this is" in refused(tmp_path / "b")
    made = small_library(tmp_path / "c", FITS)
    header = bytearray(made.read_bytes())
    header[18:20] = (43).to_bytes(2, "little")  # e_machine: SPARC v9
    made.write_bytes(header)
    assert "cannot be loaded" in refused(tmp_path / "c")


@pytest.mark.parametrize("left", [0, 1, 100, -1])
def test_cut_off(built: Path, tmp_path: Path, left: int) -> None:
    """A library that is shorter than it was built is not loaded: the system's loader could die of it."""
    for path in built.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    facts = json.loads((tmp_path / FACTS).read_text())
    whole = (tmp_path / facts["file"]).read_bytes()
    (tmp_path / facts["file"]).write_bytes(whole[:left])
    assert "is damaged" in refused(tmp_path)
    (tmp_path / facts["file"]).unlink()
    assert "cannot be read" in refused(tmp_path)


@pytest.mark.parametrize(
    "facts",
    ["", "{", "[]", "null", "3", '{"abi": ', "\0" * 9, "[" * 100_000, '{"reason": 1}' + " " * 20_000,
     json.dumps({"abi": ABI, "machine": library.machine(), "system": library.system(), "file": "../x.so", "bytes": 1}),
     json.dumps({"abi": ABI, "machine": library.machine(), "system": library.system(), "file": 3, "bytes": 1})],
)  # fmt: skip
def test_damaged_facts(facts: str, tmp_path: Path) -> None:
    (tmp_path / FACTS).write_text(facts)
    assert "is damaged" in refused(tmp_path)


def test_a_reason_is_one_short_line(tmp_path: Path) -> None:
    """Whatever the file holds."""
    (tmp_path / FACTS).write_text(json.dumps({"reason": "two\nlines\x1b[31m" + "x" * 5000}))
    said = refused(tmp_path)
    assert "\n" not in said
    assert "\x1b" not in said
    assert len(said) < 600


def test_many_threads_load_once(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All get the same library."""
    loads = []
    load, start = library.load, threading.Barrier(16)
    monkeypatch.setattr(library, "load", lambda folder: (loads.append(folder), load(folder))[1])
    loader = Loader(built)

    def ask(_: int) -> object:
        start.wait(60)
        return loader.native()

    with ThreadPoolExecutor(16) as pool:
        found = set(map(id, pool.map(ask, range(16))))
    assert (len(found), len(loads)) == (1, 1)


@pytest.fixture
def absent(tmp_path: Path) -> dict[str, str]:
    """Environment variables of a Python without ctypes, as some small systems have."""
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.modules['ctypes'] = None")
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *filter(None, sys.path)])}


def test_python_without_ctypes(built: Path, absent: dict[str, str]) -> None:
    """No library, and a reason."""
    program = (
        "import pathlib, sys; from edge_embed_runtime.native.library import Loader; "
        "print(Loader(pathlib.Path(sys.argv[1])).reason())"
    )
    said = subprocess.check_output([sys.executable, "-c", program, str(built)], env=absent, text=True)
    assert "cannot be loaded" in said
    assert "ctypes" in said


def test_the_loader_alone_imports_no_ctypes() -> None:
    """Only a process that uses the library pays for it."""
    program = "import sys, edge_embed_runtime.native.library; print('ctypes' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", program], text=True) == "False\n"
