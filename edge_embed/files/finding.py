"""Which files to read among the paths that were given, and what was skipped."""

import os
import stat
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from edge_embed.files.captions import TABLES, sidecars, tables_of
from edge_embed.files.choosing import NOT_INCLUDED, UNWANTED, Choice, Level, Selection
from edge_embed.files.formats.filetypes import TEXT, modality_of, some_suffixes
from edge_embed.files.naming import folders_above, is_under
from edge_embed.files.problems import Problem, Report, refuse, shown

# Reasons that are counted separately.
MAX_REASONS = 50

VANISHED = "gone since it was listed"
CAPTION = "captions of other files"
# Files that a bundle cannot embed, by what it had to read for that.
NO_TOWER = {
    "image": "pictures (the bundle has no image tower)",
    "audio": "sounds (the bundle has no audio tower)",
    TEXT: "texts (the bundle has no text tower)",
}


class Folder(NamedTuple):
    """A folder with files, which share it. path: as it was given, for messages; real: absolute, without links; mount:
    the real folder at or under the one that was given on which another disk is mounted, "" for none; tables: the real
    paths of tables of captions in it and in those above it."""

    path: str
    real: str
    mount: str = ""
    tables: tuple[str, ...] = ()


class FoundFile(NamedTuple):
    """real_name: absolute, without links, where that is not the name in the real folder; size in bytes; sidecars: the
    names of files in the same folder that hold its caption."""

    folder: Folder
    name: str
    real_name: str | None
    size: int
    sidecars: tuple[str, ...] = ()

    @property
    def path(self) -> Path:
        """As it was given, for messages."""
        return Path(self.folder.path, self.name)

    @property
    def real(self) -> str:
        """Absolute, without links."""
        return _join(self.folder.real, self.name) if self.real_name is None else self.real_name


@dataclass
class Found:
    """Files to read in order, each once, and what else was found.

    passed_over: numbers of entries of folders that are not read, by reason
    places:      the files and folders that were given and are readable, absolute and without links; of a folder only
                 those of `Search.only` in it
    empty:       the folders among them without a file to read
    bare:        the real folders among them without any entry, as where a disk was mounted
    unwanted:    real files and folders that are excluded, that git ignores, or that are captions of other files
    given:       the paths that were given, by the real ones
    """

    files: list[FoundFile] = field(default_factory=list)
    passed_over: Counter[str] = field(default_factory=Counter)
    places: list[str] = field(default_factory=list)
    empty: list[Path] = field(default_factory=list)
    bare: list[str] = field(default_factory=list)
    unwanted: set[str] = field(default_factory=set)
    given: dict[str, Path] = field(default_factory=dict)

    def shown(self, place: str) -> str:
        """A real path as it would be given, for messages."""
        real = next((real for real in self.given if is_under(place, real)), None)
        return shown(place if real is None else Path(self.given[real], os.path.relpath(place, real)))


@dataclass(frozen=True)
class Search:
    """How to look for files.

    follow_links: follow symbolic links inside folders; a link that is given itself is always followed
    index:        the absolute path of the index; neither it nor files whose names begin with it are counted
    selection:    which entries of folders are read; a file that is given itself always is
    only:         real paths: of folders nothing else is looked at than these, and what lies in them; () for everything
    modalities:   what the index can embed
    """

    follow_links: bool = False
    index: str | None = None
    selection: Selection = field(default_factory=Selection)
    only: tuple[str, ...] = ()
    modalities: frozenset[str] = frozenset({TEXT})


def find_files(paths: Iterable[str], *, follow_links: bool = False) -> list[Path]:
    """Readable files among the paths and, in order of name, inside the folders among them, without hidden ones.

    Raises SourceError for a path or a folder that cannot be read, and for a folder without a file to read.
    """
    found = find(paths, refuse, Search(follow_links))
    for folder in found.empty:
        refuse(holds_nothing(folder))
    return [file.path for file in found.files]


def holds_nothing(folder: Path) -> Problem:
    return Problem(shown(folder), None, f"holds no file of a known type; expected {some_suffixes()}")


def find(paths: Iterable[str], report: Report, search: Search | None = None) -> Found:
    """The files to read. Other paths are reported if they were given themselves, and counted inside folders."""
    walk = _Walk(list(paths), report, search or Search())
    return walk.run()


class _Visit(NamedTuple):
    """A folder in the middle of a walk. whole: whether all of it is wanted, of `Search.only`; sidecars: of its pictures
    and sounds, by their names; captions: the names of these, and of tables."""

    folder: Folder
    device: int
    level: Level
    whole: bool
    entries: Iterator["os.DirEntry[str]"]
    sidecars: dict[str, tuple[str, ...]]
    captions: frozenset[str]


