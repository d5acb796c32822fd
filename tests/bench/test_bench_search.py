"""bench/search: `python -m bench.search`, with ours, usearch, and fakes that fail in each way."""

import gzip
import json
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import click
import numpy as np
import pytest
from click.testing import CliRunner, Result

from bench.search import candidates, child, collection, durability, plot, run, table, texts, vectors, worker
from bench.search.__main__ import main
from bench.search.child import Child, ChildError, LateError
from edge_embed.corpus import demo_documents
from edge_embed.errors import SourceError
from edge_embed.measuring import versions
from edge_embed.measuring.vectors import SIGMA

FAKES = """
import os, time
import numpy as np
from bench.search import candidates
from bench.search.collection import Opened, Writer

class Good:
    def __init__(self):
        self.rows = []
    def writer(self, folder, dim, capacity):
        return Writer(lambda ids, vectors, texts: self.rows.append(vectors), lambda: self.save(folder / "rows.npy"))
    def save(self, path):
        with open(path.with_suffix(".new"), "wb") as file:
            np.save(file, np.vstack(self.rows))
        os.replace(path.with_suffix(".new"), path)
    def open(self, folder, dim):
        rows = np.load(folder / "rows.npy")
        def search(query, k, setting):
            return np.argsort(-(rows @ query))[:k].tolist(), None
        return Opened(search, lambda: len(rows))

class Late(Good):
    def save(self, path):
        time.sleep(60)

class Crashing(Good):
    def open(self, folder, dim):
        os.kill(os.getpid(), 9)

class Dying(Good):
    def open(self, folder, dim):
        good = super().open(folder, dim)
        calls = []
        def search(query, k, setting):
            calls.append(k)
            if len(calls) > 30:
                raise RuntimeError("out of luck")
            return good.search(query, k, setting)
        return Opened(search, good.count)

class Blind(Good):
    def open(self, folder, dim):
        return Opened(lambda query, k, setting: (list(range(k)), None), lambda: 10**6)

class Forgetful(Good):
    def save(self, path):
        if not path.exists():
            super().save(path)

class Torn(Good):
    def save(self, path):
        path.write_bytes(b"half a file")

def fake(kind, *packages):
    return candidates.Candidate(kind.__name__, "fakes", packages, (), kind())

candidates.PEERS.clear()
candidates.PEERS.update(
    good=fake(Good), late=fake(Late), crashing=fake(Crashing), dying=fake(Dying), blind=fake(Blind),
    forgetful=fake(Forgetful), torn=fake(Torn), missing=fake(Good, "no-such-package"),
)
"""


def command(*arguments: object) -> Result:
    return CliRunner().invoke(main, list(map(str, arguments)))


@pytest.fixture
def fakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fake peers in place of the real ones, here and in child processes."""
    (tmp_path / "search_fakes.py").write_text(FAKES)
    program = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import search_fakes"
    start = "from bench.search import worker; worker.main()"
    monkeypatch.setattr(child, "WORKER", ("-c", f"{program}; {start}"))
    monkeypatch.syspath_prepend(tmp_path)
    before = dict(candidates.PEERS)
    import_module("search_fakes")
    yield
    del sys.modules["search_fakes"]
    candidates.PEERS.clear()
    candidates.PEERS.update(before)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """120 short texts and 30 queries in Banking77's layout."""
    lines = [f"{document.metadata['topic']}\t{document.text}\n" for document in demo_documents()]
    folder = tmp_path / "some"
    folder.mkdir()
    (folder / "train.tsv").write_text("".join(lines[:120]), "utf-8")
    (folder / "test.tsv").write_text("".join(lines[120:150]), "utf-8")
    return folder


