"""Finds, checks and loads the native library of this package, or says why there is none.

`runtime/native/build.py` makes two files for this folder: the library, and facts about it (JSON), which are compared
with this package and this machine before anything is loaded.
"""

import json
import os
import re
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_embed_runtime.errors import InputError

if TYPE_CHECKING:
    from ctypes import CDLL

ABI = 1  # EDGE_ABI of runtime/native/edge_embed.h
FACTS = "edge_embed_native.json"
MAX_FACTS = 16 * 1024
SWITCH = "EDGE_EMBED_NATIVE"
LIMIT = "EDGE_EMBED_ISA"
ADVICE = "docs/native.md says how to get it"
UNKNOWN_ISA = -1
# Beside AVX512 in the number of an instruction set: VPOPCNTDQ.
VPOPCNT = 0x100


@dataclass(frozen=True)
class Native:
    """The loaded library.

    functions: the library, through ctypes
    isa:       the number of the instruction set, which its functions take
    isa_name:  its name, such as "avx2"
    facts:     what the build wrote down: abi, machine, system, file, bytes, sha256, instruction_sets, compiler
    """

    functions: "CDLL"
    isa: int
    isa_name: str
    facts: dict[str, Any]


class Unusable(Exception):
    """Why there is no library, in one line."""


class Loader:
    """One folder's library: looked for once, when it is first asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.Lock()
        self._native: Native | None = None
        self._reason: str | None = None

    def native(self) -> Native | None:
        """The library, or None: then `reason` says why. Raises InputError for a wrong environment variable."""
        if self._reason is None:
            with self._lock:
                if self._reason is None:
                    try:
                        self._native = load(self.folder)
                        self._reason = ""
                    except Unusable as error:
                        self._reason = str(error)
        return self._native

    def reason(self) -> str:
        """Why there is no library; "" where there is one."""
        self.native()
        return self._reason or ""


def machine() -> str:
    """The kind of CPU that this process runs as, in the compiler's words: x86_64, aarch64, x86, arm, ..."""
    if sys.platform == "win32":  # where programs for x86-64 run on ARM, the system's name is not the process's
        import sysconfig

        return {"win-amd64": "x86_64", "win-arm64": "aarch64", "win32": "x86"}.get(sysconfig.get_platform(), "")
    name = os.uname().machine
    if sys.maxsize < 2**32:  # perhaps a 32-bit Python on a 64-bit system
        return "x86" if re.fullmatch(r"i[3-6]86|x86_64|amd64", name) else re.sub(r"^(arm.*|aarch64)$", "arm", name)
    return {"amd64": "x86_64", "arm64": "aarch64"}.get(name, name)


def system() -> str:
    """linux (and others with ELF files), macos or windows."""
    return {"darwin": "macos", "win32": "windows"}.get(sys.platform, "linux")


def switched_on() -> bool:
    """EDGE_EMBED_NATIVE: 0 switches the library off; 1, empty or not set leaves it on."""
    value = os.environ.get(SWITCH, "")
    if value not in ("", "0", "1"):
        raise InputError(f"{SWITCH} is {value[:100]!r}, must be 0 or 1", option=SWITCH, value=value[:100])
    return value != "0"


def read_facts(folder: Path) -> dict[str, Any]:
    """What the build wrote down about the library of `folder`. Raises Unusable."""
    path = folder / FACTS
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FACTS + 1)
    except FileNotFoundError:
        raise Unusable(f"it was not built; {ADVICE}") from None
    except OSError as error:
        raise Unusable(f"{path} cannot be read: {error.strerror or error}") from None
    try:
        facts = json.loads(data)
    except (ValueError, RecursionError):
        facts = None
    if not isinstance(facts, dict) or len(data) > MAX_FACTS:
        raise Unusable(f"{path} is damaged")
    if "reason" in facts:
        why = "".join(letter if letter.isprintable() else " " for letter in str(facts["reason"])[:400])
        raise Unusable(f"it was not built when this package was installed: {why}; {ADVICE}")
    return facts


def another_version(abi: object) -> str:
    return f"the library is of another version: its ABI number is {abi!r}, this package's {ABI}"


def check_facts(facts: dict[str, Any], folder: Path) -> Path:
    """The library's path. Raises Unusable where it is another version's, another CPU's or system's, or damaged."""
    if facts.get("abi") != ABI:
        raise Unusable(another_version(facts.get("abi")))
    found, here = (facts.get("machine"), facts.get("system")), (machine(), system())
    if found != here:
        raise Unusable(f"the library is for {found[0]} on {found[1]}, this is {here[0]} on {here[1]}")
    name = facts.get("file")
    if not isinstance(name, str) or not re.fullmatch(r"[a-z_]+\.(so|dylib|dll)", name):
        raise Unusable(f"{folder / FACTS} is damaged")
    path = folder / name
    try:
        size = path.stat().st_size
    except OSError as error:
        raise Unusable(f"{path} cannot be read: {error.strerror or error}") from None
    if size != facts.get("bytes"):
        raise Unusable(f"{path} is damaged: {size} bytes instead of {facts.get('bytes')!r}")
    return path


def load(folder: Path) -> Native:
    """The checked library of `folder`. Raises Unusable; InputError for a wrong environment variable."""
    if not switched_on():
        raise Unusable(f"{SWITCH}=0 switches it off")
    facts = read_facts(folder)
    path = check_facts(facts, folder)
    try:
        import ctypes

        functions = ctypes.CDLL(str(path))
        abi = int(functions.edge_abi())
    except (ImportError, OSError, AttributeError) as error:
        raise Unusable(f"{path} cannot be loaded: {error}") from None
    if abi != ABI:
        raise Unusable(another_version(abi))
    functions.edge_isa.argtypes = [ctypes.c_char_p]
    functions.edge_isa.restype = ctypes.c_int32
    functions.edge_isa_name.argtypes = [ctypes.c_int32]
    functions.edge_isa_name.restype = ctypes.c_char_p
    isa = instruction_set(functions)
    return Native(functions, isa, functions.edge_isa_name(isa).decode(), facts)


def instruction_set(functions: "CDLL") -> int:
    """The best one of this CPU, at most EDGE_EMBED_ISA. Raises InputError for a name that this kind of CPU lacks."""
    limit = os.environ.get(LIMIT, "")
    isa = int(functions.edge_isa(limit.encode("ascii", "replace")))
    if isa == UNKNOWN_ISA:
        raise InputError(
            f"{LIMIT} is {limit[:100]!r}, which is no instruction set of {machine()}", option=LIMIT, value=limit[:100]
        )
    return isa


PACKAGE = Loader(Path(__file__).parent)


def native() -> Native | None:
    """The native library of this package, loaded at the first call, or None: then `reason` says why.

    Raises InputError where EDGE_EMBED_NATIVE or EDGE_EMBED_ISA has a value that it cannot have.
    """
    return PACKAGE.native()


def library() -> "CDLL | None":
    """Its functions, or None."""
    loaded = native()
    return loaded.functions if loaded else None


def reason() -> str:
    """Why there is no native library here, in one line; "" where there is one."""
    return PACKAGE.reason()
