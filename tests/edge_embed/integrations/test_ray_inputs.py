"""What a worker reads of files of a bulk run, and what it holds at a time; without a cluster."""

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.frameworks
pytest.importorskip("pyarrow.parquet")
pytest.importorskip("ray")

import pyarrow as pa
import pyarrow.parquet as pq

from edge_embed import Embedder
from edge_embed.errors import SourceError
from edge_embed.files.shards import DONE, TEMPORARY, Finished, ShardFacts, finished
from edge_embed.integrations.ray.columns import Asked
from edge_embed.integrations.ray.inputs import find
from edge_embed.integrations.ray.keys import Keys
from edge_embed.integrations.ray.reading import READ_BYTES, READ_ROWS, Piece, Rows
from edge_embed.integrations.ray.worker import GROUP_BYTES, EmbedShards, Job, hash_of


def piece(path: Path, rows: int, at: int | None = None) -> Piece:
    status = path.stat()
    return Piece(0, str(path), path.name, 0, rows, status.st_size, status.st_mtime_ns, at)


def wide(path: Path, rows: int, each: int) -> None:
    """Texts beside a column of so many bytes in each row, in one row group."""
    pictures = pa.array([os.urandom(each) for _ in range(rows)])
    pq.write_table(pa.table({"text": [f"text {n}" for n in range(rows)], "picture": pictures}), path)


def test_large_rows_are_read_a_few_at_a_time(tmp_path: Path) -> None:
    """What a batch holds is bounded by bytes, whatever the other columns and fields are."""
    wide(tmp_path / "a.parquet", 300, 100_000)
    batches = list(Rows(piece(tmp_path / "a.parquet", 300), Asked()).batches())
    assert sum(len(batch.keys) for batch in batches) == 300
    assert max(batch.others.nbytes for batch in batches) <= READ_BYTES
    lines = (json.dumps({"text": f"text {n}", "page": "x" * 100_000}) + "\n" for n in range(300))
    (tmp_path / "a.jsonl").write_text("".join(lines))
    batches = list(Rows(piece(tmp_path / "a.jsonl", 300, 0), Asked()).batches())
    assert sum(len(batch.keys) for batch in batches) == 300
    assert max(sum(map(len, batch.others)) for batch in batches) <= READ_BYTES
    pq.write_table(pa.table({"text": ["a"] * 600}), tmp_path / "small.parquet")
    batches = list(Rows(piece(tmp_path / "small.parquet", 600), Asked()).batches())
    assert [len(batch.keys) for batch in batches] == [READ_ROWS, READ_ROWS, 600 - 2 * READ_ROWS]


def test_large_rows_make_small_row_groups(tmp_path: Path) -> None:
    """A worker holds a row group of its output: that is bounded by bytes, too."""
    wide(tmp_path / "a.parquet", 500, 200_000)
    (tmp_path / TEMPORARY).mkdir()
    own = Embedder("static")
    facts = ShardFacts(own.name, own.fingerprint, own.space, own.engine, own.dim, "float32", "document")
    job = Job(str(tmp_path), "run", Asked(), facts, "static", own.fingerprint, {"threads": 1})
    given: dict[str, Any] = asdict(piece(tmp_path / "a.parquet", 500))
    import pickle

    written = pickle.loads(EmbedShards(job)({"piece": np.array([json.dumps(given)])})["written"][0])  # noqa: S301
    assert (written.error, written.rows) == (None, 500)
    about = pq.read_metadata(tmp_path / TEMPORARY / written.temporary)
    sizes = [about.row_group(number).total_byte_size for number in range(about.num_row_groups)]
    assert max(sizes) < GROUP_BYTES + 2 * READ_BYTES
    assert sum(sizes) > 500 * 200_000


def test_rows_that_json_or_utf8_cannot_hold(tmp_path: Path) -> None:
    """A key that is not UTF-8, and a number that is infinite when it is read, are problems of their rows alone."""
    keys = pa.array([b"a", b"\xff\xfe", b"c"]).view(pa.string())
    pq.write_table(pa.table({"id": keys, "text": ["one", "two", "three"]}), tmp_path / "a.parquet")
    rows = Rows(piece(tmp_path / "a.parquet", 3), Asked())
    assert [key for batch in rows.batches() for key in batch.keys] == ["a", "c"]
    assert [one["row"] for one in rows.problems] == [1]
    (tmp_path / "a.jsonl").write_text('{"text": "a", "n": 1e999}\n{"text": "b", "n": 1e9}\n')
    rows = Rows(piece(tmp_path / "a.jsonl", 2, 0), Asked())
    assert [json.loads(held) for batch in rows.batches() for held in batch.others] == [{"n": 1e9}]
    assert rows.problems == [{"file": "a.jsonl", "line": 1, "reason": "a number is too large"}]


def test_no_part_of_a_folder_is_passed_over_in_silence(tmp_path: Path) -> None:
    """Other files are; what holds rows but cannot be read is refused by name."""
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a.jsonl", "README.md", "_SUCCESS", ".b.jsonl.zst"):
        (folder / name).write_text("{}\n")
    assert [file.name for file in find([folder], tmp_path / "out")] == ["a.jsonl"]
    (folder / "b.jsonl.zst").write_text("")
    with pytest.raises(SourceError, match=r"b\.jsonl\.zst is packed with \.zst, expected \.gz"):
        find([folder], tmp_path / "out")


def test_a_journal_with_a_damaged_line(tmp_path: Path) -> None:
    """It is refused with what to do; half a line at the end does not count."""
    line = json.dumps(asdict(Finished(0, "part-000000.parquet", 1, 2, "", []))).encode()
    (tmp_path / DONE).write_bytes(line + b"\n" + line[:20])
    assert [one.shard for one in finished(tmp_path)] == [0]
    (tmp_path / DONE).write_bytes(line[:20] + b"\n" + line + b"\n")
    with pytest.raises(SourceError, match=r"line 1: not a finished shard; remove the line"):
        finished(tmp_path)


def test_keys_that_come_twice(tmp_path: Path) -> None:
    """They are counted over all shards, and listed with their places."""
    names = ["part-000000.parquet", "part-000001.parquet"]
    keys = Keys(7)
    for name, held in zip(names, (["a", "b", "c"], ["b", "d", "d"]), strict=True):
        pq.write_table(pa.table({"key": held}), tmp_path / name)
        keys.add(b"".join(map(hash_of, held)))
    assert keys.twice([tmp_path / name for name in names]) == (
        2,
        [{"key": "b", "shards": names}, {"key": "d", "shards": [names[1]] * 2}],
    )
    assert Keys(0).twice([]) == (0, [])
