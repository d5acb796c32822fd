"""build.py, platforms.py, requirements.py, ownwheel.py: `edge-embed wheelhouse`, with a pip of our own."""

import base64
import hashlib
import json
import re
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from packaging.markers import Marker

from edge_embed.cli.main import main
from edge_embed.errors import EdgeEmbedError, InputError, MissingExtraError, SourceError
from edge_embed.wheelhouse import build as wheelhouse
from edge_embed.wheelhouse.anywhere import REASON, runs_on, without_library
from edge_embed.wheelhouse.ownwheel import own_wheel, repack
from edge_embed.wheelhouse.platforms import PLATFORMS, floor, make_target
from edge_embed.wheelhouse.requirements import holds, listed_requirements, parse

ARM = make_target("linux_aarch64", "3.11", None)

# name: version, tag, what it requires
INDEX = {
    "click": ("8.5", "py3-none-any", ['colorama; platform_system == "Windows"']),
    "colorama": ("0.4", "py3-none-any", []),
    "numpy": ("2.4", "cp311-cp311-manylinux_2_27_aarch64.manylinux_2_28_aarch64", []),
    "onnxruntime": ("1.31", "cp311-cp311-manylinux_2_28_aarch64", ["numpy>=1.21.6", "protobuf"]),
    "protobuf": ("7.0", "py3-none-any", []),
    "tokenizers": ("0.23", "cp310-abi3-manylinux_2_17_aarch64.manylinux2014_aarch64", ["Hugging_Face.hub[fast]<3"]),
    "hugging-face-hub": ("2.0", "py3-none-any", ['xet; extra == "fast"', 'slow; extra == "other"']),
    "xet": ("1.0", "py3-none-any", []),
    "usearch": ("2.26", "py3-none-any", ["numpy"]),
}


def make_wheel(folder: Path, name: str, version: str, tag: str, requires: Sequence[str] = ()) -> Path:
    """A wheel with nothing in it but what it requires."""
    stem = f"{name.replace('-', '_')}-{version}"
    path = folder / f"{stem}-{tag}.whl"
    head = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{stem}.dist-info/METADATA", head + "".join(f"Requires-Dist: {line}\n" for line in requires))
    return path


