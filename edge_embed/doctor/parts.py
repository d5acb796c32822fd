"""Native packages: whether each works here, tried in a process of its own, and which releases are known to fail."""

import platform
import re
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires

# A first import from an SD card takes many seconds.
IMPORT_SECONDS = 120.0
ARM = ("aarch64", "arm64")
COMMON_PAGE = 4096


@dataclass(frozen=True)
class Part:
    """A native package, and a program that imports it, uses it and prints its version.

    needs: parts that it imports itself; without: what does not work without this part, "" for everything
    """

    name: str
    program: str
    needs: tuple[str, ...] = ()
    without: str = ""


PARTS = (
    Part(
        "numpy",
        "import numpy as np; a = np.ones((64, 64), np.float32); assert (a @ a)[0, 0] == 64; print(np.__version__)",
    ),
    Part(
        "sqlite3",
        "import sqlite3; db = sqlite3.connect(':memory:'); "
        "assert sqlite3.sqlite_version_info >= (3, 38), f'SQLite {sqlite3.sqlite_version} is older than 3.38'; "
        "db.execute('CREATE VIRTUAL TABLE f USING fts5(t)'); "
        "print(sqlite3.sqlite_version)",
    ),
    Part(
        "tokenizers",
        "import tokenizers; from tokenizers.models import WordLevel; "
        "t = tokenizers.Tokenizer(WordLevel({'a': 0}, unk_token='a')); "
        "assert t.encode('a').ids == [0]; print(tokenizers.__version__)",
    ),
    Part(
        "onnxruntime",
        "import onnxruntime; assert 'CPUExecutionProvider' in onnxruntime.get_available_providers(); "
        "print(onnxruntime.__version__)",
        needs=("numpy",),
        without="bundles except static ones and those for the native engine; `static` is embedded (--bundle static)",
    ),
    Part(
        "numkong",
        "import numkong; numkong.get_capabilities(); print(getattr(numkong, '__version__', ''))",
        without="graphs of very large indexes",
    ),
    Part(
        "usearch",
        "import numpy as np, usearch; from usearch.index import Index, MetricKind, ScalarKind; "
        "i = Index(ndim=384, metric=MetricKind.Hamming, dtype=ScalarKind.B1); a = np.ones((9, 48), np.uint8); "
        "i.add(np.arange(9), a); assert len(i.search(a[0], 3)) == 3; "
        "assert len(Index.restore(bytes(i.save()))) == 9; print(usearch.__version__)",
        needs=("numpy",),
        without="graphs of very large indexes",
    ),
)


@dataclass(frozen=True)
class Known:
    """Releases of a package, first to last, that are known to fail on some machines."""

    package: str
    first: str
    last: str
    machines: tuple[str, ...]
    what: str

    @property
    def span(self) -> str:
        return self.first if self.first == self.last else f"{self.first} to {self.last}"

    def fits(self, package: str, machine: str, release: str | None = None) -> bool:
        """Whether this is about a package on such a machine, and about that release where one is given."""
        inside = release is None or numbers(self.first) <= numbers(release) <= numbers(self.last)
        return package == self.package and machine in self.machines and inside


KNOWN = (
    Known(
        "onnxruntime", "1.21.0", "1.21.0", ARM, "SIGILL on a Raspberry Pi 4 (microsoft/onnxruntime issues 23957, 24112)"
    ),
    Known("usearch", "2.10.0", "2.12.0", ARM, "SIGILL on some ARM CPUs (unum-cloud/usearch issues 416, 446)"),
)


def part_sentence(part: Part, release: str | None, problem: str, page_size: int | None) -> str:
    """A message with the package, its version, what happened, what is known about it, what to try."""
    machine = platform.machine().lower()
    name = f"{part.name} {release or '(not installed)'}"
    sentences = [f"{name}: {problem}."]
    sentences += [f"Known: {one.package} {one.span}, {one.what}." for one in KNOWN if one.fits(part.name, machine)]
    if page_size is not None and page_size > COMMON_PAGE and "process died" in problem:
        sentences.append(f"Memory pages have {page_size // 1024} KiB here; a package built for 4 KiB may crash.")
    if part.without:
        sentences.append(f"Without it: no {part.without}.")
    least = required(part.name) or part.name
    if part.name == "sqlite3":
        sentences.append("Try: a Python whose SQLite is 3.38 or later and has FTS5, as python.org's and Debian 12's.")
    elif release is None:
        sentences.append(f"Try: pip install '{least}'")
    else:
        other = f"{least},!={release}" if "=" in least else f"{least}!={release}"
        sentences.append(f"Try: pip install --upgrade '{least}', or another version: pip install '{other}'")
    return " ".join(sentences)


def required(package: str) -> str | None:
    """What edge-embed requires: required("numpy") -> "numpy>=2.1"; None for a package that it does not require."""
    try:
        lines = requires("edge-embed") or []
    except PackageNotFoundError:
        return None
    for line in lines:
        if "extra ==" not in line and re.match(r"[\w-]+", line.strip()).group() == package:  # type: ignore[union-attr]
            return line.partition(";")[0].replace(" ", "")
    return None


def numbers(release: str) -> tuple[int, ...]:
    """ "1.22.0rc1" -> (1, 22, 0)."""
    found = re.match(r"\d+(\.\d+)*", release)
    return tuple(int(part) for part in found.group().split(".")) if found else ()
