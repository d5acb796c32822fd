"""A bed to run Python on other CPUs: qemu-user from Debian, an arm64 Debian root with PyPI's wheels, no root rights.

Nothing is installed and no setting of the machine is touched: apt works with a state of its own, packages are unpacked.
Child processes of an emulated Python stay emulated, because `sys.executable` there is a script that starts qemu
(sitecustomize.py): the kernel's binfmt_misc is not needed.
"""

import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
SOURCES = Path("/etc/apt")
# Emulators older than 10 crash in onnxruntime's detection of the CPU, and compute garbage for Armv9.
QEMU_SUITE = "bookworm-backports"
# What the runtime and its command line import; huggingface-hub and others that pip would add are never imported.
PACKAGES = ("numpy", "onnxruntime", "tokenizers", "usearch", "numkong", "click", "tqdm")
# Debian's Python 3 by release.
SUITES = {"3.11": "bookworm", "3.13": "trixie"}
TAGS = [f"manylinux_2_{minor}_aarch64" for minor in range(17, 37)] + ["manylinux2014_aarch64", "any"]
PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"
# Set in the environment of an emulated Python: what starts another one like it.
EXECUTABLE = "EDGE_EMBED_DEVICE_PYTHON"
SITECUSTOMIZE = f"""import os
import sys

sys.executable = os.environ.get("{EXECUTABLE}", sys.executable)
"""


class MissingError(Exception):
    """Something that the bed is made of cannot be had here; the message says what."""


def run(arguments: Sequence[object], **options: object) -> str:
    """The output of a program; MissingError with its last words where it fails."""
    words = [str(argument) for argument in arguments]
    done = subprocess.run(words, capture_output=True, text=True, errors="replace", check=False, **options)  # type: ignore[call-overload]
    if done.returncode:
        last = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()][-3:]
        raise MissingError(f"{' '.join(words)[:120]}: {' | '.join(last) or done.returncode}")
    return str(done.stdout)


