"""An index that follows files and folders: what changes in them is stored, until somebody ends it."""

import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from edge_embed.files.adding import add_files
from edge_embed.files.captions import related
from edge_embed.files.choosing import GITIGNORE, Choice
from edge_embed.files.formats.filetypes import TEXT
from edge_embed.files.naming import is_under
from edge_embed.files.opening import Opening
from edge_embed.files.problems import CHANGED, Problem, shown
from edge_embed.files.task import Added, AddTask, Change
from edge_embed_runtime.errors import IndexLockedError, SourceError
from edge_embed_runtime.extras import require

# Milliseconds: without a further change until the last ones are stored; at the most, while others come; and between
# looks at what no event tells of: files that were given themselves, and whether folders are still there.
QUIET, MOST, LOOK = 200, 2_000, 500


@dataclass(frozen=True)
class Watching:
    """All that was given is in the index, and is followed. paths: those that are there"""

    paths: tuple[str, ...]
    documents: int


@dataclass(frozen=True)
class Waiting:
    """Nothing can be stored for now. reason: a sentence"""

    reason: str


Event = Change | Problem | Watching | Waiting
# A file's or folder's device and inode; of a file that was given itself also its size and time. None: it is not there.
Identity = tuple[int, ...] | None


def watch_files(task: AddTask, opening: Callable[[], Opening], tell: Callable[[Event], None]) -> None:
    """Store the documents of files, and follow what changes in them. Ends with KeyboardInterrupt, or an error.

    opening: makes what `add_files` takes; the index is open only while something is stored
    tell:    called with each event

    A path that is not there, or no longer, is waited for; its documents are kept. Where another process writes to the
    index, changes wait for it. Raises MissingExtraError without watchfiles, SourceError where the system refuses to
    watch, and otherwise what `add_files` raises, except IndexLockedError.
    """
    require("watchfiles", "files")
    watch = _Watch(task, opening, tell)
    while True:
        watch.follow()


class _Watch:
    def __init__(self, task: AddTask, opening: Callable[[], Opening], tell: Callable[[Event], None]) -> None:
        self._task = replace(task, sync=True, changes=tell)
        self._opening, self._tell = opening, tell
        self._index = str(opening().path)
        self._hidden = bool(Choice(task.selection, lambda _: None).hidden)
        self._waiting = ""  # the reason that was told last

    def follow(self) -> None:
        """Until one of the paths appears, disappears or is another one than before."""
        before = self._identities()
        there = tuple(path for path, found in before.items() if found is not None)
        if missing := [path for path, found in before.items() if found is None]:
            self._wait(f"{', '.join(map(shown, missing))} is not there: waiting for it; its documents are kept")
        folders = [os.path.realpath(path) for path in there if Path(path).is_dir()]
        task = replace(self._task, paths=there)
        changed: set[str] | None = None  # everything
        files = self._files(there)
        for events in _events(folders):
            if self._identities() != before:
                return
            now = self._files(there)
            touched = {os.path.realpath(path) for path, found in now.items() if files.get(path) != found}
            files = now
            if changed is not None:
                changed |= touched
                changed = None if self._asks_for_all(events) else changed | self._wanted(events, folders)
            if there and (changed is None or changed):
                changed = self._add(task, changed)

    def _add(self, task: AddTask, changed: set[str] | None) -> set[str] | None:
        """Store what has changed, None for everything. Returns what is left to do."""
        added = Added()
        try:
            add_files(replace(task, only=tuple(sorted(changed or ()))), self._opening(), added)
        except IndexLockedError as error:
            self._wait(str(error))
            return changed
        again = set[str]()
        for problem in added.problems:
            if problem.reason == CHANGED:  # somebody still writes it
                again.add(os.path.realpath(problem.path))
            else:
                self._tell(problem)
        if changed is None:
            self._tell(Watching(task.paths, added.documents))
        if len(task.paths) == len(self._task.paths):
            self._waiting = ""
        return again

    def _wait(self, reason: str) -> None:
        if reason != self._waiting:
            self._waiting = reason
            self._tell(Waiting(reason))

    def _identities(self) -> dict[str, Identity]:
        found: dict[str, Identity] = {}
        for path in self._task.paths:
            try:
                status = Path(path).stat()
                found[path] = (status.st_dev, status.st_ino) if Path(path).is_dir() else (0,)
            except (OSError, ValueError):
                found[path] = None
        return found

    def _files(self, paths: Iterable[str]) -> dict[str, Identity]:
        """The state of files that were given themselves. Editors put another file in their place."""
        found: dict[str, Identity] = {}
        for path in paths:
            try:
                status = Path(path).stat()
            except OSError:
                continue
            if not Path(path).is_dir():
                found[path] = (status.st_ino, status.st_size, status.st_mtime_ns)
        return found

    def _asks_for_all(self, events: set[str]) -> bool:
        """Whether what changed may concern other files, too."""
        if self._task.follow_links and events:
            return True
        return self._task.selection.gitignore and any(Path(path).name == GITIGNORE for path in events)

    def _wanted(self, events: set[str], folders: list[str]) -> set[str]:
        """Without the index itself, and without hidden files unless an include names some."""
        found = {path for path in events if not path.startswith(self._index)}
        found = found if self._hidden else {path for path in found if not _is_hidden(path, folders)}
        if self._task.modalities <= {TEXT}:
            return found
        return found.union(*map(related, found))


def _is_hidden(path: str, folders: list[str]) -> bool:
    inside = next((os.path.relpath(path, folder) for folder in folders if is_under(path, folder)), path)
    return any(part.startswith(".") for part in Path(inside).parts if part not in (".", ".."))


def _events(folders: list[str]) -> Iterator[set[str]]:
    """The paths that changed since the last look, some at a time; often none."""
    if not folders:
        while True:
            yield set()
            time.sleep(LOOK / 1000)
    from watchfiles import watch

    changes = watch(
        *folders,
        watch_filter=None,
        debounce=MOST,
        step=QUIET,
        rust_timeout=LOOK,
        yield_on_timeout=True,
        ignore_permission_denied=True,
    )
    while True:
        try:
            found = next(changes)
        except FileNotFoundError:  # gone in this moment
            return
        except (OSError, RuntimeError) as error:
            raise SourceError(
                f"{', '.join(map(shown, folders))} cannot be watched: {error}. Linux has a limit on watched folders: "
                "sysctl fs.inotify.max_user_watches"
            ) from error
        yield {path for _, path in found}
