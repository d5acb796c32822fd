"""A folder with all wheels for a device that cannot reach a package index.

The folder also gets requirements.txt, which names each wheel with its hash, and wheelhouse.json, which records what is
there, so that an interrupted run can continue.
"""

import hashlib
import json
import re
import shutil
import subprocess
import sys
import zipfile
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename

from edge_embed.wheelhouse.ownwheel import Pip, own_wheel
from edge_embed.wheelhouse.platforms import Target, floor
from edge_embed.wheelhouse.requirements import listed_requirements, parse, requirements_of
from edge_embed_runtime.errors import EdgeEmbedError, InputError, MissingExtraError, SourceError
from edge_embed_runtime.system.writing import replacing

STATE = "wheelhouse.json"
SCHEMA = 1
REQUIREMENTS = "requirements.txt"
INCOMING = ".incoming"
UNREACHABLE = re.compile(r"NewConnectionError|ConnectTimeout|ReadTimeout|ProxyError|NameResolutionError|SSLError")


@dataclass
class Wheel:
    """A wheel of the folder. requirement: what pip was asked for; "" for edge_embed itself."""

    file: str
    requirement: str
    sha256: str
    bytes: int

    def answers(self, requirement: str) -> bool:
        """Whether it was found for this requirement, or for a stricter one."""
        return set(parse(requirement).specifier) <= set(parse(self.requirement).specifier)

    @property
    def name(self) -> str:
        return parse_wheel_filename(self.file)[0]

    @property
    def version(self) -> str:
        return str(parse_wheel_filename(self.file)[1])


@dataclass
class Wanted:
    """What all wheels together require of one package."""

    specifiers: set[str] = field(default_factory=set)
    extras: set[str] = field(default_factory=set)


def run_pip(arguments: Sequence[str]) -> None:
    """Run this Python's pip.

    Raises MissingExtraError where there is none, EdgeEmbedError with pip's own words where it fails.
    """
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "--quiet", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own arguments
    if done.returncode == 0:
        return
    if "No module named pip" in done.stderr:
        raise MissingExtraError(
            f"this needs pip, which {sys.executable} does not have: {sys.executable} -m ensurepip", package="pip"
        )
    if UNREACHABLE.search(done.stderr):
        raise EdgeEmbedError(
            "the package index cannot be reached; what was downloaded is kept, run this again later",
            code="network_unreachable",
        )
    said = [line for line in done.stderr.splitlines() if line.startswith("ERROR:")] or done.stderr.splitlines()[-1:]
    raise EdgeEmbedError(f"pip {arguments[0]} failed: {' '.join(said) or f'exit status {done.returncode}'}")