def random_vectors(count: int, dim: int = 32, seed: int = 0) -> np.ndarray[Any, np.dtype[np.float32]]:
    found = np.random.default_rng(seed).standard_normal((count, dim), np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def made_up() -> dict[str, Any]:
    """A result of three candidates at one size; the slowest is more exact, the fastest less."""
    figures = {
        name: {
            "setting": setting, "recall": recall, "p50_ms": p50, "p99_ms": 3 * p50, "cpu_ms": p50,
            "bytes_per_vector": 436.4, "bytes_per_vector_with_text": 700.0, "open_rss_bytes": 5_000_000,
            "open_private_bytes": None, "build_seconds": 1.5, "equal_recall": recall >= 0.95,
        }
        for name, setting, recall, p50 in (
            ("edge_embed", 0, 0.95, 2.0), ("faiss-flat", 0, 1.0, 8.0), ("faiss-binary", 400, 0.96, 4.0),
            ("hnswlib", 64, 0.9, 1.0),
        )
    }  # fmt: skip
    facts: dict[str, dict[str, Any]] = {
        name: {"title": f"the {name}", "family": candidates.candidate(name).family} for name in figures
    }
    facts["edge_embed"]["durability"] = {"kills": 3, "survived": 3, "seen": {"fine": 3}}
    facts["hnswlib"]["durability"] = {"kills": 3, "survived": 1, "seen": {"fine": 1, "torn": 2}}
    facts["gone"] = {"title": "the gone", "family": "gone", "reason": "not installed: gone"}
    row = {"vectors": 10_000, "first": 0.7, "last": 0.5, "target_recall": 0.95, "candidates": figures}
    return {
        "date": "2026-01-02T03:04:05+00:00",
        "machine": {"cpu": "A <fast> CPU", "flags": ["avx2"], "cores": 2, "architecture": "x86_64"},
        "model": {"bundle": "a-bundle", "fingerprint": "f00d", "dim": 384},
        "data": {"folders": ["a"], "texts": 9, "queries": 8, "sigma": 0.5,
                 "cosines": {"part_grown_back": {"vectors": 9, "first": 0.6, "last": 0.4}}},
        "settings": {"k": 10},
        "candidates": facts,
        "results": [{**row, "ratios": run.ratios(figures)}],
    }  # fmt: skip


@pytest.mark.slow
def test_ours_and_usearch(data: Path, tmp_path: Path) -> None:
    """One whole small run: both find nearly all, ours survives kills, everything that the table shows is measured."""
    arguments = ["--data", data, "--sizes", 2000, "--peers", "usearch-b1-exact,usearch-f32"]
    arguments += [
        "--queries",
        30,
        "--rounds",
        2,
        "--kills",
        2,
        "--work",
        tmp_path / "work",
        "--plot",
        tmp_path / "a.svg",
    ]
    result = command(*arguments, "--json")
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    (row,) = found["results"]
    assert row["vectors"] == 2000
    assert list(row["candidates"]) == ["edge_embed", "usearch-b1-exact", "usearch-f32"]
    for name, each in row["candidates"].items():
        assert "reason" not in each, (name, each)
        assert each["recall"] > 0.85
        assert each["equal_recall"]
        assert 0 < each["p50_ms"] <= each["p99_ms"]
        assert each["timed_queries"] == each["recall_queries"] == 30
        assert each["bytes_per_vector"] < each["bytes_per_vector_with_text"] < each["bytes_per_vector"] + 400
    assert row["candidates"]["usearch-b1-exact"]["bytes_per_vector"] == pytest.approx(48 + 388, abs=1)
    assert row["candidates"]["edge_embed"]["bytes_per_vector"] > 388
    assert set(row["ratios"]) == {"usearch"}
    assert found["candidates"]["edge_embed"]["durability"] == {
        "kills": 2,
        "survived": 2,
        "seen": {durability.WHOLE: 2},
    }
    assert sum(found["candidates"]["usearch-f32"]["durability"]["seen"].values()) == 2
    assert found["data"]["cosines"]["real"]["first"] > found["data"]["cosines"]["real"]["last"]
    assert ElementTree.parse(tmp_path / "a.svg")  # noqa: S314 - our own file
    assert sorted(path.name.split("-")[0] for path in (tmp_path / "work").iterdir()) == ["queries", "stored", "vectors"]
    assert any("usearch b1 exact, rescored" in line for line in table.lines(found))


@pytest.mark.slow
def test_peers_that_fail_are_named(fakes: None, data: Path) -> None:
    """Not installed, failing while it is opened or searched: told for each, the rest is measured."""
    arguments = ["--data", data, "--sizes", 100, "--peers", "crashing,dying,good,missing"]
    arguments += ["--queries", 25, "--rounds", 2, "--kills", 0]
    result = command(*arguments, "--json")
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    (row,) = found["results"]
    reasons = {name: each.get("reason", "") for name, each in row["candidates"].items()}
    assert reasons.pop("crashing").startswith("opening: its process")
    assert reasons.pop("dying") == "timing: RuntimeError: out of luck"
    assert reasons == {"edge_embed": "", "good": ""}
    assert row["candidates"]["good"]["recall"] == 1
    assert "no-such-package" in found["candidates"]["missing"]["reason"]
    text = "\n".join(table.lines(found))
    assert "Dying: timing: RuntimeError: out of luck" in text
    assert "Good: not installed: no-such-package (pip install 'edge-embed[bench-search]')" in text


@pytest.mark.parametrize(
    ("name", "seen"),
    [
        ("good", durability.WHOLE),
        ("forgetful", "acknowledged vectors are lost"),
        ("torn", "it cannot be opened: "),
        ("crashing", "it cannot be opened: its process"),
        ("blind", "vectors do not find themselves"),
    ],
)
def test_kills(fakes: None, tmp_path: Path, name: str, seen: str) -> None:
    """What a writer that replaces its file keeps, and each way in which others lose."""
    np.save(tmp_path / "vectors.npy", random_vectors(6000))
    found = durability.endure(name, tmp_path / "vectors.npy", tmp_path, 1)
    ((said, times),) = found["seen"].items()
    assert said.startswith(seen)
    assert (times, found["kills"], found["survived"]) == (1, 1, int(name == "good"))
    assert [path.name for path in tmp_path.glob("killed-*")] == []


def test_a_child_says_why_it_has_no_answer(fakes: None, tmp_path: Path) -> None:
    """Late, dead, or wrong; others go on."""
    np.save(tmp_path / "vectors.npy", random_vectors(50))
    (tmp_path / "texts.json").write_text('["a"]')
    order = {
        "do": "build",
        "vectors": str(tmp_path / "vectors.npy"),
        "texts": str(tmp_path / "texts.json"),
        "count": 50,
    }
    with Child() as one:
        with pytest.raises(ChildError, match="no index is open"):
            one.ask({"do": "time", "positions": [0]}, 60)
        with pytest.raises(ChildError, match="KeyError"):
            one.ask({**order, "candidate": "unheard of", "folder": str(tmp_path / "a")}, 60)
        assert one.ask({**order, "candidate": "good", "folder": str(tmp_path / "b")}, 60)["build_seconds"] > 0
        one.kill()
        with pytest.raises(ChildError, match="its process"):
            one.ask({**order, "candidate": "good", "folder": str(tmp_path / "c")}, 60)
    with Child() as one, pytest.raises(LateError, match="longer than 2 s"):
        one.ask({**order, "candidate": "late", "folder": str(tmp_path / "d")}, 2)


def test_growth(tmp_path: Path) -> None:
    """The base first, rows of length 1, about 0.9 to their base, the same whatever the total, however many chunks."""
    base = random_vectors(300, 64)
    grown = vectors.grow(base, 40_000, tmp_path / "a.npy")
    assert grown.shape == (40_000, 64)
    assert grown.dtype == np.float32
    assert (grown[:300] == base).all()
    assert np.linalg.norm(grown, axis=1) == pytest.approx(1, abs=1e-5)
    cosines = (grown[300:] * base[np.arange(300, 40_000) % 300]).sum(axis=1)
    assert cosines.mean() == pytest.approx(1 / np.sqrt(1 + SIGMA**2), abs=0.02)
    assert len(np.unique(grown[:, 0])) > 39_000
    shorter = vectors.grow(base, 20_000, tmp_path / "b.npy")
    assert (shorter == grown[:20_000]).all()
    assert (vectors.grow(base, 100, tmp_path / "c.npy") == base[:100]).all()
    assert list(tmp_path.glob("*.partial")) == []


def test_noise_has_the_covariance_of_the_data(tmp_path: Path) -> None:
    """Where real vectors do not differ, grown ones do not either."""
    base = np.zeros((200, 16), np.float32)
    base[:, :4] = random_vectors(200, 4)
    grown = vectors.grow(base, 4000, tmp_path / "a.npy")
    assert np.abs(grown[:, 4:]).max() < 0.02
    assert np.abs(grown[200:, :4] - base[np.arange(200, 4000) % 200, :4]).mean() > 0.1


def test_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    """As by sorting everything, also over many blocks, the last of them short of k."""
    stored, queries = random_vectors(101, seed=1), random_vectors(9, seed=2)
    monkeypatch.setattr(vectors, "BLOCK", 12)
    ids, cosines = vectors.neighbours(stored, queries, 10)
    assert (ids == np.argsort(-(queries @ stored.T), axis=1)[:, :10]).all()
    assert cosines == pytest.approx(-np.sort(-(queries @ stored.T), axis=1)[:, :10], abs=1e-6)


def test_recall() -> None:
    """The share of the true ones, in whatever order; nothing found is nothing."""
    truth = np.array([[1, 2], [3, 4]])
    assert vectors.recall([[2, 1], [3, 9]], truth) == 0.75
    assert vectors.recall([[], [4]], truth) == 0.25


def test_texts_of_folders(tmp_path: Path) -> None:
    """Both layouts; no text twice, no query that is stored; queries of the folders in turn."""
    beir, banking = tmp_path / "beir", tmp_path / "banking"
    beir.mkdir()
    banking.mkdir()
    documents = [{"_id": str(i), "title": "", "text": text} for i, text in enumerate(["One cat", "one  CAT", "Two"])]
    with gzip.open(beir / "corpus.jsonl.gz", "wt") as file:
        file.writelines(json.dumps(row) + "\n" for row in documents)
    questions = [{"_id": f"q{i}", "text": text} for i, text in enumerate(["two", "which cat", "what cat", "why"])]
    (beir / "queries.jsonl").write_text("".join(json.dumps(row) + "\n" for row in questions))
    (beir / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\n" + "".join(f"q{i}\t0\t1\n" for i in range(4)))
    (banking / "train.tsv").write_text("card\tMy card?\n")
    (banking / "test.tsv").write_text("card\tA card?\n")
    found = texts.read_texts([beir, banking], 10)
    assert sorted(text.casefold().split() for text in found.stored) == [["my", "card?"], ["one", "cat"], ["two"]]
    assert found.queries[1] == "A card?"
    assert sorted(found.queries) == ["A card?", "what cat", "which cat", "why"]
    assert texts.read_texts([beir, banking], 2).queries == found.queries[:2]
    assert texts.read_texts([beir, banking], 10) == found
    (banking / "test.tsv").write_text("no tab\n")
    with pytest.raises(SourceError, match=r"test\.tsv, line 1"):
        texts.read_texts([banking], 10)
    (banking / "test.tsv").write_text("card\tMy  CARD?\n")
    with pytest.raises(SourceError, match="no query"):
        texts.read_texts([banking], 10)
    (banking / "test.tsv").unlink()
    with pytest.raises(SourceError, match="does not exist"):
        texts.read_texts([banking], 10)


def test_texts_of_the_package() -> None:
    """Some hundred, and questions that are not among them."""
    found = texts.read_texts([], 1000)
    assert len(found.stored) > 300
    assert len(found.queries) == 300
    assert not set(found.stored) & set(found.queries)


def test_rescored_with_texts(tmp_path: Path) -> None:
    """Bits propose, int8 vectors decide; each hit brings the text of the real vector that it was made from."""
    stored = random_vectors(500)
    np.save(tmp_path / "vectors.npy", stored)
    (tmp_path / "texts.json").write_text(json.dumps(["even", "odd"]))
    stock = collection.Collection(str(tmp_path / "vectors.npy"), str(tmp_path / "texts.json"), 400)
    assert (stock.count, stock.dim) == (400, 32)
    chosen = candidates.PEERS["usearch-b1-exact"]
    worker.write(chosen, stock, tmp_path / "index")
    opened = worker.open_index(chosen, tmp_path / "index", 32)
    assert opened.count() == 400
    query = random_vectors(1, seed=5)[0]
    best = np.argsort(-(stored[:400] @ query))[:10].tolist()
    ids, found = opened.search(query, 10, 400)
    assert len(set(ids) & set(best)) >= 9
    assert list(found or []) == ["odd" if i % 2 else "even" for i in ids]
    fewer = opened.search(query, 10, 10)[0]
    assert len(set(fewer) & set(best)) < 9


def test_ratios() -> None:
    """To the fastest of a family whose recall is as good as ours; to none that found less."""
    found = made_up()["results"][0]["ratios"]
    assert found == {"faiss": {"candidate": "faiss-binary", "p50": 0.5, "p99": 0.5}}


def test_what_takes_too_long_is_left_out(tmp_path: Path) -> None:
    """By the time that a smaller size took, or when that came to no end; and what finds no room."""
    measured = run._Run(run.Settings(build_limit=100), ["edge_embed"], tmp_path, random_vectors(1), tmp_path, print)
    measured._check_time("edge_embed", 10**9)
    measured._built["edge_embed"] = (10_000, 10.0)
    measured._check_time("edge_embed", 50_000)
    with pytest.raises(ChildError, match="about 125 s, the limit is 100 s"):
        measured._check_time("edge_embed", 100_000)
    measured._built["edge_embed"] = (10_000, float("inf"))
    with pytest.raises(ChildError, match="left out: the limit is 100 s"):
        measured._check_time("edge_embed", 10_001)
    with pytest.raises(ChildError, match=r"needs about 9\.0 GB of memory, 9\.5 GB are free"):
        run._check_room(9_000_000_000, 9_500_000_000, "memory")
    run._check_room(9_000_000_000, None, "memory")


def test_table_and_plot() -> None:
    """Every candidate with its figures; dots in the order of speed, ten times as far for ten times as long."""
    result = made_up()
    text = list(table.lines(result))
    ours = next(line.split() for line in text if line.startswith("the edge_embed"))
    assert ours[2:] == ["-", "0.950", "2.00", "6.00", "2.00", "436", "700", "5", "-", "1.5", "3/3"]
    assert next(line for line in text if line.startswith("the hnswlib")).split()[2:4] == ["64", "0.900*"]
    assert "* less than 0.950 at the best setting tried" in text
    assert "ours / faiss at equal recall: p50 0.50, p99 0.50 (the faiss-binary)" in text
    assert "hnswlib 1/3: fine (1); torn (2)" in text
    assert "the gone: not installed: gone" in text
    drawing = ElementTree.fromstring(plot.svg(result))  # noqa: S314 - made here
    name = "{http://www.w3.org/2000/svg}"
    places = [float(dot.attrib["cx"]) for dot in drawing.iter(f"{name}circle")]
    steps = np.diff(places)
    assert len(places) == 4
    assert steps == pytest.approx([steps[0]] * 3, abs=0.2)  # 1, 2, 4, 8 ms
    labels = [str(label.text) for label in drawing.iter(f"{name}text")]
    assert "2.00  (0.950, 436 B)" in labels
    assert labels[-1].startswith("A <fast> CPU")


def test_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Said with what to install; nothing else is needed for ours."""
    monkeypatch.setattr(versions, "installed_version", lambda _: None)
    assert candidates.why_not(candidates.PEERS["faiss-flat"]) == (
        "not installed: faiss-cpu (pip install 'edge-embed[bench-search]')"
    )
    assert candidates.why_not(candidates.OWN) is None


def test_options_are_explained() -> None:
    """`python -m bench.search --help` says what each option does."""
    assert all(isinstance(option, click.Argument) or option.help for option in main.params)  # type: ignore[attr-defined]
    assert "bench-search" in command("--help").stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--sizes", "0"], "numbers from 1"),
        (["--sizes", "10k"], "numbers from 1"),
        (["--peers", "elastic"], "'elastic' is none of all, none, usearch-f32"),
        (["--data", "nowhere"], "does not exist"),
        (["--rounds", "0"], "--rounds"),
        (["--recall", "2"], "--recall"),
        (["--build-limit", "0"], "--build-limit"),
    ],
)
def test_wrong_usage(arguments: list[str], message: str) -> None:
    """Said by the option that is wrong, before anything is measured."""
    result = command(*arguments)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.replace("│", " ").split())


def test_what_cannot_be_measured(tmp_path: Path) -> None:
    """Exit 1 and one line: fewer vectors than hits, a folder of something else, no place for the plot."""
    for arguments, message in (
        (["--sizes", 9], "9 vectors have no 10 nearest"),
        (["--data", tmp_path], "has no corpus.jsonl"),
        (["--plot", tmp_path / "none" / "a.svg"], "does not exist"),
    ):
        result = command(*arguments)
        assert (result.exit_code, result.stdout) == (1, "")
        assert message in result.stderr


def test_peers_by_family() -> None:
    """A family is all of its members."""
    option = next(o for o in main.params if o.name == "peers")

    def chosen(given: str | None) -> tuple[str, ...]:
        found: tuple[str, ...] = option.callback(None, option, given)
        return found

    assert chosen("hnswlib, FAISS".lower()) == ("hnswlib", "faiss-flat", "faiss-binary", "faiss-hnsw")
    assert chosen("sqlite-vec-b1,lancedb") == ("sqlite-vec-b1", "lancedb", "lancedb-hnsw")
    assert chosen("none") == ()
    assert chosen(None) == chosen("all") == tuple(candidates.PEERS)