class _Walk:
    def __init__(self, paths: list[str], report: Report, search: Search) -> None:
        self._paths, self._report, self._search = paths, report, search
        self._found = Found()
        self._choice = Choice(search.selection, report)
        self._media = search.modalities - {TEXT}
        self._only = set(search.only)
        self._above = {above for path in search.only for above in folders_above(path)}
        # files that were taken, where one may be met twice; of one folder without links none is
        self._taken: set[str] | None = set() if len(paths) > 1 or search.follow_links else None
        self._folders: set[tuple[int, int]] = set()  # device and inode: links may form a circle
        self._captions: set[str] = set()  # of files that were given themselves, and the tables of their folders
        self._tables: dict[str, tuple[str, ...]] = {}

    def run(self) -> Found:
        for path in map(Path, self._paths):
            self._look_at(path)
        if self._captions:
            self._found.files = [file for file in self._found.files if file.real not in self._captions]
        return self._found

    def _given_file(self, path: Path, real: str, size: int, modality: str) -> FoundFile:
        """A file that was given itself. Its captions are read with it, and where they were given, too, not again."""
        folder = str(path.parent)
        if modality == TEXT:
            return FoundFile(Folder(folder, ""), path.name, real, size)
        names = sidecars(path.name, folder, lambda name: Path(folder, name).is_file())
        if folder not in self._tables:
            there = {name for name in TABLES if Path(folder, name).is_file()}
            self._tables[folder] = tables_of(os.path.realpath(folder), there)
        tables = self._tables[folder]
        self._captions.update(tables, (os.path.realpath(Path(folder, name)) for name in names))
        return FoundFile(Folder(folder, "", tables=tables), path.name, real, size, names)

    def _look_at(self, path: Path) -> None:
        """A path that was given."""
        try:
            status, real = path.stat(), os.path.realpath(path)
        except FileNotFoundError:
            self._report(Problem(shown(path), None, "does not exist"))
        except (OSError, ValueError) as error:
            self._report(Problem(shown(path)[:200], None, f"cannot be read: {_reason(error)}"))
        else:
            self._found.given[real] = path
            if stat.S_ISDIR(status.st_mode):
                self._look_inside(path, real)
            elif (modality := modality_of(path.name)) is not None and stat.S_ISREG(status.st_mode):
                self._found.places.append(real)
                if modality in self._search.modalities:
                    self._take(self._given_file(path, real, status.st_size, modality))
                else:
                    self._report(Problem(shown(path), None, f"is one of the {NO_TOWER[modality]}"))
            else:
                reason = f"is not a folder or a file of a known type; expected {some_suffixes()}"
                self._report(Problem(shown(path), None, reason))

    def _look_inside(self, path: Path, real: str) -> None:
        """A folder that was given, and all folders in it; without recursion, as they may be thousands deep."""
        before, unread = len(self._found.files), self._found.passed_over["unreadable folder"]
        visit = self._visit(Folder(str(path), real), self._choice.top(real), None)
        if visit is None:
            return
        self._found.places += [place for place in self._search.only if is_under(place, real)] if self._only else [real]
        entries, visits = 0, [visit]
        while visits:
            entry = next(visits[-1].entries, None)
            if entry is None:
                visits.pop()
                continue
            entries += 1
            inner = self._enter(visits[-1], entry)
            visits += [] if inner is None else [inner]
        if not entries and not self._only:
            self._found.bare.append(real)
        if len(self._found.files) == before and self._found.passed_over["unreadable folder"] == unread:
            self._found.empty.append(path)

    def _enter(self, visit: _Visit, entry: "os.DirEntry[str]") -> _Visit | None:
        """Take or count an entry; of a folder, the visit to it."""
        folder, name = visit.folder, entry.name
        kind = CAPTION if name in visit.captions else self._kind(visit.level, entry)
        followed = kind in ("folder", "file") and entry.is_symlink()
        linked = os.path.realpath(_join(folder.path, name)) if followed else None
        if kind == "folder":
            inner = folder._replace(path=_join(folder.path, name), real=linked or _join(folder.real, name))
            return self._visit(inner, visit.level.inside(name), visit)
        if kind == "file":
            try:
                size = entry.stat().st_size
            except OSError:
                kind = VANISHED
            else:
                self._take(FoundFile(folder, name, linked, size, visit.sidecars.get(name, ())))
                return None
        real = _join(folder.real, name)
        if kind in (*UNWANTED, CAPTION):
            self._found.unwanted.add(real)
        if self._search.index is None or not real.startswith(self._search.index):
            self._found.passed_over[kind] += 1
        return None

    def _visit(self, folder: Folder, level: Level, above: _Visit | None) -> _Visit | None:
        """None for a folder that was visited, or cannot be read."""
        whole = not self._only or (above is not None and above.whole) or folder.real in self._only
        try:
            status = os.stat(folder.path)  # noqa: PTH116 - once a folder
            if (status.st_dev, status.st_ino) in self._folders:
                self._found.places += [folder.real] if above is None else []
                return None
            with os.scandir(folder.path) as found:
                wanted = (e for e in found if whole or self._media or self._is_wanted(_join(folder.real, e.name)))
                entries = sorted(wanted, key=lambda entry: entry.name)
        except FileNotFoundError as error:
            if above is None:
                self._report(Problem(shown(folder.path), None, f"cannot be read: {_reason(error)}"))
            self._found.passed_over[VANISHED] += 1
            return None
        except OSError as error:
            self._found.passed_over["unreadable folder"] += 1
            self._report(Problem(shown(folder.path), None, f"cannot be read: {_reason(error)}"))
            return None
        self._folders.add((status.st_dev, status.st_ino))
        if os.path.ismount(folder.path) if above is None else status.st_dev != above.device:
            folder = folder._replace(mount=folder.real)
        beside, tables = self._captions_of(folder, level, entries)
        folder = folder._replace(tables=(*tables, *folder.tables)) if tables else folder
        captions = frozenset(name for names in beside.values() for name in names)
        captions |= {os.path.basename(table) for table in tables}  # noqa: PTH119 - once a table
        if self._media and not whole:
            entries = [entry for entry in entries if self._is_wanted(_join(folder.real, entry.name))]
        return _Visit(folder, status.st_dev, level, whole, iter(entries), beside, captions)

    def _captions_of(
        self, folder: Folder, level: Level, entries: list["os.DirEntry[str]"]
    ) -> tuple[dict[str, tuple[str, ...]], tuple[str, ...]]:
        """The names of captions in a folder by the names of its pictures and sounds, and its tables of captions."""
        if not self._media:
            return {}, ()
        there = {entry.name: entry for entry in entries}

        def usable(name: str) -> bool:
            return name in there and self._is_taken(level, there[name])

        files = [name for name in there if modality_of(name) in self._media and usable(name)]
        found = {name: sidecars(name, folder.path, usable) for name in files}
        tables = tables_of(folder.real, {name for name in TABLES if usable(name)})
        return {name: names for name, names in found.items() if names}, tables

    def _is_taken(self, level: Level, entry: "os.DirEntry[str]") -> bool:
        """Whether a file is not left out, but for an include that does not name it."""
        if entry.is_symlink() and not self._search.follow_links:
            return False
        return level.refuses(entry.name, folder=False) in (None, NOT_INCLUDED) and not entry.is_dir()

    def _is_wanted(self, real: str) -> bool:
        return real in self._only or real in self._above

    def _kind(self, level: Level, entry: "os.DirEntry[str]") -> str:
        """What it is: "folder", "file" for a file to read, else the reason why it is skipped."""
        try:
            folder = entry.is_dir()
            refused = level.refuses(entry.name, folder=folder)
            if refused is None and entry.is_symlink() and not self._search.follow_links:
                refused = "link"
            regular = refused is None and not folder and stat.S_ISREG(entry.stat().st_mode)
        except OSError as error:  # a link to nothing, or a file that was just deleted
            gone = VANISHED if isinstance(error, FileNotFoundError) else f"cannot be looked at ({_reason(error)})"
            return "link to nothing" if entry.is_symlink() else gone
        if refused is not None or folder:
            return refused or "folder"
        if not regular:
            return "not a regular file"
        modality = modality_of(entry.name)
        if modality is None:
            return self._type(entry.name)
        return "file" if modality in self._search.modalities else NO_TOWER[modality]

    def _type(self, name: str) -> str:
        """The reason for a file of an unknown type, with its suffix; after MAX_REASONS the others share one."""
        ending = shown(Path(name).suffix.lower())[:20] or "without an ending"
        reason = f"unknown type {ending if ending.isprintable() else ascii(ending)}"
        known = reason in self._found.passed_over or len(self._found.passed_over) < MAX_REASONS
        return reason if known else "other unknown types"

    def _take(self, file: FoundFile) -> None:
        if self._taken is not None:
            if file.real in self._taken:
                return
            self._taken.add(file.real)
        try:
            file.real.encode()
        except UnicodeEncodeError:
            self._report(Problem(shown(file.path), None, "cannot be stored: the file's name is not UTF-8; rename it"))
        else:
            self._found.files.append(file)


def _join(folder: str, name: str) -> str:
    return name if folder == "." else f"{folder.rstrip(os.sep)}{os.sep}{name}"


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
