"""What to add, and what came of it."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from edge_embed.files.choosing import Selection
from edge_embed.files.problems import Problem
from edge_embed.files.rows import Reading

# Problems that are kept; further ones are only counted.
MAX_PROBLEMS = 100_000

ChangeKind = Literal["added", "changed", "removed"]


class Change(NamedTuple):
    """A file whose documents were stored or deleted: its path for messages, and how many.

    kind: "added": a file that is new to the index; "removed": one that is gone or excluded; else "changed"
    """

    kind: ChangeKind
    path: str
    stored: int
    deleted: int


@dataclass(frozen=True)
class AddTask:
    """What to add, and how.

    root:         the folder that keys are relative to; None for the one recorded in the index, or the index's folder
    follow_links: follow symbolic links inside folders
    sync:         delete documents whose files under `paths` no longer exist, or are excluded
    strict:       raise SourceError for the first file or row that cannot be read
    selection:    which entries of folders are read
    read_all:     read files also where they are as they were
    allow_empty:  with sync, delete also where one of `paths` is a folder without any entry
    only:         real paths: under `paths`, look at nothing else than these and what lies in them; () for everything
    modalities:   what the index's bundle can embed: "text", "image", "audio"; other files are passed over
    thumbnails:   store small copies of pictures
    changes:      called for each file whose documents were stored or deleted, at the end
    """

    paths: tuple[str, ...]
    reading: Reading = field(default_factory=Reading)
    root: str | None = None
    follow_links: bool = False
    sync: bool = False
    strict: bool = False
    selection: Selection = field(default_factory=Selection)
    read_all: bool = False
    allow_empty: bool = False
    only: tuple[str, ...] = ()
    modalities: frozenset[str] = frozenset({"text"})
    thumbnails: bool = True
    changes: Callable[[Change], None] | None = None


@dataclass
class Added:
    """The result.

    files, bytes, read:  files found, their total size, and documents read from them
    known:               files that were not read, since they are as they were when they were added
    stored, unchanged:   documents that are new or changed, and documents that the index already had
    moved:               documents of files that were renamed, which keep their vectors
    documents:           in the index now
    deleted, gone:       documents whose files no longer exist, or are excluded: deleted with `sync`, otherwise only
                         counted; gone_files: the number of these files
    passed_over:         what was not read, by reason
    notes:               what is worth saying of files that were read, by file: "read as windows-1252"
    problems:            what could not be read or stored; above MAX_PROBLEMS they are counted in problems_left_out
    """

    files: int = 0
    bytes: int = 0
    known: int = 0
    read: int = 0
    stored: int = 0
    unchanged: int = 0
    moved: int = 0
    documents: int = 0
    deleted: int = 0
    gone: int = 0
    gone_files: int = 0
    passed_over: Counter[str] = field(default_factory=Counter)
    notes: dict[str, list[str]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    problems_left_out: int = 0

    def report(self, problem: Problem) -> None:
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(problem)
        else:
            self.problems_left_out += 1
