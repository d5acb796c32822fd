import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edge_embed import Document, Embedder, Index
from edge_embed.embedder import default_bundle
from edge_embed_runtime.bundle.bundle import read_bundle
from edge_embed_runtime.errors import InputError, MemoryBudgetError
from edge_embed_runtime.model import budget
from edge_embed_runtime.model.budget import Profile, activation_bytes, choose_profile, predict
from edge_embed_runtime.onnxfile.mapped import Weight, weights_of, without_weights
from edge_embed_runtime.search.streamed import StreamedCodes
from edge_embed_runtime.system import memory
from edge_embed_runtime.system.headroom import Room
from edge_embed_runtime.system.memory import MB, read_memory, rss_bytes
from edge_embed_runtime.vectors.bits import BinaryCodes
from edge_embed_runtime.vectors.whole import for_signs

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")

# Texts that take most: the longest, all lengths mixed, huge ones, and every token of the vocabulary.
WORK = """
import json, sys
import numpy as np
from edge_embed import Embedder
from edge_embed.embedder import default_bundle
words = list(json.loads((default_bundle() / "tokenizer.json").read_bytes())["model"]["vocab"])
random = np.random.default_rng(0)
mixed = [" ".join(random.choice(words, size)) for size in random.integers(1, 400, 48)]
every = [" ".join(words[i : i + 200]) for i in range(0, len(words), 1200)]
huge = ["word " * 200_000, "x" * 1_000_000]
embedder = Embedder(max_rss_mb=float(sys.argv[1]))
for texts in (mixed, every, huge):
    embedder.encode(texts, batch_tokens=10**6)
peak = [line for line in open("/proc/self/status") if line.startswith("VmHWM")][0]
print(json.dumps({"peak": int(peak.split()[1]) * 1024, "predicted": embedder.predicted_peak}))
"""


def child(code: str, *arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, text=True, capture_output=True, check=False, **options)  # type: ignore[call-overload, no-any-return]


def least_mb() -> float:
    """What such a process is told to be the least for the default bundle."""
    done = child(WORK, 20)
    assert "MemoryBudgetError" in done.stderr, done.stderr
    return float(done.stderr.rsplit("the least is ", 1)[1].split()[0])


@pytest.fixture
def cgroup() -> Iterator[Path]:
    """A memory cgroup of version 1 below our own, where the system lets us make one."""
    try:
        (line,) = [line for line in Path("/proc/self/cgroup").read_text().splitlines() if ":memory:" in line]
        folder = Path(f"/sys/fs/cgroup/memory{line.split(':', 2)[2]}/edge_embed_{os.getpid()}")
        folder.mkdir()
    except (OSError, ValueError):
        pytest.skip("no memory cgroup can be made here")
    yield folder
    folder.rmdir()


@linux
def test_budget_is_kept_on_any_input() -> None:
    """The least that is promised is enough for whatever is embedded, and the prediction is not far too high."""
    done = child(WORK, least_mb() + 1)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["peak"] <= found["predicted"]
    assert found["peak"] > 0.75 * found["predicted"]


@linux
def test_budget_of_a_static_bundle() -> None:
    """A table takes little, but not nothing: kept on any input, or refused."""
    work = WORK.replace("Embedder(max_rss_mb", "Embedder('static', max_rss_mb")
    done = child(work, 20)
    assert "'static-minilm-l6-v2': the least is" in done.stderr, done.stderr
    least = float(done.stderr.rsplit("the least is ", 1)[1].split()[0])
    done = child(work, least + 1)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["peak"] <= found["predicted"]


@linux
def test_budget_is_kept_under_a_hard_limit(cgroup: Path) -> None:
    """The kernel, told the same number, has no reason to kill."""
    limit = least_mb() + 1
    (cgroup / "memory.limit_in_bytes").write_text(str(int(limit * MB)))
    enter = f"import os; open({str(cgroup / 'cgroup.procs')!r}, 'w').write(str(os.getpid()))\n"
    done = child(enter + WORK, limit)
    assert done.returncode == 0, (done.returncode, done.stderr)


@linux
def test_budget_that_cannot_be_kept_is_refused_with_the_least(embedder: Embedder) -> None:
    """The error names the least, and where it goes; nothing is loaded."""
    with pytest.raises(MemoryBudgetError, match=r"max_rss_mb=30 cannot be kept .* the least is \d+ MB \(process \d+, "):
        Embedder(max_rss_mb=30)


