"""How the native library is built: compilers that fail, hang or lie; wheels made with cc, with zig, with neither."""

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from types import ModuleType

import pytest
from builders.compilers import NATIVE, build_script, c_compiler, script
from builders.installs import PIP_CACHE, pip

from edge_embed_runtime.native.library import FACTS, Loader

CHECKOUT = Path(__file__).parents[2]
FILE = "edge_embed_native.so"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="compilers of these tests are shell scripts")


@pytest.fixture
def build(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The build script, with no compiler named in the environment."""
    for name in ("EDGE_EMBED_CC", "CC", "EDGE_EMBED_NATIVE", "EDGE_EMBED_TARGET", "EDGE_EMBED_ISA"):
        monkeypatch.delenv(name, raising=False)
    return build_script()


@pytest.fixture
def one_file(build: ModuleType, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The build script with the smallest library: dispatch.c alone."""
    monkeypatch.setattr(build, "UNITS", {"dispatch.c": ("baseline",)})
    return build


def test_every_unit_is_there(build: ModuleType) -> None:
    """Each file that the table names, and each instruction set has its flags somewhere."""
    assert [file for file in build.UNITS if not (NATIVE / file).is_file()] == []
    named = {isa for isas in build.UNITS.values() for isa in isas}
    assert named - {"baseline"} <= {isa for flags in build.ISA_FLAGS.values() for isa in flags}
    sources = {path.name for path in NATIVE.glob("*.c")}
    assert sources == set(build.UNITS)


@pytest.mark.parametrize(
    ("triple", "machine", "system", "tag"),
    [
        ("x86_64-linux-gnu.2.17", "x86_64", "linux", "manylinux_2_17_x86_64"),
        ("aarch64-linux-gnu.2.17", "aarch64", "linux", "manylinux_2_17_aarch64"),
        ("aarch64-linux-musl", "aarch64", "linux", "musllinux_1_2_aarch64"),
        ("aarch64-macos.13.0", "aarch64", "macos", "macosx_13_0_arm64"),
        ("x86_64-windows-gnu", "x86_64", "windows", "win_amd64"),
        ("aarch64-windows-gnu", "aarch64", "windows", "win_arm64"),
        ("arm64-apple-darwin23.1.0", "aarch64", "macos", None),
        ("x86_64-pc-linux-gnu", "x86_64", "linux", None),
        ("i686-linux-gnu", "x86", "linux", None),
        ("armv7l-unknown-linux-gnueabihf", "arm", "linux", None),
        ("powerpc64le-linux-gnu", "ppc64le", "linux", None),
    ],
)
def test_targets(build: ModuleType, triple: str, machine: str, system: str, tag: str | None) -> None:
    """What compilers call a machine, and the wheel's name for it."""
    target = build.Target.of(triple)
    assert (target.machine, target.system) == (machine, system)
    if tag:
        assert build.wheel_platform(triple) == tag


def test_a_wheel_names_the_oldest_system(build: ModuleType) -> None:
    with pytest.raises(build.BuildError, match="must name the oldest version"):
        build.wheel_platform("x86_64-linux-gnu")


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("exit 3", "failed with status 3: it says nothing"),
        (
            "echo 'note: hello' >&2; echo 'fatal error: no disk' >&2; exit 1",
            "failed with status 1: fatal error: no disk",
        ),
        ("kill -9 $$", "failed with status -9"),
        ("exec sleep 100", "did not end in 0.2 s"),
        ("echo x86_64-linux-gnu", "made no file"),
    ],
)
def test_a_compiler_that_fails(
    one_file: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, said: str
) -> None:
    """One clear reason; the library that was there stays, and nothing else is left behind."""
    build = one_file
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / FILE).write_bytes(b"older")
    monkeypatch.setattr(build, "ASK_SECONDS", 0.2)
    monkeypatch.chdir(tmp_path)
    compiler = build.Compiler((script(tmp_path / "cc", program),))
    with pytest.raises(build.BuildError, match=re.escape(said)) as error:
        build.build(tmp_path / "out", compiler)
    assert "\n" not in str(error.value)
    assert [path.name for path in (tmp_path / "out").iterdir()] == [FILE]
    assert (tmp_path / "out" / FILE).read_bytes() == b"older"


