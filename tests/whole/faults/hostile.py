"""Files made to do harm, each opened in a child process with little time and memory.

Tokenizers in bundles with hashes that fit; pipes, devices, folders and what claims to be huge under the names that the
exporter, `load` and `search --vector` read. Each is refused with one of our errors or does its work; nothing hangs, and
nothing outside of the folder of its own changes.
"""

import os
import resource
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from builders.hostile_tokenizers import TEXTS, hostile
from bundles import limit_memory
from children import Child, HangError, Send
from powercut import read_files, write_files
from workload import Bench, Row

from edge_embed import Document, Embedder, Index
from edge_embed.errors import EdgeEmbedError
from edge_embed.files.arrays import read_vector
from edge_embed.files.dump import dump_vectors
from edge_embed.files.load import load_vectors
from edge_embed_export import export_model
from edge_embed_runtime.bundle.bundle import file_records, open_bundle, write_bundle
from edge_embed_runtime.bundle.manifest import TOKENIZER

LIMIT = 30.0  # seconds
TARGET = "untouched.npz"
READ = ("config.json", "tokenizer.json", "model.safetensors", "modules.json", "1_Pooling/config.json", "README.md")


class Case(NamedTuple):
    """A name, and what makes the files in an empty folder and uses them."""

    name: str
    run: Callable[[Path, Bench], None]


def _use_tokenizer(raw: bytes) -> Callable[[Path, Bench], None]:
    def run(folder: Path, bench: Bench) -> None:
        found = open_bundle(bench.bundle)
        contents = {**{name: (bench.bundle / name).read_bytes() for name in found.manifest.files}, TOKENIZER: raw}
        facts: dict[str, Any] = {**vars(found.manifest), "files": file_records(contents), "golden": []}
        write_bundle(folder / "bundle", type(found.manifest)(**facts), contents)
        Embedder(folder / "bundle", threads=1).encode(TEXTS)

    return run


def _large(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(2**40)


OBJECTS: dict[str, Callable[[Path], object]] = {
    "a pipe": os.mkfifo,
    "a folder": Path.mkdir,
    "/dev/zero": lambda path: path.symlink_to("/dev/zero"),
    "the memory": lambda path: path.symlink_to("/proc/self/mem"),
    "a link to nowhere": lambda path: path.symlink_to("nowhere"),
    "a million million bytes": _large,
    "nothing": lambda path: path.write_bytes(b""),
    "noise": lambda path: path.write_bytes(bytes(range(256)) * 16),
    "a deep list": lambda path: path.write_bytes(b"[" * 10**6),
}


def _use_folder(name: str, make: Callable[[Path], object]) -> Callable[[Path, Bench], None]:
    def run(folder: Path, bench: Bench) -> None:
        source = write_files(folder / "source", read_files(bench.folder / "checkpoint"))
        (source / name).unlink(missing_ok=True)
        (source / name).parent.mkdir(exist_ok=True)
        make(source / name)
        export_model(source, folder / "out")

    return run


def _use_vectors(suffix: str, make: Callable[[Path], object]) -> Callable[[Path, Bench], None]:
    def run(folder: Path, bench: Bench) -> None:
        path = folder / f"v{suffix}"
        make(path)
        Index.create(folder / "a.db", space="s", dim=2).close()
        if suffix == ".npy":
            read_vector(path)
        load_vectors(folder / "a.db", path)

    return run


def _use_output(make: Callable[[Path], object]) -> Callable[[Path, Bench], None]:
    def run(folder: Path, bench: Bench) -> None:
        with Index.create(folder / "a.db", space="s", dim=2) as index:
            index.add_vectors([Document("a", "b")], np.ones((1, 2), np.float32))
        make(folder / "out.npz")
        dump_vectors(folder / "a.db", folder / "out.npz", force=True)

    return run


def cases() -> Iterator[Case]:
    for name, raw in hostile():
        yield Case(f"tokenizer: {name}", _use_tokenizer(raw))
    for name in READ:
        for kind, make in OBJECTS.items():
            yield Case(f"export, {name}: {kind}", _use_folder(name, make))
    for suffix in (".npy", ".npz", ".parquet", ".arrow"):
        for kind, make in OBJECTS.items():
            yield Case(f"vectors, {suffix}: {kind}", _use_vectors(suffix, make))
    for kind, make in OBJECTS.items():
        yield Case(f"output: {kind}", _use_output(make))
    yield Case("output: a link", _use_output(lambda path: path.symlink_to(path.parent.parent / TARGET)))


def open_hostile(bench: Bench, row: Row, count: int) -> None:
    """So many cases, spread over all of them."""
    total = sum(1 for _ in cases())
    step = max(1, total // count)
    ends: Counter[str] = Counter()
    for number, case in enumerate(cases()):
        wanted = number % step == step // 2 if bench.only is None else number == bench.only
        if wanted:
            ends[_try(bench, row, number, case)] += 1
    row.notes.append(", ".join(f"{count} {end}" for end, count in ends.most_common()))


def _try(bench: Bench, row: Row, number: int, case: Case) -> str:
    folder, untouched = bench.fresh(), bench.folder / TARGET
    untouched.write_bytes(b"untouched")

    def work(send: Send) -> None:
        for stream in (1, 2):  # panics are written there
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
        limit_memory()
        resource.setrlimit(resource.RLIMIT_CPU, (int(LIMIT), int(LIMIT) + 1))
        try:
            case.run(folder, bench)
            send("used")
        except EdgeEmbedError as error:
            send(type(error).__name__)

    child, row.runs = Child(work), row.runs + 1
    try:
        said = list(child.messages(LIMIT))
    except HangError:
        row.fail("hangs", f"case {number} ({case.name})", f"no answer for {LIMIT:.0f} s")
        return "hangs"
    if child.crashed or not said:
        row.fail("crashes", f"case {number} ({case.name})", (child.crashed or "said nothing").strip()[-300:])
        return "crashes"
    if untouched.read_bytes() != b"untouched":
        row.fail("wrong", f"case {number} ({case.name})", "a file outside was written")
    return str(said[0])