def build(
    folder: Path,
    target: Target,
    *,
    lean: bool = False,
    static: bool = False,
    wheel: Path | None = None,
    pip: Pip = run_pip,
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Fill a folder with wheels for a device. Wheels that are there already, and whole, are kept.

    lean:     only what edge_embed imports on a device, not all that these packages require (see data/lean.txt)
    static:   of these only what static bundles need: no onnxruntime (see data/static.txt)
    wheel:    the wheel of edge_embed; None means this installation
    pip:      runs pip with these arguments
    progress: called with the name of each step

    Raises SourceError for a folder with other files, EdgeEmbedError where pip fails.
    """
    choice = "static" if static else "lean" if lean else ""
    house = _House(folder, target, choice, pip, progress)
    own = house.add_own(wheel)
    if choice:
        house.follow(listed_requirements(choice, target.environment), alone=True)
    else:
        house.follow(house.required(own, ()), alone=False)
    return house.finish(own)


class _House:
    def __init__(self, folder: Path, target: Target, choice: str, pip: Pip, progress: Callable[[str], None]) -> None:
        self.folder, self.target, self.choice, self.pip, self.progress = folder, target, choice, pip, progress
        self.kept: dict[str, Wheel] = {}
        self.used: dict[str, Wheel] = {}
        self.settings = {"schema": SCHEMA, "platform": target.platform, "python": target.python}
        self.settings |= {"system": target.system, "lean": choice == "lean"}
        self.settings |= {"static": True} if choice == "static" else {}
        self._open()

    def _open(self) -> None:
        """Create the folder, or read the state that an earlier run left there."""
        state = self.folder / STATE
        if self.folder.exists() and not self.folder.is_dir():
            raise SourceError(
                f"{self.folder} is a file; give a folder that is empty or does not exist", path=self.folder
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        if state.exists():
            try:
                content = json.loads(state.read_text("utf-8"))
                self.kept = {name: Wheel(**facts) for name, facts in content.pop("wheels").items()}
            except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
                raise SourceError(
                    f"{state} is damaged ({error}): delete the folder and run this again", path=state
                ) from error
            if content != self.settings:
                raise InputError(
                    f"{self.folder} is a wheelhouse for {content}, not for {self.settings}: give another folder",
                    path=self.folder,
                )
        elif any(self.folder.iterdir()):
            raise SourceError(
                f"{self.folder} holds other files; give a folder that is empty or does not exist", path=self.folder
            )
        self._save()

    def _save(self) -> None:
        wheels = {name: vars(wheel) for name, wheel in sorted({**self.kept, **self.used}.items())}
        self._write(STATE, json.dumps({**self.settings, "wheels": wheels}, indent=1))

    def _write(self, name: str, text: str) -> None:
        with replacing(self.folder / name, 0o666) as file:
            file.write(f"{text}\n".encode())

    def add_own(self, given: Path | None) -> Wheel:
        """edge_embed's own wheel, made in every run: a checkout may have changed without a new version."""
        self.progress("edge-embed")
        return self._take("", "edge-embed", lambda incoming: own_wheel(incoming, given, self.target, self.pip))

    def required(self, wheel: Wheel, extras: tuple[str, ...]) -> list[Requirement]:
        return list(requirements_of(self.folder / wheel.file, extras, self.target.environment))

    def follow(self, requirements: list[Requirement], *, alone: bool) -> None:
        """Download the requirements and, unless `alone`, all that they require in turn."""
        wanted: dict[str, Wanted] = {}
        pending: deque[str] = deque()

        def ask(requirement: Requirement) -> None:
            name = canonicalize_name(requirement.name)
            new = name not in wanted
            want = wanted.setdefault(name, Wanted())
            before = len(want.specifiers) + len(want.extras)
            want.specifiers |= {str(part) for part in requirement.specifier}
            want.extras |= {canonicalize_name(extra) for extra in requirement.extras}
            if (new or len(want.specifiers) + len(want.extras) > before) and name not in pending:
                pending.append(name)

        for requirement in requirements:
            ask(requirement)
        while pending:
            name = pending.popleft()
            wheel = self._fetch(name, name + ",".join(sorted(wanted[name].specifiers)))
            for requirement in [] if alone else self.required(wheel, tuple(sorted(wanted[name].extras))):
                ask(requirement)

    def _fetch(self, name: str, requirement: str) -> Wheel:
        """The newest wheel that fits: the one in the folder if it is whole, else from pip, which checks its hash."""
        here = self.used.get(name) or self.kept.get(name)
        if here is not None and here.answers(requirement) and _is_whole(self.folder / here.file, here.sha256):
            self.used[name] = here
            return here
        self.progress(requirement)
        tags = [part for tag in self.target.tags for part in ("--platform", tag)]
        arguments = ["download", "--no-deps", "--only-binary=:all:", "--retries", "2", *tags]
        arguments += ["--implementation", "cp", "--python-version", self.target.python, requirement]

        def download(incoming: Path) -> Path:
            try:
                self.pip([*arguments, "--dest", str(incoming)])
            except EdgeEmbedError as error:
                raise self._without(name, error) from error
            (wheel,) = incoming.glob("*.whl")
            return wheel

        return self._take(requirement, name, download)

    def _without(self, name: str, error: EdgeEmbedError) -> EdgeEmbedError:
        """The error; where the package index has no onnxruntime for the device, what to do without it."""
        if name != "onnxruntime" or "No matching distribution" not in str(error):
            return error
        return InputError(
            f"there is no wheel of onnxruntime for {self.target}. Static bundles do not need it: give --static and "
            "another folder, and on the device use the embedded bundle `static`",
            option="platform",
        )

    def _take(self, requirement: str, name: str, make: Callable[[Path], Path]) -> Wheel:
        """Make a wheel in a folder of its own, then move it to its place: so it is there whole or not at all."""
        incoming = self.folder / INCOMING
        shutil.rmtree(incoming, ignore_errors=True)
        incoming.mkdir()
        try:
            made = make(incoming)
            wheel = Wheel(made.name, requirement, _sha256(made), made.stat().st_size)
            made.replace(self.folder / made.name)
        finally:
            shutil.rmtree(incoming, ignore_errors=True)
        self.used[name] = wheel
        self._save()
        return wheel

    def finish(self, own: Wheel) -> dict[str, Any]:
        """Delete wheels of earlier versions, write requirements.txt, and report what the folder holds."""
        wheels = [own, *(wheel for name, wheel in sorted(self.used.items()) if wheel is not own)]
        names = {wheel.file for wheel in wheels}
        for path in self.folder.glob("*.whl"):
            if path.name not in names:
                path.unlink()
        self.kept = {}
        self._save()
        install = f"pip install --no-deps -r {REQUIREMENTS}"
        lines = [f"# For {self.target}. In this folder: {install}", "--no-index", "--find-links ."]
        lines += [f"{wheel.name}=={wheel.version} --hash=sha256:{wheel.sha256}" for wheel in wheels]
        self._write(REQUIREMENTS, "\n".join(lines))
        listed = []
        for wheel in wheels:
            with zipfile.ZipFile(self.folder / wheel.file) as archive:
                installed = sum(entry.file_size for entry in archive.infolist())
            listed.append(
                {"name": wheel.name, "version": wheel.version, "bytes": wheel.bytes, "installed_bytes": installed}
            )
        need = floor(self.target, names)
        return {
            "folder": str(self.folder),
            "target": str(self.target),
            "lean": self.choice == "lean",
            "static": self.choice == "static",
            "wheels": listed,
            "bytes": sum(wheel.bytes for wheel in wheels),
            "installed_bytes": sum(facts["installed_bytes"] for facts in listed),
            "needs": None if need is None else f"{need[0]} or later ({need[1]})",
            "install": f"pip install --no-deps -r {self.folder / REQUIREMENTS}",
        }


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _is_whole(path: Path, sha256: str) -> bool:
    try:
        return _sha256(path) == sha256
    except OSError:
        return False
