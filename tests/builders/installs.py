"""Environments with the lists of packages of a small install, and our wheel."""

import os
import subprocess
import venv
from pathlib import Path

import pytest

NOT_OURS = ("pip", "setuptools", "pkg_resources", "_distutils_hack", "distutils-precedence.pth")
# Downloads and compiled wheels are kept where pip keeps them outside tests, which have a cache folder of their own.
PIP_CACHE = {
    "PIP_CACHE_DIR": os.environ.get("PIP_CACHE_DIR")
    or str(Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pip")
}


def pip(python: Path | str, *arguments: str) -> None:
    command = [str(python), "-m", "pip", "--disable-pip-version-check", "-q", *arguments]
    done = subprocess.run(command, env={**os.environ, **PIP_CACHE}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def environment(root: Path, listed: Path) -> Path:
    """Python of a new environment with what the file lists, and our wheel."""
    if "EDGE_EMBED_TEST_INSTALL" not in os.environ:
        pytest.skip("downloads 60 MB: set EDGE_EMBED_TEST_INSTALL=1")
    venv.create(root, with_pip=True)
    python = root / ("Scripts" if os.name == "nt" else "bin") / "python"
    pip(python, "install", "--no-compile", "--no-deps", "-r", str(listed))
    checkout = Path(__file__).parents[2]
    pip(python, "wheel", "--no-deps", "--wheel-dir", str(root / "wheels"), str(checkout))
    (wheel,) = (root / "wheels").glob("*.whl")
    pip(python, "install", "--no-compile", "--no-deps", "--no-index", str(wheel))
    return python


def installed_bytes(python: Path, *, compiled: bool) -> int:
    """Bytes of the files in site-packages, without pip and setuptools; with or without .pyc."""
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = Path(subprocess.check_output([python, "-c", where], text=True).strip())
    total = 0
    for path in packages.rglob("*"):
        top = path.relative_to(packages).parts[0]
        ours = top.split("-")[0] not in NOT_OURS and top not in NOT_OURS
        if ours and path.is_file() and (compiled or path.suffix != ".pyc"):
            total += path.stat().st_size
    return total


def run(python: Path, folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [python, "-m", "edge_embed", *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, ""), arguments
    return done.stdout
