"""Bulk runs on a Ray cluster of two nodes with one core each: killed workers and drivers, bad rows, bad outputs."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = [
    pytest.mark.frameworks,
    # of Ray itself
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.*"),
    pytest.mark.filterwarnings("ignore::FutureWarning:ray.*"),
    pytest.mark.filterwarnings(r"ignore:unclosed file <_io\.\w+ name='(/dev/null|[^']*/ray/):ResourceWarning"),
    pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning"),
]
pytest.importorskip("ray.data")

from builders.bulk import actors, kill, read, sentence, shards, write_lines, write_parquet
from builders.commands import run
from whole import pages

from edge_embed import Embedder
from edge_embed.errors import IndexLockedError, InputError, MemoryBudgetError, SourceError
from edge_embed.files.load import load_vectors
from edge_embed.files.shards import DONE, TEMPORARY, finished, read_facts, unfinished
from edge_embed.integrations.ray import EdgeEmbed, embed_dataset, embed_files
from edge_embed.integrations.ray.bundles import has_bundle, packed, unpack
from edge_embed.integrations.ray.journal import Journal, locked

STATIC = {"bundle": "static", "workers": 2}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two nodes with a core each, on loopback."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
        import ray
        from ray.cluster_utils import Cluster

        node = {"num_cpus": 1, "object_store_memory": 100 * 2**20}
        made = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
        made.add_node(**node)
        ray.init(address=made.address, log_to_driver=False, logging_level="ERROR")
        try:
            yield made
        finally:
            ray.shutdown()
            made.shutdown()


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return Embedder()


@pytest.fixture
def corpus(tmp_path: Path) -> tuple[Path, list[tuple[str, str]]]:
    """A folder of a JSONL and a Parquet file with 5,000 rows together."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    rows = write_lines(folder / "a.jsonl", range(2500)) + write_parquet(folder / "b.parquet", range(2500, 5000))
    return folder, rows


def check(output: Path, rows: list[tuple[str, str]], embedder: Embedder) -> None:
    """Each row is there once, and its vector has the bits of `encode`."""
    keys, texts, vectors = read(output)
    assert len(keys) == len(set(keys))
    assert sorted(zip(keys, texts, strict=True)) == sorted(rows)
    assert np.array_equal(vectors, embedder.encode_document(texts))


def test_a_killed_worker_loses_nothing(
    cluster: Any, corpus: tuple[Path, list[tuple[str, str]]], tmp_path: Path, embedder: Embedder
) -> None:
    """Of two workers one is killed in the middle: its shard is embedded again, every row is there once."""
    folder, rows = corpus
    output, killed = tmp_path / "out", list[int]()

    def progress(_: object) -> None:
        if not killed:
            killed.append(actors()[0])
            kill(killed[0])

    done = embed_files(folder, output, workers=2, progress=progress)
    assert killed
    assert (done.rows, done.embedded, done.problem_count, done.duplicate_count) == (5000, 5000, 0, 0)
    check(output, rows, embedder)
    assert not (output / TEMPORARY).exists()
    assert read_facts(shards(output)[0]).fingerprint == embedder.fingerprint == done.fingerprint


DRIVER = """
import os, signal, sys
from edge_embed.integrations.ray import embed_files

def progress(now):
    if now.shards == 2:
        os.kill(os.getpid(), signal.SIGKILL)

embed_files(sys.argv[1], sys.argv[2], workers=2, progress=progress)
"""


