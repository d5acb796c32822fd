"""Which entries of folders are read, as --include, --exclude and .gitignore files say."""

import os
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path

from edge_embed.files.patterns import Patterns
from edge_embed.files.problems import Problem, Report, shown
from edge_embed_runtime.errors import EdgeEmbedError, InputError
from edge_embed_runtime.system.files import open_regular

GITIGNORE, REPOSITORY = ".gitignore", ".git"
# The file of a repository that names what no .gitignore does.
GIT_EXCLUDE = os.path.join("info", "exclude")  # noqa: PTH118 - a part of a path
MAX_PATTERN_BYTES = 2**20
EXCLUDED, IGNORED, NOT_INCLUDED, HIDDEN = "excluded", "ignored by git", "not included", "hidden"
# Of entries for these reasons, --sync deletes the documents: somebody said that they are not wanted.
UNWANTED = (EXCLUDED, IGNORED)


@dataclass(frozen=True)
class Selection:
    """include:   patterns, one of which must name an entry or a folder that it lies in; () for all that is not hidden
    exclude:   patterns of what is not read
    gitignore: also pass over what git would
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    gitignore: bool = False


class Choice:
    """A selection, made ready for a walk. Raises InputError for what is no pattern."""

    def __init__(self, selection: Selection, report: Report) -> None:
        self.report, self.gitignore = report, selection.gitignore
        self.include, self.exclude = _patterns("include", selection.include), _patterns("exclude", selection.exclude)
        parts = {part for pattern in selection.include for part in pattern.lstrip("!").split("/")}
        self.hidden = tuple(part for part in parts if part.startswith("."))

    def top(self, real: str) -> "Level":
        """The level of a folder that was given: absolute, without links."""
        level = Level(self, real, "", included=not self.include)
        return level.with_git(_git_above(real, self.report)) if self.gitignore else level


@dataclass(frozen=True)
class _Ignoring:
    """The patterns of a file, and the length of the path of their folder with its last separator."""

    patterns: Patterns
    length: int


@dataclass(frozen=True)
class Level:
    """What is known inside one folder of a walk.

    real:     the folder, absolute and without links; links inside that are followed do not change it
    within:   its path under the folder that was given, "" or as "a/b/"
    included: whether an include names it, or a folder that it lies in
    git:      the patterns of .gitignore files from here upwards, the nearest last
    """

    choice: Choice
    real: str
    within: str
    included: bool
    git: tuple[_Ignoring, ...] = field(default=())

    def with_git(self, above: tuple[_Ignoring, ...]) -> "Level":
        """With the patterns of the folders above, and those of this one."""
        own = _read(f"{self.real.rstrip(os.sep)}{os.sep}{GITIGNORE}", self.real, self.choice.report)
        return replace(self, git=above if own is None else (*above, own))

    def inside(self, name: str) -> "Level":
        """The level of a folder in this one."""
        real = f"{self.real.rstrip(os.sep)}{os.sep}{name}"
        within, choice = f"{self.within}{name}/", self.choice
        said = choice.include.says(within[:-1], folder=True)
        level = Level(choice, real, within, self.included if said is None else said)
        if not choice.gitignore:
            return level
        return level.with_git(_of_repository(real, choice.report) if _is_repository(real) else self.git)

    def refuses(self, name: str, *, folder: bool) -> str | None:
        """Why an entry is not read; None where it is."""
        choice, path = self.choice, f"{self.within}{name}"
        if name.startswith(".") and not any(fnmatchcase(name, part) for part in choice.hidden):
            return HIDDEN
        excluded = choice.exclude.says(path, folder=folder)
        if excluded:
            return EXCLUDED
        if excluded is None and self.git and self._is_ignored(name, folder=folder):
            return IGNORED
        if folder or not choice.include:
            return None
        said = choice.include.says(path, folder=False)
        return None if (self.included if said is None else said) else NOT_INCLUDED

    def _is_ignored(self, name: str, *, folder: bool) -> bool:
        path = f"{self.real.rstrip(os.sep)}{os.sep}{name}"
        for ignoring in reversed(self.git):
            said = ignoring.patterns.says(path[ignoring.length :].replace(os.sep, "/"), folder=folder)
            if said is not None:
                return said
        return False


def _patterns(option: str, lines: tuple[str, ...]) -> Patterns:
    try:
        return Patterns(lines)
    except InputError as error:
        raise InputError(f"--{option}: {error}", option=option) from None


def _is_repository(real: str) -> bool:
    return os.path.lexists(os.path.join(real, REPOSITORY))  # noqa: PTH118 - once a folder


def _git_above(real: str, report: Report) -> tuple[_Ignoring, ...]:
    """The patterns of the folders above one, from its repository down; outside of a repository none."""
    folders = [real]
    while not _is_repository(folders[-1]):
        above = os.path.dirname(folders[-1])  # noqa: PTH120
        if above == folders[-1]:
            return ()
        folders.append(above)
    found = list(_of_repository(folders[-1], report))
    for folder in reversed(folders[1:]):
        own = _read(os.path.join(folder, GITIGNORE), folder, report)  # noqa: PTH118
        found += [own] if own is not None else []
    return tuple(found)


def _of_repository(real: str, report: Report) -> tuple[_Ignoring, ...]:
    """The patterns that a repository keeps outside of .gitignore files."""
    own = _read(os.path.join(real, REPOSITORY, GIT_EXCLUDE), real, report)  # noqa: PTH118
    return () if own is None else (own,)


def _read(file: str, folder: str, report: Report) -> _Ignoring | None:
    """The patterns of a file for the entries of a folder; None where it is not there or has none. As git does, a
    .gitignore that is a link is passed over."""
    if not os.path.lexists(file) or Path(file).is_symlink():
        return None
    try:
        with open_regular(file) as opened:
            raw = opened.read(MAX_PATTERN_BYTES + 1)
    except (EdgeEmbedError, OSError) as error:
        report(Problem(shown(file), None, f"cannot be read: {' '.join(str(error).split())}"))
        return None
    if len(raw) > MAX_PATTERN_BYTES:
        report(Problem(shown(file), None, f"is not used: it is longer than {MAX_PATTERN_BYTES:,} bytes"))
        return None
    lines = raw.decode("utf-8-sig", "surrogateescape").split("\n")
    patterns = Patterns(lines, lambda number, reason: report(Problem(shown(file), number, reason)))
    return _Ignoring(patterns, len(folder.rstrip(os.sep)) + 1) if patterns else None