class FakePip:
    """Serves INDEX, and remembers what it was asked for. Fails at the requirement `breaks`, with the words `said`."""

    def __init__(self, breaks: str = "", said: str = "the package index cannot be reached") -> None:
        self.said = said
        self.asked: list[str] = []
        self.calls: list[list[str]] = []
        self.breaks = breaks

    def __call__(self, arguments: Sequence[str]) -> None:
        self.calls.append(list(arguments))
        requirement = next(part for part in arguments if re.match(r"[a-z]", part) and part in arguments[-3:])
        name = parse(requirement).name
        if name == self.breaks:
            raise EdgeEmbedError(self.said)
        self.asked.append(requirement)
        version, tag, requires = INDEX[name]
        make_wheel(Path(arguments[-1]), name, version, tag, requires)


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A wheel of edge_embed that requires what the real one does."""
    requires = ["click>=8.1", "numpy>=2.1", "onnxruntime>=1.22", "tokenizers>=0.21", "usearch>=2.17"]
    (tmp_path / "own").mkdir()
    return make_wheel(tmp_path / "own", "edge-embed", "0.1.0", "py3-none-any", [*requires, 'onnx; extra == "export"'])


def names(folder: Path) -> list[str]:
    return sorted(path.name.split("-")[0] for path in folder.glob("*.whl"))


def test_all_that_is_required(own: Path, tmp_path: Path) -> None:
    """Requirements are followed with their extras and markers, for the device; each wheel is named with its hash."""
    pip = FakePip()
    done = wheelhouse.build(tmp_path / "house", ARM, wheel=own, pip=pip)
    assert names(tmp_path / "house") == [
        "click", "edge_embed", "hugging_face_hub", "numpy", "onnxruntime", "protobuf", "tokenizers", "usearch", "xet",
    ]  # fmt: skip
    assert "numpy>=1.21.6,>=2.1" in pip.asked  # what two packages ask of one, together
    lines = (tmp_path / "house" / "requirements.txt").read_text().splitlines()
    assert lines[1:3] == ["--no-index", "--find-links ."]
    wheels = [line.split() for line in lines[3:]]
    assert len(wheels) == len(done["wheels"]) == 9
    for requirement, recorded in wheels:
        name, version = requirement.split("==")
        (path,) = (tmp_path / "house").glob(f"{name.replace('-', '_')}-{version}-*.whl")
        assert recorded == f"--hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
    assert done["needs"] == "glibc 2.28 or later (onnxruntime)"
    assert done["bytes"] == sum(path.stat().st_size for path in (tmp_path / "house").glob("*.whl"))


def test_pip_is_told_the_device(own: Path, tmp_path: Path) -> None:
    """Every tag that fits, wheels only, and no requirement that pip would follow for this machine."""
    pip = FakePip()
    wheelhouse.build(tmp_path / "house", make_target("linux_x86_64", "3.13", "2.17"), lean=True, wheel=own, pip=pip)
    command = pip.calls[0]
    assert command[:3] == ["download", "--no-deps", "--only-binary=:all:"]
    tags = [command[i + 1] for i, part in enumerate(command) if part == "--platform"]
    assert tags[:3] == ["manylinux_2_17_x86_64", "manylinux2014_x86_64", "manylinux_2_16_x86_64"]
    assert tags[-1] == "manylinux1_x86_64"
    assert command[command.index("--python-version") + 1] == "3.13"


def test_lean(own: Path, tmp_path: Path) -> None:
    """Only what is imported on a device; what these declare is left out."""
    pip = FakePip()
    done = wheelhouse.build(tmp_path / "house", ARM, lean=True, wheel=own, pip=pip)
    assert names(tmp_path / "house") == ["click", "edge_embed", "numpy", "onnxruntime", "tokenizers"]
    assert done["lean"] is True
    assert sorted(pip.asked) == ["click>=8.1", "numpy>=2.1", "onnxruntime<1.29,>=1.22", "tokenizers>=0.21"]


def test_windows_gets_what_windows_needs(own: Path, tmp_path: Path) -> None:
    """Markers are evaluated for the device, which pip does not do."""
    wheelhouse.build(tmp_path / "house", make_target("windows_amd64", "3.12", None), wheel=own, pip=FakePip())
    assert "colorama" in names(tmp_path / "house")


@pytest.mark.parametrize(
    ("platform", "tags"),
    [
        ("musllinux_aarch64", ["musllinux_1_2_aarch64", "musllinux_1_1_aarch64", "musllinux_1_0_aarch64"]),
        ("windows_arm64", ["win_arm64"]),
        ("windows_amd64", ["win_amd64"]),
    ],
)
def test_static(platform: str, tags: list[str], own: Path, tmp_path: Path) -> None:
    """What static bundles need, on systems without onnxruntime as well."""
    pip, target = FakePip(breaks="onnxruntime"), make_target(platform, "3.14", None)
    done = wheelhouse.build(tmp_path / "house", target, static=True, wheel=own, pip=pip)
    assert names(tmp_path / "house") == ["click", "edge_embed", "numpy", "tokenizers"]
    assert sorted(pip.asked) == ["click>=8.1", "numpy>=2.1", "tokenizers>=0.21"]
    assert (done["static"], done["lean"]) == (True, False)
    command = pip.calls[0]
    assert [command[i + 1] for i, part in enumerate(command) if part == "--platform"] == tags
    with pytest.raises(InputError, match="give another folder"):
        wheelhouse.build(tmp_path / "house", target, lean=True, wheel=own, pip=pip)
    assert wheelhouse.build(tmp_path / "house", target, static=True, wheel=own, pip=pip)["wheels"] == done["wheels"]


def test_no_onnxruntime_for_a_device(own: Path, tmp_path: Path) -> None:
    """Its absence is told with what to do; that of another package, or of the network, is pip's own."""
    alpine = make_target("musllinux_x86_64", "3.12", None)
    none = "ERROR: No matching distribution found for"
    for name, said, expected in (
        ("onnxruntime", none, "no wheel of onnxruntime for musllinux_x86_64, Python 3.12, musl 1.2.*--static"),
        ("onnxruntime", "cannot be reached", "^cannot be reached$"),
        ("numpy", none, f"^{none}$"),
    ):
        with pytest.raises(EdgeEmbedError, match=expected):
            wheelhouse.build(tmp_path / "house", alpine, wheel=own, pip=FakePip(breaks=name, said=said))