@pytest.mark.parametrize("wrong", ["80", True, 0, -1, float("nan"), float("inf"), [80]])
def test_budget_must_be_a_number(wrong: object) -> None:
    """Megabytes, more than none."""
    with pytest.raises(InputError, match="max_rss_mb is"):
        Embedder(max_rss_mb=wrong)  # type: ignore[arg-type]


def test_budget_needs_a_system_that_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody knows what a process has, no promise is made."""
    monkeypatch.setattr(memory, "rss_bytes", lambda: None)
    with pytest.raises(InputError, match="Linux does"):
        Embedder(max_rss_mb=500)


def test_profiles_get_smaller_with_the_limit(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """First the batches, then the threads, then prepacked weights are given up; what runs in them stays the same."""
    monkeypatch.setattr(budget, "rss_bytes", lambda: 50 * MB)
    bundle = read_bundle(default_bundle())
    weights = weights_of(bundle.model)
    chosen = []
    limit = 400 * MB
    while True:
        try:
            found = choose_profile(limit, weights, bundle.manifest, False, 4, 2048)
        except MemoryBudgetError:
            break
        assert found.total <= limit
        chosen.append(found.profile)
        limit = found.total - 1
    assert chosen[0] == Profile(4, 2048)
    assert chosen[-1].threads == 1
    sizes = [(profile.prepacked, profile.threads, profile.batch_tokens) for profile in chosen]
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) == len(sizes) > 4


def test_another_form_of_the_weights_takes_more_while_loading(monkeypatch: pytest.MonkeyPatch) -> None:
    """Matrices are there as stored, turned and prepacked; a table is mapped once, and then counts once."""
    monkeypatch.setattr(budget, "rss_bytes", lambda: 0)
    weights = [Weight((100, 50), 5_000_000), Weight((1_000, 1_000), 100_000_000), Weight((1_000,), 4_000)]
    shape = {"vocab": 100, "hidden": 64, "intermediate": 256, "heads": 4}
    fast, exact = (predict(weights, shape, 32, form, Profile(1, 32)).total for form in (False, True))
    assert exact - fast == 100_000_000
    assert activation_bytes(512, 128, 1, shape) < activation_bytes(512, 256, 1, shape)


@linux
def test_weights_are_shared_with_the_file(tmp_path: Path) -> None:
    """The table of tokens lies in the file's pages: not in memory of the process's own."""
    code = """
import json
from edge_embed import Embedder
embedder = Embedder()
embedder.encode(["a text"])
mapped = 0
lines = iter(open("/proc/self/smaps"))
for line in lines:
    if line.rstrip().endswith("/model.onnx"):
        for line in lines:
            if line.startswith("Size:"):
                mapped += int(line.split()[1]) * 1024
            if line.startswith(("Private_Dirty:", "Anonymous:")):
                assert line.split()[1] == "0", line
            if line.startswith("VmFlags"):
                break
