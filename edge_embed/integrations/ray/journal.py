"""The output folder of a bulk run: its lock, its plan, and which shards are finished."""

import json
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from edge_embed.files.shards import DONE, PLAN, TEMPORARY, Finished, ShardFacts, finished, read_plan
from edge_embed.integrations.ray.inputs import Counted, File
from edge_embed.integrations.ray.reading import Piece
from edge_embed_runtime.errors import IndexLockedError, InputError, StorageError
from edge_embed_runtime.system.lock import WriterLock
from edge_embed_runtime.system.writing import replacing, sync_folder

# Files whose content is compared with its hash at a time when a run goes on.
CHECKS = 4
LOCK = ".edge_embed"


@contextmanager
def locked(output: Path) -> Iterator[None]:
    """The folder for this run alone, which is made if it is missing. Raises IndexLockedError, InputError."""
    if output.exists() and not output.is_dir():
        raise InputError(f"{output} is a file, expected a folder for shards", path=output)
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"{output} cannot be made: {error.strerror}", path=output, cause=error) from error
    strangers = [path.name for path in output.iterdir() if not path.name.startswith((LOCK, "_edge_embed"))]
    if strangers and not (output / PLAN).exists():
        raise InputError(
            f"{output} holds {strangers[0]!r} and no plan of a run: give a new or empty folder",
            path=output,
            code="output_exists",
        )
    try:
        lock = WriterLock(output / LOCK)
    except IndexLockedError as error:
        who = f" (process {error.pid})" if error.pid else ""
        raise IndexLockedError(
            f"{output} is being written by another run{who}: wait for its end, or give another OUTPUT",
            path=output,
            pid=error.pid,
        ) from None
    try:
        lock.give_reserve()  # which is for indexes
        yield
    finally:
        lock.release()


class Journal:
    """Plan and finished shards of the run in a folder that is locked."""

    def __init__(self, output: Path) -> None:
        self.output = output
        self.plan: dict[str, Any] = read_plan(output) or {}  # empty for a new run
        self.done: dict[int, Finished] = {}
        self.broken: list[Finished] = []

    def begin(self, facts: ShardFacts, asked: dict[str, Any], counted: Sequence[Counted], shards: list[Any]) -> None:
        """Write the plan of a new run."""
        self.plan = {
            "facts": asdict(facts),
            "columns": asked,
            "inputs": [one.as_json() for one in counted],
            "shards": shards,
        }
        with replacing(self.output / PLAN, 0o666) as file:
            file.write(json.dumps(self.plan).encode())

    def check(self, facts: ShardFacts, asked: dict[str, Any], files: Sequence[File], rows: int | None) -> None:
        """Raise InputError where the run that is to go on was another one."""
        hint = "go on with what it began with, or give another OUTPUT"
        self._check_facts(facts, hint)
        if self.plan["columns"] != asked:
            raise InputError(
                f"{self.output} holds a run with the columns {self.plan['columns']}, not {asked}: {hint}",
                path=self.output,
            )
        self._check_inputs(files, hint)
        most = max((shard["rows"] for shard in self.plan["shards"]), default=0)
        if rows is not None and rows < most:
            raise InputError(
                f"{self.output} holds a run with {most} rows a shard: leave --rows-per-shard out, or give another "
                "OUTPUT",
                path=self.output,
                option="rows_per_shard",
            )

    def _check_facts(self, facts: ShardFacts, hint: str) -> None:
        try:
            before = ShardFacts.of(self.plan["facts"])
        except (KeyError, ValueError, TypeError) as error:
            raise InputError(f"{self.output / PLAN}: {error}", path=self.output) from error
        prints = (before.fingerprint, facts.fingerprint)
        if prints[0] != prints[1]:
            raise InputError(
                f"{self.output} holds a run with bundle {before.bundle!r}, not {facts.bundle!r} (fingerprints "
                f"{prints[0][:8]} and {prints[1][:8]}): {hint}",
                path=self.output,
                option="bundle",
            )
        for name in ("engine", "dim", "dtype", "role", "prompt"):
            old, new = getattr(before, name), getattr(facts, name)
            if old != new:
                raise InputError(
                    f"{self.output} holds a run with {name} {old!r}, not {new!r}: {hint}",
                    path=self.output,
                    option=name,
                )

    def _check_inputs(self, files: Sequence[File], hint: str) -> None:
        before = {one["name"]: one for one in self.plan["inputs"]}
        now = {file.name: file for file in files}
        for name in sorted(before.keys() ^ now.keys()):
            what = "is no input of" if name in now else "is missing, which is an input of"
            raise InputError(f"{name} {what} the run in {self.output}: {hint}", path=name)
        for name, one in before.items():
            status = now[name].path.stat()
            if (status.st_size, status.st_mtime_ns) != (one["bytes"], one["changed_ns"]):
                raise InputError(
                    f"{now[name].path} has changed since the run in {self.output} began: {hint}", path=now[name].path
                )
            one["path"] = str(now[name].path)  # which may lie elsewhere now

    def clean(self) -> None:
        """Remove what killed runs left, and compare each finished shard with its hash: the others are made again."""
        self.sweep()
        (self.output / TEMPORARY).mkdir(exist_ok=True)
        self._end_line()
        known = finished(self.output)
        with ThreadPoolExecutor(CHECKS) as pool:
            for one, whole in zip(known, pool.map(lambda one: one.is_whole(self.output), known), strict=True):
                if whole:
                    self.done[one.shard] = one
                else:
                    self.broken.append(one)

    def sweep(self) -> None:
        """Remove what workers that were killed left."""
        folder = self.output / TEMPORARY
        for path in folder.glob("*"):
            with suppress(OSError):
                path.unlink()
        with suppress(OSError):
            folder.rmdir()

    def _end_line(self) -> None:
        """Cut off the half of a line that a killed run wrote last."""
        path = self.output / DONE
        if not path.exists():
            return
        with path.open("r+b") as file:
            content = file.read()
            file.truncate(content.rfind(b"\n") + 1)
            os.fsync(file.fileno())

    def pieces(self) -> list[Piece]:
        """The input of each shard that is not finished."""
        found = []
        for number, shard in enumerate(self.plan["shards"]):
            if number not in self.done:
                one = self.plan["inputs"][shard["file"]]
                found.append(
                    Piece(
                        number=number,
                        path=str(Path(one["path"]).absolute()),
                        name=one["name"],
                        first=shard["first"],
                        rows=shard["rows"],
                        bytes=one["bytes"],
                        changed_ns=one["changed_ns"],
                        at=shard.get("at"),
                    )
                )
        return found

    @property
    def rows(self) -> list[int]:
        """Rows of the input of each shard."""
        return [shard["rows"] for shard in self.plan["shards"]]

    def commit(self, temporary: str, one: Finished) -> None:
        """Give a shard its name, then write down that it is finished: both are on disk when this returns.

        Only the driver does this, under the lock: a worker of a killed run that still writes can reach no shard.
        """
        try:
            (self.output / TEMPORARY / temporary).replace(self.output / one.name)
            sync_folder(self.output)
            with (self.output / DONE).open("ab") as file:
                file.write(json.dumps(asdict(one)).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
            sync_folder(self.output)
        except OSError as error:
            raise StorageError(
                f"{self.output / one.name} could not be written: {error.strerror}", path=self.output, cause=error
            ) from error
        self.done[one.shard] = replace(one, problems=[])  # which may be many


def name_of(number: int) -> str:
    """7 -> "part-000007.parquet"."""
    return f"part-{number:06}.parquet"