def test_an_interrupted_run_goes_on(own: Path, tmp_path: Path) -> None:
    """What was downloaded is kept; what is damaged since is downloaded again; nothing is, when all is there."""
    folder = tmp_path / "house"
    with pytest.raises(EdgeEmbedError, match="cannot be reached"):
        wheelhouse.build(folder, ARM, wheel=own, pip=FakePip(breaks="tokenizers"))
    assert sorted(path.name for path in folder.iterdir() if path.is_dir()) == []
    assert not (folder / "requirements.txt").exists()
    pip = FakePip()
    wheelhouse.build(folder, ARM, wheel=own, pip=pip)
    assert "click>=8.1" not in pip.asked
    assert "tokenizers>=0.21" in pip.asked
    next(folder.glob("click-*.whl")).write_bytes(b"damaged")
    again, never = FakePip(), FakePip()
    wheelhouse.build(folder, ARM, wheel=own, pip=again)
    assert again.asked == ["click>=8.1"]
    wheelhouse.build(folder, ARM, wheel=own, pip=never)
    assert never.asked == []


def test_old_versions_go(own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder holds one wheel of a package."""
    folder = tmp_path / "house"
    wheelhouse.build(folder, ARM, wheel=own, pip=FakePip())
    next(folder.glob("click-*.whl")).unlink()
    next(folder.glob("protobuf-*.whl")).unlink()
    monkeypatch.setitem(INDEX, "click", ("9.0", "py3-none-any", []))
    monkeypatch.setitem(INDEX, "onnxruntime", ("1.32", "cp311-cp311-manylinux_2_28_aarch64", ["numpy>=1.21.6"]))
    next(folder.glob("onnxruntime-*.whl")).write_bytes(b"damaged")
    wheelhouse.build(folder, ARM, wheel=own, pip=FakePip())
    assert [path.name for path in folder.glob("click-*")] == ["click-9.0-py3-none-any.whl"]
    assert [path.name.split("-")[1] for path in folder.glob("onnxruntime-*")] == ["1.32"]
    assert "protobuf" not in (folder / "requirements.txt").read_text()


def test_other_folders_are_left_alone(own: Path, tmp_path: Path) -> None:
    """A folder with other files, a file, a wheelhouse of another device and a damaged one are refused unchanged."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("mine")
    with pytest.raises(SourceError, match="holds other files"):
        wheelhouse.build(tmp_path / "mine", ARM, wheel=own, pip=FakePip())
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]
    with pytest.raises(SourceError, match="is a file"):
        wheelhouse.build(own, ARM, wheel=own, pip=FakePip())
    wheelhouse.build(tmp_path / "house", ARM, lean=True, wheel=own, pip=FakePip())
    before = (tmp_path / "house" / "wheelhouse.json").read_bytes()
    with pytest.raises(InputError, match="give another folder"):
        wheelhouse.build(tmp_path / "house", ARM, wheel=own, pip=FakePip())
    assert (tmp_path / "house" / "wheelhouse.json").read_bytes() == before
    for damage in (b"{", b"[]", b'{"wheels": {"a": {"b": 1}}}', b"\xff"):
        (tmp_path / "house" / "wheelhouse.json").write_bytes(damage)
        with pytest.raises(SourceError, match="is damaged"):
            wheelhouse.build(tmp_path / "house", ARM, wheel=own, pip=FakePip())