def test_a_killed_driver_goes_on(
    cluster: Any, corpus: tuple[Path, list[tuple[str, str]]], tmp_path: Path, embedder: Embedder
) -> None:
    """The driver is killed after two shards, a shard is cut in half and a line torn off: the next run makes just what
    is missing, and every row is there once."""
    folder, rows = corpus
    output = tmp_path / "out"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    driver = subprocess.run(
        [sys.executable, "-c", DRIVER, folder, output], env=environment, capture_output=True, text=True, check=False
    )
    assert driver.returncode == -9, driver.stderr
    assert len(finished(output)) == 2
    assert unfinished(output) == 4
    cut = output / finished(output)[0].name
    os.truncate(cut, cut.stat().st_size // 2)
    with pytest.raises(SourceError, match="cannot be read"):
        read_facts(cut)
    with (output / DONE).open("ab") as file:
        file.write(b'{"shard": 5, "na')
    whole = output / finished(output)[1].name
    kept = whole.stat().st_ino
    assert list((output / TEMPORARY).iterdir()) != []  # the halves of shards that workers wrote
    done = embed_files(folder, output, workers=2)
    assert (done.rows, done.shards, done.made, done.repaired) == (5000, 6, 5, 1)
    assert whole.stat().st_ino == kept
    check(output, rows, embedder)
    assert not (output / TEMPORARY).exists()
    assert unfinished(output) == 0
    again = embed_files(folder, output, workers=2)
    assert (again.rows, again.made, again.repaired) == (5000, 0, 0)


def test_workers_that_keep_dying_end_the_run(cluster: Any, tmp_path: Path) -> None:
    """A shard whose workers are killed three times, as for want of memory, is given up with what to change."""
    write_lines(tmp_path / "a.jsonl", range(1000))
    output, ended = tmp_path / "out", threading.Event()

    def kill_all() -> None:
        begun = set[Path]()
        while not ended.wait(0.02):
            if now := set((output / TEMPORARY).glob("*")) - begun:
                begun |= now
                for pid in actors():
                    kill(pid)

    killer = threading.Thread(target=kill_all)
    killer.start()
    try:
        with pytest.raises(MemoryBudgetError, match=r"lines 1 to 1000 of a\.jsonl.*--workers.*0 of 1 shards"):
            embed_files(tmp_path / "a.jsonl", output, workers=1)
    finally:
        ended.set()
        killer.join()
    assert embed_files(tmp_path / "a.jsonl", output, workers=1).rows == 1000


def test_workers_that_cannot_start_end_the_run(cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers that are killed before they reach a shard, as by Ray where a node's memory is used up: Ray alone would
    start one after the other for ever."""
    write_lines(tmp_path / "a.jsonl", range(10))
    output, ended = tmp_path / "out", threading.Event()

    def kill_all() -> None:
        while not ended.wait(0.01):
            for pid in actors():
                kill(pid)

    killer = threading.Thread(target=kill_all)
    killer.start()
    try:
        monkeypatch.setattr("edge_embed.integrations.ray.cluster.START_SECONDS", 5)
        with pytest.raises(MemoryBudgetError, match=r"not all workers \(1\) had started.*--workers.*0 of 1 shards"):
            embed_files(tmp_path / "a.jsonl", output, bundle="static", workers=1)
    finally:
        ended.set()
        killer.join()
        monkeypatch.undo()
    assert embed_files(tmp_path / "a.jsonl", output, bundle="static", workers=1).rows == 10


def test_too_little_memory_is_said_by_the_worker(cluster: Any, tmp_path: Path) -> None:
    """A limit that a worker cannot keep: the least that works, and that nothing is lost."""
    write_lines(tmp_path / "a.jsonl", range(10))
    with pytest.raises(MemoryBudgetError, match=r"lines 1 to 10 of a\.jsonl.*run again to go on") as caught:
        embed_files(tmp_path / "a.jsonl", tmp_path / "out", workers=1, max_rss_mb=60)
    assert caught.value.needed_mb is not None
    needed = caught.value.needed_mb
    assert embed_files(tmp_path / "a.jsonl", tmp_path / "out", workers=1, max_rss_mb=needed + 60).rows == 10


def test_bad_rows_are_reported_by_file_and_row(cluster: Any, tmp_path: Path) -> None:
    """Rows without a text, with other types, broken lines: each is reported, all others have vectors; keys that come
    twice keep their rows and are reported."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    lines = [
        '{"id": "a", "text": "a cat"}',
        '{"id": "b", "text": null}',
        '{"id": "c", "text": 7}',
        "",
        '{"id": "d"}',
        '{"id": "e", "text": "  "}',
        "not JSON",
        '{"id": "f", "text": "\\ud800"}',
        '{"id": null, "text": "a dog"}',
        '{"text": "no id, so its place"}',
        '{"id": "a", "text": "the same key", "n": NaN}',
        '{"id": 12, "text": "a number as key", "n": {"m": [1, null]}}',
        "[1]",
        '{"id": "twice", "text": "here and in the other file"}',
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(lines), "utf-8")
    table = pa.table({"id": ["x", None, "twice", "y"], "text": ["one", "two", "three", None], "n": [1, 2, 3, 4]})
    pq.write_table(table, tmp_path / "b.parquet")
    result = run("bulk", tmp_path, tmp_path / "_out", "--bundle", "static", "--json")
    assert result.exit_code == 1
    said = json.loads(result.stdout)
    places = [(one["file"], one.get("line", one.get("row"))) for one in said["problems"]]
    assert places == [
        *(("a.jsonl", line) for line in (2, 3, 5, 6, 7, 8, 9, 11, 13)),
        ("b.parquet", 1),
        ("b.parquet", 3),
    ]
    reasons = " ".join(one["reason"] for one in said["problems"])
    for word in ("no text", "int", "no field 'text'", "empty", "not valid JSON", "surrogate", "NaN", "list"):
        assert word in reasons
    assert (said["rows"], said["problem_count"], said["blank"]) == (6, 11, 1)
    assert said["duplicates"] == [{"key": "twice", "shards": ["part-000000.parquet", "part-000001.parquet"]}]
    assert "a.jsonl, line 2: there is no text" in result.stderr
    assert "the key 'twice' comes 2 times" in result.stderr
    keys, _, _ = read(tmp_path / "_out")
    assert keys == ["a", "a.jsonl:10", "12", "twice", "x", "twice"]
    again = json.loads(run("bulk", tmp_path, tmp_path / "_out", "--bundle", "static", "--json").stdout)
    assert (again["problems"], again["duplicates"], again["made"]) == (said["problems"], said["duplicates"], 0)
    (tmp_path / "_none.jsonl").write_text('{"text": ""}\n')
    assert embed_files(tmp_path / "_none.jsonl", tmp_path / "_none", bundle="static").rows == 0
    assert read(tmp_path / "_none")[0] == []
    with pytest.raises(InputError, match="leave address out"):
        embed_files(tmp_path / "_none.jsonl", tmp_path / "_other", bundle="static", address="auto")
    strict = run("bulk", tmp_path, tmp_path / "_strict", "--bundle", "static", "--strict")
    assert strict.exit_code == 1
    assert "a.jsonl, line 2: there is no text" in strict.stderr
    assert not shards(tmp_path / "_strict")


def test_options(cluster: Any, tmp_path: Path, embedder: Embedder) -> None:
    """Prompts, dimensions, float16, other columns, packed files and patterns; `load` reads a shard as it is."""
    import gzip

    (tmp_path / "in").mkdir()
    rows = [{"pid": f"k{i}", "passage": sentence(i), "lang": "en"} for i in range(40)]
    packed_lines = "\n".join(map(json.dumps, rows)).encode()
    (tmp_path / "in" / "a.jsonl.gz").write_bytes(gzip.compress(packed_lines))
    columns = ["--text-column", "passage", "--key-column", "pid"]
    result = run(
        *("bulk", tmp_path / "in" / "*.gz", tmp_path / "out", *columns, "--rows-per-shard", 15, "--dtype", "float16"),
        *("--truncate-dim", 128, "--prompt", "passage: ", "--workers", 1),
    )
    assert result.exit_code == 0, result.stderr
    assert "40 vectors of 128 dimensions in 3 shards" in result.stdout
    keys, texts, vectors = read(tmp_path / "out")
    assert keys == [row["pid"] for row in rows]
    small = Embedder(truncate_dim=128)
    assert vectors.dtype == np.float16
    assert np.array_equal(vectors, small.encode(texts, prompt="passage: ").astype(np.float16))
    facts = read_facts(shards(tmp_path / "out")[2])
    assert (facts.dim, facts.dtype, facts.prompt, facts.role) == (128, "float16", "passage: ", "document")
    loaded = load_vectors(tmp_path / "a.db", shards(tmp_path / "out")[0], space="minilm at 128")
    assert loaded.stored == 15
    found = json.loads(run("find", tmp_path / "a.db", "--json").stdout)
    assert found["documents"][0]["metadata"]["lang"] == "en"


def test_another_run_is_refused_by_name(cluster: Any, tmp_path: Path) -> None:
    """A folder goes on with its own inputs, bundle, columns and form of vectors, and with nothing else."""
    path, output = tmp_path / "a.jsonl", tmp_path / "out"
    write_lines(path, range(30))
    embed_files(path, output, **STATIC, rows_per_shard=10)
    for more, message in (
        ({"bundle": "minilm"}, "bundle 'static-minilm-l6-v2', not 'all-minilm-l6-v2'"),
        ({"dtype": "float16"}, "dtype 'float32', not 'float16'"),
        ({"truncate_dim": 64}, "dim"),
        ({"prompt": "x"}, "prompt None, not 'x'"),
        ({"key_column": "n"}, "columns"),
        ({"rows_per_shard": 5}, "10 rows a shard"),
    ):
        with pytest.raises(InputError, match=message):
            embed_files(path, output, **{**STATIC, **more})
    write_lines(tmp_path / "b.jsonl", range(3))
    with pytest.raises(InputError, match=r"b\.jsonl is no input of the run"):
        embed_files([path, tmp_path / "b.jsonl"], output, **STATIC)
    write_lines(path, range(31))
    with pytest.raises(InputError, match="has changed since the run"):
        embed_files(path, output, **STATIC)
    path.unlink()
    with pytest.raises(InputError, match=r"a\.jsonl is missing"):
        embed_files(tmp_path / "b.jsonl", output, **STATIC)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("mine")
    with pytest.raises(InputError, match=r"holds 'letter\.txt' and no plan"):
        embed_files(tmp_path / "b.jsonl", tmp_path / "full", **STATIC)


def test_two_runs_at_once(cluster: Any, tmp_path: Path) -> None:
    """The second is refused, and says which process writes."""
    write_lines(tmp_path / "a.jsonl", range(3))
    with locked(tmp_path / "out"), pytest.raises(IndexLockedError, match=f"another run.*{os.getpid()}"):
        embed_files(tmp_path / "a.jsonl", tmp_path / "out", **STATIC)
    assert embed_files(tmp_path / "a.jsonl", tmp_path / "out", **STATIC).rows == 3


def test_inputs_that_cannot_be_read(cluster: Any, tmp_path: Path) -> None:
    """Each is refused before anything is embedded, by its name."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    output = tmp_path / "out"
    (tmp_path / "half.parquet").write_bytes(b"PAR1")
    (tmp_path / "half.jsonl.gz").write_bytes(b"\x1f\x8b\x08\x00")
    (tmp_path / "wide.jsonl").write_text('{"text": "a"}', "utf-16")
    (tmp_path / "other.jsonl").write_text('{"body": "a"}\n')
    tables = {"numbers": {"text": [1, 2]}, "vectors": {"text": ["a"], "vector": [1]}, "none": {"body": ["a"]}}
    for name, columns in tables.items():
        pq.write_table(pa.table(columns), tmp_path / f"{name}.parquet")
    for name, message in (
        ("half.parquet", "cannot be read"),
        ("half.jsonl.gz", "cannot be read"),
        ("wide.jsonl", "expected UTF-8"),
        ("other.jsonl", "no field 'text'; fields: body; --text-column"),
        ("numbers.parquet", "is int64, expected strings"),
        ("vectors.parquet", "column 'vector'"),
        ("none.parquet", "no column 'text'; columns: body"),
        ("missing.jsonl", "does not exist"),
        ("*.csv", "no file fits"),
    ):
        with pytest.raises(SourceError, match=message):
            embed_files(tmp_path / name, output, **STATIC)
    for given, message in (("s3://bucket/a.parquet", "is an address"), (str(tmp_path / "none.txt"), "does not exist")):
        with pytest.raises(SourceError, match=message):
            embed_files(given, output, **STATIC)
    write_lines(tmp_path / "good.jsonl", range(2))
    with pytest.raises(InputError, match="workers is 3 with 1 CPUs each; the cluster has 2"):
        embed_files(tmp_path / "good.jsonl", output, bundle="static", workers=3)


def test_a_file_that_changes_meanwhile(cluster: Any, tmp_path: Path) -> None:
    """What was cut into shards is what is embedded, or nothing."""
    write_lines(tmp_path / "a.jsonl", range(4000))

    def progress(_: object) -> None:
        with (tmp_path / "a.jsonl").open("a") as file:
            file.write("\n")

    with pytest.raises(SourceError, match=r"changed while it was read.*another OUTPUT"):
        embed_files(tmp_path / "a.jsonl", tmp_path / "out", **STATIC, progress=progress, rows_per_shard=100)


def test_a_damaged_input_stops_its_own_shards_only(cluster: Any, tmp_path: Path) -> None:
    """All others are made before it is refused, and once the file is as it was the run ends."""
    folder, output = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    rows = write_parquet(folder / "a.parquet", range(100), 50) + write_lines(folder / "b.jsonl", range(100))
    path = folder / "a.parquet"
    whole, changed_ns = path.read_bytes(), path.stat().st_mtime_ns
    path.write_bytes(whole[:4] + b"\xff" * 400 + whole[404:])  # the first row group, which holds the first two shards
    os.utime(path, ns=(changed_ns, changed_ns))
    with pytest.raises(SourceError, match=r"a\.parquet cannot be read.*rows 0 to 24 of a\.parquet.*6 of 8 shards"):
        embed_files(folder, output, **STATIC, rows_per_shard=25)
    assert [one.shard for one in finished(output)] == [2, 3, 4, 5, 6, 7]
    path.write_bytes(whole)
    os.utime(path, ns=(changed_ns, changed_ns))
    done = embed_files(folder, output, **STATIC, rows_per_shard=25)
    assert (done.rows, done.made) == (200, 2)
    assert read(output)[0] == [key for key, _ in rows]


def test_a_dataset_of_ones_own(cluster: Any, tmp_path: Path, embedder: Embedder) -> None:
    """`embed_dataset` adds a column; `EdgeEmbed` in `map_batches` does, too, in each form of batches."""
    import ray

    rows = [{"n": i, "text": sentence(i)} for i in range(300)]
    wanted = embedder.encode_document([row["text"] for row in rows])
    dataset = ray.data.from_items(rows, override_num_blocks=3)
    path = tmp_path / "out"
    embed_dataset(dataset, batch_size=64).write_parquet(str(path))
    import pyarrow.parquet as pq

    table = pq.read_table(path).sort_by("n")
    assert str(table.schema.field("vector").type).startswith("fixed_size_list")
    assert np.array_equal(np.array(table.column("vector").to_pylist(), np.float32), wanted)
    for form in ("numpy", "pandas"):
        given = {"batch_format": form, "fn_constructor_kwargs": {"dtype": "float16"}, "num_cpus": 1}
        size = ray.data.ActorPoolStrategy(size=1)
        found = sorted(dataset.map_batches(EdgeEmbed, compute=size, **given).take_all(), key=lambda row: row["n"])
        assert np.array_equal(np.stack([row["vector"] for row in found]), wanted.astype(np.float16))


def test_options_of_embed_dataset(cluster: Any) -> None:
    """What cannot be is said before an actor starts."""
    for options in ({"workers": 0}, {"workers": (2, 1)}, {"threads": 0}, {"batch_size": 0}, {"max_rss_mb": "x"}):
        with pytest.raises(InputError, match=next(iter(options))):
            embed_dataset(None, **options)
    with pytest.raises(TypeError, match="unexpected keyword argument 'column'"):
        embed_dataset(None, column="body")


def test_batches_with_bad_rows(embedder: Embedder) -> None:
    """Called without Ray: a row without a text raises, or has no vector; columns are checked."""
    import pyarrow as pa

    table = pa.table({"text": ["a cat", None, "", "a dog"]})
    with pytest.raises(InputError, match="row 1 of a batch has no text"):
        EdgeEmbed()(table)
    found = EdgeEmbed(on_error="null")(table).column("vector").to_pylist()
    assert [one is None for one in found] == [False, True, True, False]
    assert np.array_equal(np.array(found[3], np.float32), embedder.encode_document(["a dog"])[0])
    with pytest.raises(InputError, match="no column 'body'"):
        EdgeEmbed(text_column="body")(table)
    with pytest.raises(InputError, match="has a column 'text' already"):
        EdgeEmbed(vector_column="text")(table)
    with pytest.raises(InputError, match="numpy has no null"):
        EdgeEmbed(on_error="null")({"text": np.array(["a", None], object)})
    with pytest.raises(InputError, match="dtype"):
        EdgeEmbed(dtype="int8")


def test_a_bundle_travels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that lacks the bundle gets its files, once for all workers, and they are checked when they are loaded."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    own = Embedder("static")
    assert has_bundle("static", own.fingerprint)
    assert not has_bundle(str(tmp_path / "nothing"), own.fingerprint)
    folder = unpack(packed("static"), own.fingerprint)
    assert folder == unpack({}, own.fingerprint)
    assert np.array_equal(Embedder(folder).encode(["a cat"]), own.encode(["a cat"]))
    assert [path.name for path in folder.parent.iterdir()] == [own.fingerprint]


def test_the_page(cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The code of docs/cluster.md runs as it stands there."""
    command = tmp_path / "bin" / "edge-embed"  # of the packages that are tested
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m edge_embed "$@"\n')
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{command.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for block in pages.blocks(pages.ROOT / "docs" / "cluster.md"):
        if block.language == "python":
            exec(compile("\n" * (block.line - 1) + block.code, "cluster.md", "exec"), names)  # noqa: S102 - our page
        elif block.language == "sh" and block.not_run == "needs packages of others":
            done = subprocess.run(["sh", "-e", "-c", block.code], capture_output=True, text=True, check=False)  # noqa: S607
            assert done.returncode == 0, done.stderr
            assert "vectors: 2 vectors of 384 dimensions in 1 shard" in done.stdout


OWN = """
import os, sys
from edge_embed.integrations.ray import embed_files

def progress(now):
    import ray
    print(ray.get_runtime_context().gcs_address, os.environ["RAY_AUTH_MODE"], os.environ["RAY_AUTH_TOKEN"])

done = embed_files(sys.argv[1], sys.argv[2], bundle="static", progress=progress)
import ray
print(done.rows, os.environ.get("RAY_AUTH_TOKEN"), ray.is_initialized())
"""


def test_a_cluster_of_its_own(tmp_path: Path) -> None:
    """Without a cluster the run starts one on loopback, which takes work only from who has its token, and ends it."""
    write_lines(tmp_path / "a.jsonl", range(20))
    done = subprocess.run(
        [sys.executable, "-c", OWN, tmp_path / "a.jsonl", tmp_path / "out"],
        env={name: value for name, value in os.environ.items() if not name.startswith("RAY_")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    address, mode, token, *after = done.stdout.split()
    assert address.startswith("127.0.0.1:")
    assert (mode, len(token)) == ("token", 64)
    assert after == ["20", "None", "False"]
    assert len(Journal(tmp_path / "out").plan["shards"]) == 1
