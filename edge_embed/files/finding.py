"""Which files to read among the paths that were given, and what was skipped."""

import os
import stat
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from edge_embed.files.formats.known import SUFFIXES, some_suffixes
from edge_embed.files.problems import Problem, Report, refuse, shown

# Reasons that are counted separately.
MAX_REASONS = 50


@dataclass(frozen=True)
class FoundFile:
    """path: as it was given, for messages; real: absolute, without links; size in bytes."""

    path: Path
    real: str
    size: int


@dataclass
class Found:
    """Files to read in order, each once, and what else was found.

    passed_over: numbers of entries of folders that are not read, by reason
    places:      the files and folders that were given and are readable, absolute and without links
    empty:       the folders among them without a file to read
    """

    files: list[FoundFile] = field(default_factory=list)
    passed_over: Counter[str] = field(default_factory=Counter)
    places: list[str] = field(default_factory=list)
    empty: list[Path] = field(default_factory=list)


def find_files(paths: Iterable[str], *, follow_links: bool = False) -> list[Path]:
    """Readable files among the paths and, in order of name, inside the folders among them, without hidden ones.

    Raises SourceError for a path or a folder that cannot be read, and for a folder without a file to read.
    """
    found = find(paths, refuse, follow_links=follow_links)
    for folder in found.empty:
        refuse(holds_nothing(folder))
    return [file.path for file in found.files]


def holds_nothing(folder: Path) -> Problem:
    return Problem(shown(folder), None, f"holds no file of a known type; expected {some_suffixes()}")


def find(paths: Iterable[str], report: Report, *, follow_links: bool = False, index: str | None = None) -> Found:
    """The files to read. Other paths are reported if they were given themselves, and counted inside folders.

    follow_links: follow symbolic links inside folders; a link that is given itself is always followed
    index:        the absolute path of the index; neither it nor files whose names begin with it are counted
    """
    search = _Search(report, follow_links, index)
    for given in paths:
        search.look_at(Path(given))
    return search.found


class _Search:
    def __init__(self, report: Report, follow_links: bool, index: str | None) -> None:
        self.found = Found()
        self._report, self._follow, self._index = report, follow_links, index
        self._files: set[str] = set()
        self._folders: set[tuple[int, int]] = set()  # device and inode: links may form a circle

    def look_at(self, path: Path) -> None:
        """A path that was given."""
        try:
            status, real = path.stat(), os.path.realpath(path)
        except FileNotFoundError:
            self._report(Problem(shown(path), None, "does not exist"))
        except (OSError, ValueError) as error:
            self._report(Problem(shown(path)[:200], None, f"cannot be read: {_reason(error)}"))
        else:
            if stat.S_ISDIR(status.st_mode):
                self._look_inside(path, real)
            elif path.suffix.lower() in SUFFIXES and stat.S_ISREG(status.st_mode):
                self.found.places.append(real)
                self._take(path, real, status.st_size)
            else:
                reason = f"is not a folder or a file of a known type; expected {some_suffixes()}"
                self._report(Problem(shown(path), None, reason))

    def _look_inside(self, path: Path, real: str) -> None:
        """A folder that was given, and all folders in it; without recursion, as they may be thousands deep."""
        files, waiting, readable = 0, self._entries(path, real), True
        if waiting is None:
            return
        self.found.places.append(real)
        while waiting:
            inner, its_real, entry = waiting.pop()
            kind = self._kind(inner, entry)
            if kind == "folder":
                its_real = os.path.realpath(inner) if entry.is_symlink() else its_real
                entries = self._entries(inner, its_real)
                readable = readable and entries is not None
                waiting += entries or ()
            elif kind == "file":
                files += 1
                its_real = os.path.realpath(inner) if entry.is_symlink() else its_real
                self._take(inner, its_real, entry.stat().st_size)
            elif self._index is None or not its_real.startswith(self._index):
                self.found.passed_over[kind] += 1
        if not files and readable:
            self.found.empty.append(path)

    def _entries(self, folder: Path, real: str) -> list[tuple[Path, str, "os.DirEntry[str]"]] | None:
        """The entries of a folder, the last by name first; None if it cannot be read."""
        try:
            status = folder.stat()
            if (status.st_dev, status.st_ino) in self._folders:
                return []
            with os.scandir(folder) as found:
                entries = sorted(found, key=lambda entry: entry.name, reverse=True)
        except OSError as error:
            self.found.passed_over["unreadable folder"] += 1
            self._report(Problem(shown(folder), None, f"cannot be read: {_reason(error)}"))
            return None
        self._folders.add((status.st_dev, status.st_ino))
        return [(folder / entry.name, f"{real.rstrip(os.sep)}{os.sep}{entry.name}", entry) for entry in entries]

    def _kind(self, path: Path, entry: "os.DirEntry[str]") -> str:
        """What it is: "folder", "file" for a file to read, else the reason why it is skipped."""
        if entry.name.startswith("."):
            return "hidden"
        try:
            if entry.is_symlink() and not self._follow:
                return "link"
            if entry.is_dir():
                return "folder"
            known = path.suffix.lower() in SUFFIXES
            mode = entry.stat().st_mode
        except OSError as error:  # a link to nothing, or a file that was just deleted
            return "link to nothing" if entry.is_symlink() else f"cannot be looked at ({_reason(error)})"
        if not stat.S_ISREG(mode):
            return "not a regular file"
        return "file" if known else self._type(path)

    def _type(self, path: Path) -> str:
        """The reason for a file of an unknown type, with its suffix; after MAX_REASONS the others share one."""
        ending = shown(path.suffix.lower())[:20] or "without an ending"
        reason = f"unknown type {ending if ending.isprintable() else ascii(ending)}"
        known = reason in self.found.passed_over or len(self.found.passed_over) < MAX_REASONS
        return reason if known else "other unknown types"

    def _take(self, path: Path, real: str, size: int) -> None:
        if real in self._files:
            return
        self._files.add(real)
        try:
            real.encode()
        except UnicodeEncodeError:
            self._report(Problem(shown(path), None, "cannot be stored: the file's name is not UTF-8; rename it"))
        else:
            self.found.files.append(FoundFile(path, real, size))


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