def check_machine() -> None:
    """MissingError where no bed can be built: it takes an x86_64 machine with apt, dpkg and Debian's keys."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        raise MissingError(f"emulation is set up from x86_64 Linux, this is {sys.platform} {platform.machine()}")
    for program in ("apt-get", "dpkg"):
        if not shutil.which(program):
            raise MissingError(f"{program} is not here: the bed is made of Debian packages")
    if not KEYRING.is_file():
        raise MissingError(f"{KEYRING} is not here: install debian-archive-keyring")
    for package in PACKAGES:
        installed(package)


def installed(package: str) -> str:
    """A requirement for the version that this Python has, so that all devices run the same."""
    try:
        return f"{package}=={version(package)}"
    except PackageNotFoundError:
        raise MissingError(f"{package} is not installed for {sys.executable}: pip install '.[test]' first") from None


def mirror() -> str:
    """The Debian mirror that this machine uses."""
    listed = [SOURCES / "sources.list", *sorted((SOURCES / "sources.list.d").glob("*"))]
    texts = [path.read_text(errors="replace") for path in listed if path.is_file()]
    found = [re.search(r"(https?://\S+?)/debian/?(?=\s)", text) for text in texts]
    return next((match[1] for match in found if match), "http://deb.debian.org")


class Apt:
    """apt with its own root. suites: {"bookworm": "debian", "bookworm-security": "debian-security"}."""

    def __init__(self, folder: Path, suites: dict[str, str], architecture: str, kind: str = "deb") -> None:
        self.archives = folder / "cache" / "archives"
        for name in ("state/lists/partial", "cache/archives/partial"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / "status").touch()
        lines = [f"{kind} [signed-by={KEYRING}] {mirror()}/{place} {suite} main" for suite, place in suites.items()]
        (folder / "sources.list").write_text("\n".join(lines) + "\n")
        options = {
            "APT::Architecture": architecture,
            "APT::Architectures": architecture,
            "APT::Sandbox::User": "root",
            "Acquire::Languages": "none",
            "Dir::State": folder / "state",
            "Dir::State::status": folder / "status",
            "Dir::Cache": folder / "cache",
            "Dir::Etc::sourcelist": folder / "sources.list",
            "Dir::Etc::sourceparts": "/nonexistent",
        }
        self._command = [
            "apt-get",
            "-qq",
            *(word for key, value in options.items() for word in ("-o", f"{key}={value}")),
        ]
        self("update")

    def __call__(self, *arguments: object) -> str:
        return run([*self._command, *arguments], cwd=self.archives)

    def unpack(self, root: Path) -> None:
        """All that was downloaded, into a folder."""
        root.mkdir(exist_ok=True)
        for package in sorted(self.archives.glob("*.deb")):
            run(["dpkg", "-x", package, root])


@dataclass(frozen=True)
class Bed:
    """A folder with what devices are made of. Each part is made when it is first asked for, whole or not at all."""

    folder: Path
    say: Callable[[str], None] = field(default=lambda _: None, compare=False)

    def part(self, name: str, make: Callable[[Path], None]) -> Path:
        part, unfinished = self.folder / name, self.folder / f"{name}.part"
        if not part.exists():
            check_machine()
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir(parents=True)
            make(unfinished)
            unfinished.rename(part)
            self.say(f"built {part}")
        return part

    def qemu(self, architecture: str) -> Path:
        """The emulator that Debian ships, for programs of `architecture`."""

        def make(part: Path) -> None:
            apt = Apt(part / "apt", {QEMU_SUITE: "debian"}, "amd64")
            apt("download", "qemu-user")
            apt.unpack(part / "all")
            for name in ("qemu-aarch64", "qemu-x86_64"):
                (part / "all/usr/bin" / name).rename(part / name)
            shutil.rmtree(part / "all")
            shutil.rmtree(part / "apt")

        return self.part("qemu", make) / f"qemu-{architecture}"

    def sysroot(self, python: str) -> Path:
        """An arm64 root with Debian's Python and the wheels of PACKAGES in the versions of this Python."""

        def make(part: Path) -> None:
            suite = SUITES[python]
            apt = Apt(part / "apt", {suite: "debian", f"{suite}-security": "debian-security"}, "arm64")
            names = [f"python{python}-minimal", f"libpython{python}-stdlib", "libstdc++6", "libgcc-s1", "zlib1g"]
            apt("-y", "--no-install-recommends", "--download-only", "install", *names)
            apt.unpack(part)
            shutil.rmtree(part / "apt")
            if not (part / "lib").exists():  # releases with a merged /usr: the link is made by an installer
                (part / "lib").symlink_to("usr/lib")
            wheels = part / "usr/lib/python3/dist-packages"
            tags = [word for tag in TAGS for word in ("--platform", tag)]
            kinds = ["--abi", f"cp{python.replace('.', '')}", "--abi", "abi3", "--abi", "none"]
            pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-compile", "--target", wheels]
            wanted = ["--only-binary=:all:", "--python-version", python, "--implementation", "cp", *kinds, *tags]
            run([*pip, *wanted, *(installed(package) for package in PACKAGES)])
            compiler = find_python(python)
            if compiler:  # else the emulated one compiles at its first start, slowly
                library = part / f"usr/lib/python{python}"
                paths = ["-x", "/(tests?|idlelib|lib2to3|ensurepip)/", "-s", part, "-p", "/", wheels, library]
                words = map(str, [compiler, "-m", "compileall", "-qq", "-j0", *paths])
                subprocess.run(list(words), check=False)  # a file that is no Python of this version stays as it is

        return self.part(f"arm64-{python}", make)

    def venv(self, python: str) -> Path:
        """A Python of this machine with PACKAGES: the running one, or a virtual environment of another."""
        if python == PYTHON:
            return Path(sys.executable)
        found = find_python(python)
        if found is None:
            raise MissingError(f"no python{python} on PATH or under pyenv")

        def make(part: Path) -> None:
            run([found, "-m", "venv", part])
            pip = [part / "bin/python", "-m", "pip", "install", "-q", "--no-deps", "--only-binary=:all:"]
            run([*pip, *(installed(package) for package in PACKAGES)])

        return self.part(f"venv-{python}", make) / "bin/python"

    def command(self, cpu: str, architecture: str, python: str, qemu: Path | None = None) -> list[str]:
        """What starts Python on a CPU, that of this machine where it is "host". qemu: None is Debian's."""
        if cpu == "host":
            return [str(self.venv(python))]
        emulator = [str(qemu or self.qemu(architecture)), "-cpu", cpu]
        if architecture == "aarch64":
            root = self.sysroot(python)
            return [*emulator, "-L", str(root), str(root / f"usr/bin/python{python}")]
        return [*emulator, str(self.venv(python))]

    def script(self, name: str, command: Sequence[str]) -> Path:
        """An executable file that runs a command with the arguments it is given."""
        scripts = self.folder / "scripts"
        scripts.mkdir(parents=True, exist_ok=True)
        (scripts / "sitecustomize.py").write_text(SITECUSTOMIZE)
        script = scripts / name
        script.write_text("#!/bin/sh\nexec " + " ".join(f"'{word}'" for word in command) + ' "$@"\n')
        script.chmod(0o755)
        return script

    def environment(self, script: Path | None, packages: Path | None = None) -> dict[str, str]:
        """That of a run: the checkout is what is tested, and nothing of the host's CPU reaches the guest.

        packages: the folder with edge_embed_runtime, that of the checkout where it is None
        """
        strange = ("PYTHON", "OPENBLAS_", "EDGE_EMBED_")
        kept = {key: value for key, value in os.environ.items() if not key.startswith(strange)}
        parts = [packages or ROOT / "runtime", ROOT, ROOT / "export", ROOT / "quantize"]
        path = [*([script.parent] if script else []), *parts]
        extra = {EXECUTABLE: str(script)} if script else {}
        return {
            **kept,
            **extra,
            "OPENBLAS_NUM_THREADS": "1",
            "PYTHONNOUSERSITE": "1",
            "PYTHONPATH": os.pathsep.join(map(str, path)),
        }


def find_python(version: str) -> str | None:
    """A working interpreter of a version ("3.12"): the running one, on PATH, under pyenv."""
    if version == PYTHON:
        return sys.executable
    on_path = shutil.which(f"python{version}")
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    candidates = [*([on_path] if on_path else []), *map(str, sorted(pyenv.glob(f"{version}.*/bin/python")))]
    for candidate in candidates:  # pyenv's shims are there for versions that are not switched on
        try:
            run([candidate, "-c", "import ensurepip, venv"])
        except MissingError:
            continue
        return candidate
    return None