def test_no_compiler(build: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The search path and the variables name none; a named one that is not there."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(build, "find_zig", lambda: None)
    with pytest.raises(build.BuildError, match="there is no C compiler"):
        build.find_compiler()
    monkeypatch.setenv("EDGE_EMBED_CC", "no-such-compiler -O2")
    with pytest.raises(build.BuildError, match="the C compiler no-such-compiler -O2 cannot be run: No such file"):
        build.build(tmp_path, build.find_compiler())


def test_which_compiler(build: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """EDGE_EMBED_CC before CC, both with arguments; `ziglang` is the package; zig for other machines."""
    monkeypatch.setattr(build, "find_zig", lambda: ("/z/zig", "cc"))
    monkeypatch.setenv("CC", "gcc -m64")
    assert build.find_compiler().command == ("gcc", "-m64")
    monkeypatch.setenv("EDGE_EMBED_CC", "ziglang")
    assert build.find_compiler() == build.Compiler(("/z/zig", "cc"))
    monkeypatch.setattr(build, "find_zig", lambda: None)
    with pytest.raises(build.BuildError, match="the package ziglang is not installed"):
        build.find_compiler()
    monkeypatch.setattr(build, "find_zig", lambda: ("/z/zig", "cc"))
    monkeypatch.delenv("EDGE_EMBED_CC")
    monkeypatch.delenv("CC")
    assert build.find_compiler("aarch64-macos.13.0").all == ("/z/zig", "cc", "-target", "aarch64-macos.13.0")
    assert build.find_compiler("aarch64-macos.13.0").is_zig


def test_a_compiler_whose_path_has_a_space(build: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Named alone it needs no quotes; with arguments it has some, on Windows too."""
    (tmp_path / "my tools").mkdir()
    path = script(tmp_path / "my tools" / "cc", "exit 0")
    assert build.words(path) == (path,)
    assert build.words(f'"{path}" -m64') == (path, "-m64")
    monkeypatch.setattr(build.os, "name", "nt")
    assert build.words(r'"C:\My Tools\clang.exe" -m64') == (r"C:\My Tools\clang.exe", "-m64")


def test_an_old_compiler(one_file: ModuleType, tmp_path: Path) -> None:
    """One that lacks the newest instruction sets builds the library without them."""
    build = one_file
    newest = "-mavx512*|-mavxvnni|*i8mm*"
    lacks = f'for given; do case "$given" in {newest}) echo "error: unknown $given" >&2; exit 1;; esac; done'
    old = script(tmp_path / "cc", f'{lacks}\nexec {c_compiler()} "$@"')
    build.build(tmp_path / "old", build.Compiler((old,)))
    build.build(tmp_path / "new", build.find_compiler())
    sets = {name: json.loads((tmp_path / name / FACTS).read_text())["instruction_sets"] for name in ("old", "new")}
    assert set(sets["new"]) > set(sets["old"])
    found = Loader(tmp_path / "old").native()
    assert found is not None
    assert found.isa_name in ("baseline", *sets["old"])


def test_a_compiler_for_another_cpu(one_file: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What this Python cannot load does not become part of a wheel; the reason does."""
    build = one_file
    other = script(
        tmp_path / "cc",
        f'{c_compiler()} "$@" || exit\n'
        'case "$*" in *-shared*) for a; do [ "$before" = -o ] && made=$a; before=$a; done\n'
        f"{sys.executable} -c \"import sys; f = open(sys.argv[1], 'r+b'); f.seek(18); f.write(b'+')\" \"$made\";; esac",
    )  # the header says SPARC v9
    monkeypatch.setenv("EDGE_EMBED_CC", other)
    assert build.build_or_say_why(tmp_path / "out") is None
    loader = Loader(tmp_path / "out")
    assert loader.native() is None
    assert "what the C compiler made cannot be loaded here" in loader.reason()
    assert [path.name for path in (tmp_path / "out").iterdir()] == [FACTS]


def test_a_compiler_that_writes_junk(one_file: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        "CC",
        script(tmp_path / "cc", 'echo x86_64-linux; cd "$(dirname "$0")"; for last; do :; done; echo junk >"$last"'),
    )
    assert one_file.build_or_say_why(tmp_path / "out") is None
    assert "what the C compiler made cannot be loaded here" in Loader(tmp_path / "out").reason()


def test_the_hook_says_why(one_file: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a library the reason takes its place; EDGE_EMBED_NATIVE=1 insists, =0 does not even try."""
    build = one_file
    monkeypatch.setenv("CC", script(tmp_path / "cc", "echo 'cc: error: no room' >&2; exit 1"))
    assert build.build_or_say_why(tmp_path) is None
    assert "failed with status 1: cc: error: no room" in Loader(tmp_path).reason()
    monkeypatch.setenv("EDGE_EMBED_NATIVE", "1")
    with pytest.raises(build.BuildError, match="no room"):
        build.build_or_say_why(tmp_path)
    monkeypatch.setenv("EDGE_EMBED_NATIVE", "0")
    assert build.build_or_say_why(tmp_path) is None
    monkeypatch.delenv("EDGE_EMBED_NATIVE")
    assert "the package was built with EDGE_EMBED_NATIVE=0" in Loader(tmp_path).reason()


@pytest.mark.parametrize(
    ("flags", "file", "said"),
    [("-ffast-math", "encoder_unit.c", "may change the order of sums"), ("-mavx", "dispatch.c", "runs on every CPU")],
)
def test_a_compiler_command_with_flags_that_change_results(
    build: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: str, file: str, said: str
) -> None:
    """Sums in another order have other bits; newer instructions end the process on an older CPU. Both are refused."""
    compiler = build.Compiler((c_compiler(), flags))
    if flags == "-mavx" and compiler.target().machine != "x86_64":
        pytest.skip("AVX is x86's")
    monkeypatch.setattr(build, "UNITS", {file: ("baseline",)})
    with pytest.raises(build.BuildError, match=said):
        build.build(tmp_path / "out", compiler)


def test_a_library_that_hangs_when_it_is_loaded(
    build: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The build waits for it no longer than for a compiler."""
    monkeypatch.setattr(build, "ASK_SECONDS", 0.2)
    monkeypatch.setattr(sys, "executable", script(tmp_path / "python", "exec sleep 100"))
    with pytest.raises(build.BuildError, match=r"was not loaded here in 0\.2 s"):
        build.check_here(tmp_path / FILE)


def test_a_checkout_that_cannot_be_written_to(
    one_file: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An editable install of it goes on without a library; EDGE_EMBED_NATIVE=1 says why."""
    (tmp_path / "file").write_text("no folder")
    assert one_file.build_or_say_why(tmp_path / "file" / "native") is None
    monkeypatch.setenv("EDGE_EMBED_NATIVE", "1")
    with pytest.raises(one_file.BuildError, match="Not a directory"):
        one_file.build_or_say_why(tmp_path / "file" / "native")


def test_gcc_on_windows(one_file: ModuleType, tmp_path: Path) -> None:
    """It spills AVX's registers where they are not aligned: a library of it would crash."""
    gcc = script(tmp_path / "gcc", "echo x86_64-w64-mingw32")
    with pytest.raises(one_file.BuildError, match="is no clang: on Windows gcc does not align"):
        one_file.build(tmp_path / "out", one_file.Compiler((gcc,)))


def test_the_same_bytes(one_file: ModuleType, tmp_path: Path) -> None:
    """Two builds, also of sources in another folder, make the same file."""
    c_compiler()
    shutil.copytree(NATIVE, tmp_path / "elsewhere")
    again = build_script(tmp_path / "elsewhere")
    again.UNITS = one_file.UNITS
    first = one_file.build(tmp_path / "a", one_file.find_compiler()).read_bytes()
    assert again.build(tmp_path / "b", again.find_compiler()).read_bytes() == first
    assert (tmp_path / "a" / FACTS).read_bytes() == (tmp_path / "b" / FACTS).read_bytes()


# What came after SSE2, as far as compilers use it on their own: SSE3, SSSE3, SSE4, and AVX with its v. Not tzcnt, which
# gcc writes where an old CPU may do the older bsf in its place.
NEWER = (
    r"\t(v[a-z]|p(abs|shufb|maddubs|mulhrs|alignr|mulld|blend|insr[bdq]|extr[bdq]|cmpeqq|cmpgtq|m[ai][nx](sb|uw|sd|ud)"
    r"|mov[sz]x|test)|h?addsub|movddup|movs[hl]dup|lddqu|round[sp]|blendv?p|dpp[sd]|popcnt|crc32|lzcnt|andn\b)"
)


@pytest.mark.slow
def test_old_cpus(build: ModuleType, tmp_path: Path) -> None:
    """What runs on every x86-64 has no instruction that came after SSE2: an old CPU never meets one."""
    compiler = build.find_compiler()
    target = compiler.target()
    objdump = shutil.which("objdump")
    if target.machine != "x86_64" or not objdump:
        pytest.skip("disassembles x86-64 with objdump")
    library = build.Library(compiler, target, build.known_isas(compiler, target, tmp_path), (), tmp_path)
    for file, isas in build.UNITS.items():
        for isa in ("baseline", "avx2"):
            if isa not in isas:
                continue
            made = library.compile(file, isa)
            code = subprocess.check_output([objdump, "-d", "--no-show-raw-insn", str(made)], text=True)
            assert (re.search(NEWER, code) is not None) == (isa == "avx2"), (file, isa, re.search(NEWER, code))


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A search path with Python and no compiler."""
    folder = tmp_path_factory.mktemp("bin")
    for name in ("sh", "env", "uname"):
        (folder / name).symlink_to(shutil.which(name) or name)
    return folder


WAYS = {
    "cc": {},
    "ziglang": {"EDGE_EMBED_CC": "ziglang", "EDGE_EMBED_NATIVE": "1"},
    "neither": {},
}


@pytest.mark.parametrize("way", list(WAYS))
def test_wheels(way: str, shell: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`pip wheel` with the system's compiler, with ziglang and without any: each wheel is installed, encodes and
    searches, and says which library it has."""
    if "EDGE_EMBED_TEST_INSTALL" not in os.environ:
        pytest.skip("downloads a compiler of 90 MB: set EDGE_EMBED_TEST_INSTALL=1")
    variables = {name: value for name, value in os.environ.items() if name not in ("CC", "EDGE_EMBED_CC", "PYTHONPATH")}
    variables |= {**WAYS[way], **PIP_CACHE}
    if way == "cc":
        c_compiler()
    else:
        variables["PATH"] = str(shell)
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--wheel-dir", str(tmp_path), str(CHECKOUT)]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    machine = os.uname().machine
    assert wheel.name.endswith("py3-none-any.whl" if way == "neither" else f"py3-none-linux_{machine}.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert (f"edge_embed_runtime/native/{FILE}" in names) == (way != "neither")
    site = tmp_path / "site"
    pip(sys.executable, "install", "--no-index", "--no-deps", "--no-compile", "--target", str(site), str(wheel))
    program = (
        "import edge_embed; from edge_embed_runtime.native.library import native, reason; "
        "print(edge_embed.__file__); print(native().isa_name if native() else reason())"
    )
    there = {**variables, "PYTHONPATH": str(site)}
    said = subprocess.check_output([sys.executable, "-c", program], env=there, cwd=tmp_path, text=True).splitlines()
    assert Path(said[0]).is_relative_to(site)
    if way == "neither":
        assert said[1].startswith("it was not built when this package was installed: there is no C compiler")
    else:
        assert re.fullmatch("[a-z0-9]+", said[1])
    demo = [sys.executable, "-m", "edge_embed", "demo", "--json"]
    found = json.loads(subprocess.check_output(demo, env=there, cwd=tmp_path, text=True))
    assert found["documents"] == 154


def test_the_sdist_has_the_sources(tmp_path: Path) -> None:
    """All that a build needs, and no library of the machine that it was made on."""
    if "EDGE_EMBED_TEST_INSTALL" not in os.environ:
        pytest.skip("downloads hatchling: set EDGE_EMBED_TEST_INSTALL=1")
    pip(sys.executable, "install", "--target", str(tmp_path / "hatchling"), "hatchling")
    builder = {**os.environ, "PYTHONPATH": str(tmp_path / "hatchling")}
    command = [sys.executable, "-m", "hatchling", "build", "--target", "sdist", "--directory", str(tmp_path)]
    subprocess.run(command, cwd=CHECKOUT, env=builder, check=True, capture_output=True)
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as packed:
        names = {name.split("/", maxsplit=1)[1] for name in packed.getnames()}
    sources = {f"runtime/native/{path.name}" for path in NATIVE.iterdir() if path.is_file()}
    assert names >= {"hatch_build.py", "pyproject.toml", *sources}
    assert [name for name in names if name.endswith((".so", ".dylib", ".dll", "edge_embed_native.json"))] == []