print(mapped)
"""
    done = child(code)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 11_000_000


def test_model_without_its_weights_is_small_and_the_same(embedder: Embedder, tmp_path: Path) -> None:
    """What is given to onnxruntime has no large weight; a copy of the bundle elsewhere gives the same vectors."""
    model = default_bundle() / "model.onnx"
    assert len(without_weights(model)) < 0.03 * model.stat().st_size
    assert sum(weight.bytes for weight in weights_of(model)) > 0.98 * model.stat().st_size
    assert weights_of(model) == weights_of(model.read_bytes())
    folder = tmp_path / "a folder, ünïcode"
    folder.mkdir()
    for file in default_bundle().iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    link = tmp_path / "link"
    link.symlink_to(folder)
    for path in (folder, link):
        assert np.array_equal(Embedder(path).encode(["a text"]), embedder.encode(["a text"]))


@linux
def test_giving_back_changes_nothing(embedder: Embedder) -> None:
    """Code and weights that were let go of come again, and give the same bits; memory is counted in order."""
    texts = ["a text", "another one, which is longer than the first"]
    before = embedder.encode(texts)
    memory.give_back()
    found = read_memory()
    assert found is not None
    assert found.rss >= found.pss >= found.private >= found.dirty > 0
    assert abs(found.rss - (rss_bytes() or 0)) < 20 * MB
    assert np.array_equal(embedder.encode(texts), before)


def filled(path: Path, embedder: Embedder) -> Index:
    index = Index.open(path, embedder)
    words = ["river", "bank", "money", "stream", "vault", "coin"]
    index.add([Document(f"d{i}", f"{words[i % 6]} {words[i % 5]} number {i}", {"i": i}) for i in range(700)])
    return index


def test_streamed_codes_find_the_same(embedder: Embedder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Codes that stay in the file give the same hits: with and without conditions, after adding and deleting."""
    monkeypatch.setattr(Room, "for_codes", lambda *_: False)
    with (
        filled(tmp_path / "index", embedder) as index,
        Index.open(tmp_path / "index", embedder, read_only=True, max_rss_mb=100_000) as small,
    ):
        for change in (
            lambda: None,
            lambda: index.delete(["d3", "d300", "d699"]),
            lambda: index.add([Document("n", "a bank")]),
        ):
            change()
            for where in (None, {"i": {"$lt": 40}}, {"i": {"$in": [5, 600]}}):
                for query, k in (("money in the bank", 10), ("a stream", 400)):
                    expected = index.search(query, k, where, "vector")
                    found = small.search(query, k, where, "vector")
                    assert [(hit.key, hit.score) for hit in found] == [(hit.key, hit.score) for hit in expected]
            assert isinstance(index._search.dense.codes, BinaryCodes)
            assert isinstance(small._search.dense.codes, StreamedCodes)


def test_nearest_streamed_codes_are_those_of_memory(embedder: Embedder, tmp_path: Path) -> None:
    """Also of many candidates among few, whose order and ties are the same."""
    random = np.random.default_rng(0)
    with filled(tmp_path / "index", embedder) as index:
        index.search("a bank", mode="vector")
        held = index._search.dense.codes
        assert isinstance(held, BinaryCodes)
        streamed = StreamedCodes(index._store.blocks)
        assert np.array_equal(streamed.ids, held.ids)
        allowed = np.sort(random.choice(700, 120, replace=False))
        for count in (1, 7, 119, 120, 699, 700, 5000):
            query = random.integers(0, 2**63, 6).astype(np.uint64)
            for among in (None, allowed):
                expected, found = held.pool(query, count, among), streamed.pool(query, count, among)
                assert np.array_equal(found.places, expected.places)
                assert np.array_equal(found.distances, expected.distances)
                assert found.limit == expected.limit
                vector = for_signs(random.standard_normal(embedder.dim).astype(np.float32))
                places = found.places[::-1]
                assert np.array_equal(streamed.estimate(places, vector), held.estimate(places, vector))


@linux
def test_index_takes_the_tier_that_the_limit_allows(embedder: Embedder, tmp_path: Path) -> None:
    """Enough room: codes in memory; less: in the file; none: an error with both numbers."""
    filled(tmp_path / "index", embedder).close()
    for limit, kind in ((10_000, BinaryCodes), (None, BinaryCodes)):
        with Index.open(tmp_path / "index", read_only=True, max_rss_mb=limit) as index:
            index.search(vector=np.ones(embedder.dim), k=3)
            assert isinstance(index._search.dense.codes, kind)
    room = Room(1000 * MB, 1000 * MB - 7 * MB)
    assert room.for_codes(10_000, 384)
    assert not room.for_codes(100_000, 384)
    with pytest.raises(MemoryBudgetError, match=r"with 1000000 passages the least is 1007 MB .* with 1059 MB"):
        room.for_codes(1_000_000, 384)
    with pytest.raises(MemoryBudgetError, match="max_rss_mb=10 cannot be kept"):
        Index.open(tmp_path / "index", read_only=True, max_rss_mb=10)


def test_background_gives_the_same_vectors(embedder: Embedder) -> None:
    """One thread that gives way; asking for more of them is a contradiction."""
    texts = ["a text", "another one, which is longer than the first"] * 5
    quiet = Embedder(background=True)
    assert quiet.threads == 1
    assert np.array_equal(quiet.encode(texts), embedder.encode(texts))
    with pytest.raises(InputError, match="background means one thread"):
        Embedder(background=True, threads=2)