def test_a_wheel_of_something_else(tmp_path: Path) -> None:
    """--wheel takes wheels of edge_embed."""
    other = make_wheel(tmp_path, "numpy", "2.4", "py3-none-any")
    damaged = tmp_path / "edge_embed-0.1.0-py3-none-any.whl"
    damaged.write_bytes(b"no zip")
    for path in (other, damaged):
        with pytest.raises(SourceError, match="not a wheel of edge_embed"):
            own_wheel(tmp_path, path, ARM, FakePip())


@pytest.mark.parametrize(
    ("platform", "system", "tag", "fits"),
    [
        ("linux_aarch64", "2.28", "manylinux_2_17_aarch64", True),
        ("linux_aarch64", "2.28", "manylinux_2_17_x86_64.manylinux_2_17_aarch64", True),
        ("linux_aarch64", "2.28", "manylinux_2_31_aarch64", False),
        ("linux_aarch64", "2.28", "manylinux_2_17_x86_64", False),
        ("linux_aarch64", "2.28", "linux_x86_64", False),
        ("musllinux_x86_64", "1.2", "musllinux_1_2_x86_64", True),
        ("musllinux_x86_64", "1.2", "manylinux_2_17_x86_64", False),
        ("macos_arm64", "14.0", "macosx_13_0_arm64", True),
        ("macos_arm64", "12.0", "macosx_13_0_arm64", False),
        ("macos_arm64", "14.0", "macosx_13_0_x86_64", False),
        ("windows_arm64", None, "win_arm64", True),
        ("windows_arm64", None, "win_amd64", False),
        ("windows_arm64", None, "any", True),
    ],
)
def test_whose_library(platform: str, system: str | None, tag: str, fits: bool, tmp_path: Path) -> None:
    """A wheel with a native library is for some devices; one that is given for others is refused."""
    target = make_target(platform, "3.11", system)
    wheel = make_wheel(tmp_path, "edge-embed", "0.1.0", f"py3-none-{tag}")
    assert runs_on(wheel, target) == fits
    (tmp_path / "to").mkdir()
    if fits:
        assert own_wheel(tmp_path / "to", wheel, target, FakePip()).name == wheel.name
    else:
        with pytest.raises(SourceError, match="cannot be installed on"):
            own_wheel(tmp_path / "to", wheel, target, FakePip())
    assert not runs_on(tmp_path / "edge_embed-what.whl", target)


def test_without_the_library(tmp_path: Path) -> None:
    """For other devices the library is left out: a reason is in its place, and the wheel is one for all."""
    wheel = make_wheel(tmp_path, "edge-embed", "0.1.0", "py3-none-linux_x86_64")
    with zipfile.ZipFile(wheel, "a") as archive:
        archive.writestr("edge_embed/__init__.py", "x = 1\n")
        archive.writestr("edge_embed_runtime/native/library.py", "")
        archive.writestr("edge_embed_runtime/native/edge_embed_native.so", b"\x7fELF")
        archive.writestr("edge_embed_runtime/native/edge_embed_native.json", '{"abi": 1}')
        archive.writestr("edge_embed-0.1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-linux_x86_64\n")
        archive.writestr("edge_embed-0.1.0.dist-info/RECORD", "")
    made = without_library(wheel)
    assert [path.name for path in tmp_path.iterdir()] == [made.name] == ["edge_embed-0.1.0-py3-none-any.whl"]
    with zipfile.ZipFile(made) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    assert not any(name.endswith(".so") for name in files)
    assert json.loads(files["edge_embed_runtime/native/edge_embed_native.json"]) == {"reason": REASON}
    assert files["edge_embed-0.1.0.dist-info/WHEEL"].splitlines() == [
        b"Wheel-Version: 1.0", b"Root-Is-Purelib: true", b"Tag: py3-none-any",
    ]  # fmt: skip
    recorded = [line.split(",") for line in files.pop("edge_embed-0.1.0.dist-info/RECORD").decode().splitlines()]
    for name, said, size in recorded[:-1]:
        content = files.pop(name)
        found = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        assert (said, int(size)) == (f"sha256={found}", len(content))
    assert files == {}


