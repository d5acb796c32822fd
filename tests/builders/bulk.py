"""Inputs of bulk runs, workers that are looked for and killed, and what shards hold."""

import contextlib
import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np

WORDS = ["ferry", "island", "cat", "sofa", "river", "bank", "money", "garden", "night", "quiet", "red", "blue", "boat"]


def sentence(number: int) -> str:
    """Another text for each number, of 3 to 12 words."""
    return f"{number} " + " ".join(WORDS[(number * step + step) % len(WORDS)] for step in range(1, 3 + number % 10))


def write_lines(path: Path, numbers: range) -> list[tuple[str, str]]:
    """A JSONL file with a row for each number; keys and texts."""
    rows = [(f"l{number}", sentence(number)) for number in numbers]
    lines = [json.dumps({"id": key, "text": text, "n": int(key[1:])}) for key, text in rows]
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return rows


def write_parquet(path: Path, numbers: range, group: int = 700) -> list[tuple[str, str]]:
    """The same as Parquet, with a column of lists."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [(f"p{number}", sentence(number)) for number in numbers]
    columns = {
        "id": [key for key, _ in rows],
        "text": [text for _, text in rows],
        "tags": [["a", str(n)] for n in numbers],
    }
    pq.write_table(pa.table(columns), path, row_group_size=group)
    return rows


def shards(output: Path) -> list[Path]:
    return sorted(output.glob("part-*.parquet"))


def read(output: Path) -> tuple[list[str], list[str], Any]:
    """Keys, texts and vectors of all shards, in their order; checksums of pages are compared."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    tables = [pq.ParquetFile(path, page_checksum_verification=True).read() for path in shards(output)]
    table = pa.concat_tables([one.select(["key", "text", "vector"]) for one in tables])
    vectors = table.column("vector").combine_chunks()
    numbers = vectors.flatten().to_numpy().reshape(len(vectors), -1)
    return table.column("key").to_pylist(), table.column("text").to_pylist(), np.asarray(numbers)


def actors() -> list[int]:
    """Processes of actors that embed shards, of the cluster that this process started."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                actor = (entry / "cmdline").read_bytes().startswith(b"ray::MapWorker(MapBatches(EmbedShards))")
                if actor and is_below(int(entry.name)):
                    found.append(int(entry.name))
    return found


def is_below(pid: int) -> bool:
    """Whether this process, or one that it started, started that one."""
    while pid > 1:
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        if pid == os.getpid():
            return True
    return False


def kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