@pytest.mark.parametrize(
    ("stderr", "expected"),
    [
        ("/usr/bin/python3: No module named pip", "ensurepip"),
        ("WARNING: Retrying ... NewConnectionError(...)\nERROR: No matching distribution", "cannot be reached"),
        ("ERROR: No matching distribution found for numpy>=9", "pip download failed: ERROR: No matching"),
        ("", "exit status 1"),
    ],
)
def test_what_pip_says(stderr: str, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No pip, no network and no such wheel are told apart."""
    done = subprocess.CompletedProcess(["pip"], 1, "", stderr)
    monkeypatch.setattr(wheelhouse.subprocess, "run", lambda *_, **__: done)
    with pytest.raises(EdgeEmbedError, match=expected) as caught:
        wheelhouse.run_pip(["download"])
    assert isinstance(caught.value, MissingExtraError) == ("ensurepip" in expected)


def test_pip_is_run() -> None:
    """The real pip of this Python answers, and its failure is told."""
    wheelhouse.run_pip(["--version"])
    with pytest.raises(EdgeEmbedError, match="pip download failed"):
        wheelhouse.run_pip(["download", "--no-index", "no-such-package"])


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("solaris", "3.11", None), "expected one of linux_x86_64"),
        (("linux_x86_64", "3.10", None), "which is the lowest"),
        (("linux_x86_64", "3", None), "which is the lowest"),
        (("linux_x86_64", "3.11", "14.0"), "a version of glibc, such as 2.28"),
        (("macos_arm64", "3.11", "2.28"), "a version of macOS, such as 14.0"),
        (("windows_amd64", "3.11", "11"), "leave it out"),
        (("musllinux_x86_64", "3.11", "2.28"), "a version of musl, such as 1.2"),
    ],
)
def test_devices_are_checked(arguments: tuple[Any, ...], expected: str) -> None:
    """A message says what is expected."""
    with pytest.raises(InputError, match=expected):
        make_target(*arguments)


def test_floor() -> None:
    """The system that all wheels run on: of one wheel any tag is enough, of a folder every wheel counts."""
    numpy = "numpy-2.4.6-cp311-cp311-manylinux_2_27_aarch64.manylinux_2_28_aarch64.whl"
    old = "tokenizers-0.23-cp310-abi3-manylinux_2_17_aarch64.manylinux2014_aarch64.whl"
    assert floor(ARM, [old, numpy, "click-8-py3-none-any.whl"]) == ("glibc 2.27", "numpy")
    assert floor(ARM, ["a-1-cp311-cp311-manylinux2014_aarch64.whl"]) == ("glibc 2.17", "a")
    assert floor(ARM, ["click-8-py3-none-any.whl"]) is None
    alpine = make_target("musllinux_x86_64", "3.14", None)
    assert floor(alpine, ["numpy-2.5.5-cp314-cp314-musllinux_1_2_x86_64.whl"]) == ("musl 1.2", "numpy")
    mac = make_target("macos_arm64", "3.11", None)
    assert floor(mac, ["numpy-2.4.6-cp311-cp311-macosx_14_0_arm64.whl"]) == ("macOS 14.0", "numpy")


@pytest.mark.parametrize(
    ("marker", "expected"),
    [
        ('python_version < "3.9"', False),  # as text "3.11" would be less
        ('python_version >= "3.9" and sys_platform == "linux"', True),
        ('(platform_machine == "x86_64" or platform_machine == "aarch64") and os_name != "nt"', True),
        ('platform_machine in "x86_64 AMD64"', False),
        ('"arm" not in platform_machine', True),
        ('python_full_version == "3.11"', True),
        ('extra == "fast"', True),
        ('extra == "slow"', False),
        ('python_version ~= "3.9"', True),
        ('python_version > "3.9a1"', True),
        ('platform_release < "2"', True),  # unknown: one wheel too many is better than one too few
        ('sys_platform == "win32" and platform_version == "1"', True),
        ('platform_machine ~= "armv8"', True),
    ],
)
def test_markers(marker: str, expected: bool) -> None:
    """Markers are evaluated for the device, not for this machine; what is unknown counts as true."""
    assert holds(Marker(marker), ARM.environment, ["Fast"]) is expected
    assert holds(None, ARM.environment)


def test_requirements_are_read() -> None:
    """Also in the older form with parentheses; a requirement from elsewhere than an index is refused."""
    found = parse('Hugging_Face.Hub [fast, all] (>=0.16.4, <3) ; python_version < "3.13"')
    assert (found.name, found.extras, str(found.specifier)) == ("Hugging_Face.Hub", {"all", "fast"}, "<3,>=0.16.4")
    for line, message in (
        ("pip @ https://example.org/pip.whl", "not from a package index"),
        ("", "cannot be read"),
        (">=1", "cannot be read"),
        ('pip; __import__("os")', "cannot be read"),
    ):
        with pytest.raises(EdgeEmbedError, match=message):
            parse(line)


def test_without_packaging(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A small installation lacks it: the error says how to get it, and no folder is made."""
    monkeypatch.setitem(sys.modules, "packaging.requirements", None)
    result = CliRunner().invoke(main, ["wheelhouse", str(tmp_path / "house"), "--platform", "linux_x86_64"])
    assert result.exit_code == 1
    assert "pip install 'edge-embed[wheelhouse]'" in result.stderr
    assert not (tmp_path / "house").exists()


@pytest.mark.parametrize("platform", PLATFORMS)
def test_lean_is_part_of_what_is_required(platform: str) -> None:
    """lean.txt names packages that edge_embed requires, once each, as new as it requires them."""
    lean = listed_requirements("lean", make_target(platform, "3.12", None).environment)
    needed = map(parse, metadata.requires("edge-embed") or [])
    required = {requirement.name: requirement.specifier for requirement in needed if requirement.marker is None}
    assert [requirement.name for requirement in lean] == ["click", "numpy", "tokenizers", "onnxruntime"]
    for requirement in lean:
        assert set(required[requirement.name]) <= set(requirement.specifier)


class Installed(metadata.PathDistribution):
    """A distribution in a folder of its own."""


@pytest.fixture
def installed(tmp_path: Path) -> Installed:
    """edge_embed as pip installs a wheel: RECORD with hashes, files of the installer, a script outside."""
    root = tmp_path / "site"
    (root / "edge_embed" / "__pycache__").mkdir(parents=True)
    info = root / "edge_embed-0.1.0.dist-info"
    info.mkdir()
    contents = {
        "edge_embed/__init__.py": b"__version__ = '0.1.0'\n",
        "edge_embed/data.bin": bytes(range(256)),
        "edge_embed-0.1.0.dist-info/METADATA": b"Metadata-Version: 2.1\nName: edge-embed\nVersion: 0.1.0\n",
        "edge_embed-0.1.0.dist-info/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "edge_embed-0.1.0.dist-info/INSTALLER": b"pip\n",
        "edge_embed-0.1.0.dist-info/direct_url.json": b'{"dir_info": {}, "url": "file:///x"}',
        "edge_embed/__pycache__/__init__.cpython-311.pyc": b"compiled",
    }
    rows = ["../../bin/edge-embed,sha256=x,200\n"]
    for path, content in contents.items():
        (root / path).write_bytes(content)
        digest = hashlib.sha256(content).digest()
        rows.append(f"{path},sha256={base64.urlsafe_b64encode(digest).decode().rstrip('=')},{len(content)}\n")
    (info / "RECORD").write_text("".join([*rows, "edge_embed-0.1.0.dist-info/RECORD,,\n"]))
    return Installed(info)


def test_installed_files_become_a_wheel(installed: Installed, tmp_path: Path) -> None:
    """The wheel holds what the original held, byte for byte the same each time, and pip installs it."""
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
    first, second = (repack(installed, folder) for folder in folders)
    assert first.name == "edge_embed-0.1.0-py3-none-any.whl"
    assert first.read_bytes() == second.read_bytes()
    with zipfile.ZipFile(first) as archive:
        assert archive.namelist() == [
            "edge_embed-0.1.0.dist-info/METADATA", "edge_embed-0.1.0.dist-info/WHEEL",
            "edge_embed/__init__.py", "edge_embed/data.bin", "edge_embed-0.1.0.dist-info/RECORD",
        ]  # fmt: skip
        assert archive.read("edge_embed/data.bin") == bytes(range(256))
    target = tmp_path / "target"
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--target", target, first]
    subprocess.run(command, check=True, capture_output=True)
    assert (target / "edge_embed" / "data.bin").read_bytes() == bytes(range(256))


def test_changed_installations_are_refused(installed: Installed, tmp_path: Path) -> None:
    """A file that is missing, one that was edited, and an installation without RECORD make no wheel."""
    changed = tmp_path / "site" / "edge_embed" / "__init__.py"
    changed.write_text("edited")
    with pytest.raises(EdgeEmbedError, match="was changed since it was installed"):
        repack(installed, tmp_path)
    changed.unlink()
    with pytest.raises(EdgeEmbedError, match="cannot be read"):
        repack(installed, tmp_path)
    (tmp_path / "site" / "edge_embed-0.1.0.dist-info" / "RECORD").unlink()
    with pytest.raises(EdgeEmbedError, match="without a list of its files"):
        repack(installed, tmp_path)


def test_an_editable_installation_is_built(
    installed: Installed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its files are not in site-packages: the wheel comes from the checkout, by pip."""
    checkout = tmp_path / "check out"
    content = {"dir_info": {"editable": True}, "url": checkout.as_uri()}
    (tmp_path / "site" / "edge_embed-0.1.0.dist-info" / "direct_url.json").write_text(json.dumps(content))
    monkeypatch.setattr(metadata, "distribution", lambda _: installed)
    asked: list[Sequence[str]] = []

    def pip(arguments: Sequence[str]) -> None:
        asked.append(arguments)
        make_wheel(tmp_path / "house", "edge-embed", "0.1.0", "py3-none-any")

    (tmp_path / "house").mkdir()
    assert own_wheel(tmp_path / "house", None, ARM, pip).name == "edge_embed-0.1.0-py3-none-any.whl"
    assert list(asked[0]) == ["wheel", "--no-deps", "--wheel-dir", str(tmp_path / "house"), str(checkout)]


def test_command(own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sizes, the floor and the line to type on the device, as text and as JSON; a wrong platform is one line."""
    monkeypatch.setattr(wheelhouse.build, "__kwdefaults__", {**wheelhouse.build.__kwdefaults__, "pip": FakePip()})
    arguments = [str(tmp_path / "house"), "--platform", "linux_aarch64", "--python", "3.11", "--wheel", str(own)]
    result = CliRunner().invoke(main, ["wheelhouse", *arguments])
    assert result.exit_code == 0, result.output
    assert "9 wheels for linux_aarch64, Python 3.11, glibc 2.28" in result.output
    assert "needs glibc 2.28 or later (onnxruntime)" in result.output
    assert f"on the device: pip install --no-deps -r {tmp_path / 'house' / 'requirements.txt'}" in result.output
    facts = json.loads(CliRunner().invoke(main, ["wheelhouse", *arguments, "--json"]).output)
    assert [wheel["name"] for wheel in facts["wheels"]][:2] == ["edge-embed", "click"]
    wrong = CliRunner().invoke(main, ["wheelhouse", str(tmp_path / "other"), "--platform", "amiga"])
    assert wrong.exit_code == 1
    assert wrong.output.startswith("edge-embed: platform 'amiga': expected one of")
    assert not (tmp_path / "other").exists()
