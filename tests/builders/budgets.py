"""Random work under a random memory budget, in a process of its own: kept, or refused before the memory is taken.

`python tests/budgets.py CASE` does the work that the JSON file CASE says and prints what came of it. Files are read as
`add` reads them: no row is read that is larger than the index has room for.
"""

import json
import os
import random
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from edge_embed import Document, Embedder, Index
from edge_embed.errors import MemoryBudgetError
from edge_embed.files.storing import upsert
from edge_embed_runtime.batches import batches
from edge_embed_runtime.maintenance.verify import verify_index
from edge_embed_runtime.storage.documents import document_bytes
from edge_embed_runtime.system.memory import MB

SHAPES = ("words", "wide", "chinese", "blanks", "one word", "signs")
METADATA = ("small", "string", "numbers", "objects")
WORDS = ("ferry", "boat", "river", "unbelievable", "tokenization", "a")
MORE_MB = 60
LARGEST = 2**40
# What the harness of faults sets for itself: users have threads with heaps of their own.
UNSET = ("MALLOC_ARENA_MAX", "SQLITE_TMPDIR")


def peak_bytes() -> int:
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024


def make_text(rng: random.Random, shape: str, characters: int) -> str:
    """A text of about so many characters."""
    some = {
        "words": lambda: f"{rng.choice(WORDS)}{rng.choice(['', rng.randrange(10**5)])} ",
        "wide": lambda: f"{rng.choice(WORDS)} 😀 ",
        "chinese": lambda: "我们在河边的银行存钱。",
        "blanks": lambda: " " * 97 + "ferry\n",
        "one word": lambda: "x" * 50 + "ferry",
        "signs": lambda: "0!",
    }[shape]
    part = "".join(some() for _ in range(200))
    return "ferry " + (part * (1 + characters // len(part)))[:characters]


def make_metadata(rng: random.Random, shape: str, characters: int) -> dict[str, Any]:
    if shape == "string":
        return {"blob": "x" * characters}
    if shape == "numbers":
        return {"list": [rng.random() for _ in range(characters // 20)]}
    if shape == "objects":
        return {"list": [{} for _ in range(characters // 3)]}
    return {"g": rng.randrange(10), "title": "the title"}


def write_rows(path: Path, rng: random.Random, rows: int, longest: int) -> None:
    """A .jsonl file of rows of all shapes, most of them short."""
    with path.open("w") as file:
        for i in range(rows):
            size = int(10 ** rng.uniform(1, 3 if rng.random() < 0.8 else np.log10(longest)))
            text = make_text(rng, rng.choice(SHAPES), size)
            kind = rng.choice(METADATA) if rng.random() < 0.2 else "small"
            metadata = make_metadata(rng, kind, int(10 ** rng.uniform(1, np.log10(longest))))
            file.write(json.dumps({"key": f"n{i}", "text": text, "metadata": metadata}) + "\n")


def make_vectors(path: Path, seed: int, count: int, dim: int, *, long: int = 6) -> None:
    """An index of given vectors with short texts, and some long ones."""
    random_ = np.random.default_rng(seed)
    rng = random.Random(seed)  # noqa: S311 - not for secrets
    with Index.create(path, space="random", dim=dim) as index:
        for start in range(0, count, 4096):
            ids = range(start, min(start + 4096, count))
            documents = [Document(f"d{i}", f"ferry {rng.choice(WORDS)} {i % 100}", {"g": i % 10}) for i in ids]
            index.add_vectors(documents, random_.standard_normal((len(ids), dim)))
        texts = (make_text(rng, shape, 200_000) for shape in SHAPES[:long])
        documents = [Document(f"long{i}", text, {"g": 3, "x": "y" * 10**5}) for i, text in enumerate(texts)]
        index.add_vectors(documents, random_.standard_normal((long, dim)))


def make_texts(path: Path, seed: int, count: int) -> None:
    """An index of texts of the static bundle, some of many passages."""
    rng = random.Random(seed)  # noqa: S311 - not for secrets
    with Index.open(path, Embedder("static")) as index:
        index.add([Document(f"d{i}", make_text(rng, "words", 400), {"g": i % 10}) for i in range(count)])
        index.add([Document(f"long{i}", make_text(rng, SHAPES[i], 300_000), {"g": 3}) for i in range(6)])


def make_case(rng: random.Random, indexes: dict[str, Path], folder: Path, longest: int) -> dict[str, Any]:
    """What a child has to do: searches of one of the indexes, or rows of a file to store in one."""
    name = rng.choice(sorted(indexes))
    case: dict[str, Any] = {"index": str(indexes[name]), "kind": name, "more": rng.uniform(0, MORE_MB)}
    if name == "texts" and rng.random() < 0.5:
        path = folder / "rows.jsonl"
        write_rows(path, rng, rng.choice([1, 5, 300]), longest)
        return case | {"rows": str(path), "new": str(folder / "new.db")}
    modes = ["vector"] if name == "vectors" else ["vector", "text", "hybrid"]
    searches = [
        {
            "k": rng.choice([1, 10, 100, 1000, 5000, 10**5, LARGEST]),
            "mode": rng.choice([*modes, "text"]),
            "where": rng.choice([None, None, {"g": 3}, {"g": {"$gt": 20}}, {"$key": {"$prefix": "d1"}}]),
            "list": rng.random() < 0.3,
        }
        for _ in range(rng.randint(1, 6))
    ]
    return case | {"searches": searches, "threads": rng.choice([1, 1, 2, 6])}


def run_case(case: dict[str, Any], folder: Path) -> tuple[dict[str, Any], list[str]]:
    """What a child that did it said, and what was wrong with that."""
    path = folder / "case.json"
    path.write_text(json.dumps(case))
    command = [sys.executable, __file__, str(path)]
    environment = {name: value for name, value in os.environ.items() if name not in UNSET}
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, env=environment)
    if done.returncode:
        return {}, [f"ended with {done.returncode}: {done.stderr[-2000:]}"]
    said: dict[str, Any] = json.loads(done.stdout)
    wrong = list(said["wrong"])
    if said["peak"] > said["limit"]:
        wrong.append(f"{said['peak'] / MB:.1f} MB of {said['limit'] / MB:.1f}: {said['done']}")
    return said, wrong


def least(call: Callable[[], object]) -> float:
    """The megabytes that a refusal names."""
    try:
        call()
    except MemoryBudgetError as error:
        (found,) = re.findall(r"the least is (\d+) MB", str(error))
        return float(found)
    raise AssertionError("nothing was refused")


def work(case: dict[str, Any]) -> dict[str, Any]:
    said: dict[str, Any] = {"done": [], "refused": [], "wrong": []}
    if case["kind"] == "texts":
        limit = least(lambda: Embedder("static", max_rss_mb=1)) + case["more"]
    else:
        limit = least(lambda: Index.open(case["index"], read_only=True, max_rss_mb=1)) + case["more"]
    try:  # also the embedder: what was refused before has left something behind
        embedder = Embedder("static", max_rss_mb=limit) if case["kind"] == "texts" else None
        if "rows" in case:
            store(case, embedder, limit, said)
        else:
            with Index.open(case["index"], embedder, read_only=True, max_rss_mb=limit) as index:
                search(index, case, said)
    except MemoryBudgetError as error:
        said["refused"].append(str(error))
    return {**said, "limit": limit * MB, "peak": peak_bytes()}


def search(index: Index, case: dict[str, Any], said: dict[str, Any]) -> None:
    """Every search in each of the threads at once."""
    total = len(index)
    vector = None
    if case["kind"] == "vectors":
        vector = np.random.default_rng(1).standard_normal(int(index.stats()["dim"]))

    def one(asked: dict[str, Any]) -> None:
        text = None if vector is not None and asked["mode"] == "vector" else "a ferry on the river"
        given = vector if asked["mode"] == "vector" else None
        if asked.get("list"):
            look_through(index, asked, said)
            return
        try:
            hits = index.search(text, asked["k"], asked["where"], asked["mode"], vector=given)
        except MemoryBudgetError as error:
            said["refused"].append(f"{asked}: {error}")
            works = re.search(r"k=(\d+) works", str(error))
            if works and int(works[1]) >= asked["k"]:
                said["wrong"].append(f"{asked} is refused, {error}")
            return
        if len({hit.key for hit in hits}) < len(hits) or len(hits) > asked["k"]:
            said["wrong"].append(f"{asked}: a hit twice, or too many")
        # every document has a vector, and the word
        if asked["where"] is None and len(hits) != min(asked["k"], total):
            said["wrong"].append(f"{asked}: {len(hits)} hits of {total}")
        said["done"].append([asked, len(hits)])

    def run() -> None:
        for asked in case["searches"]:
            one(asked)

    threads = [threading.Thread(target=run) for _ in range(case["threads"])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def look_through(index: Index, asked: dict[str, Any], said: dict[str, Any]) -> None:
    """List what fits, count it and the values of a field."""
    try:
        where = asked["where"]
        listed = sum(1 for _ in index.find(where))
        if index.count(where) != listed or sum(n for _, n in index.field_values("g", where, limit=10**6)) != listed:
            said["wrong"].append(f"{asked}: {listed} listed")
    except MemoryBudgetError as error:
        said["refused"].append(f"{asked}: {error}")
    else:
        said["done"].append([asked, listed])


def store(case: dict[str, Any], embedder: Any, limit: float, said: dict[str, Any]) -> None:
    """The rows of a file, and that all which was acknowledged is there, and whole."""
    with Index.open(case["new"], embedder, max_rss_mb=limit) as index:
        bounds = index.bounds
        assert bounds is not None
        limits = ((lambda row: len(row.text), 10**6), (document_bytes, bounds.batch))
        for documents in batches(rows(Path(case["rows"]), bounds.row, said), 256, *limits):
            changed, refused = upsert(index, documents)
            said["refused"] += [reason for _, reason in refused]
            keys = {document.key for document in documents} - {document.key for document, _ in refused}
            if changed != len(keys) or not all(key in index for key in keys):
                said["wrong"].append(f"{changed} stored of {sorted(keys)}")
            again, _ = upsert(index, [document for document in documents if document.key in keys][:1])
            if again:
                said["wrong"].append("what is there was stored again")
            said["done"].append(changed)
        search(
            index, {"kind": "texts", "searches": [{"k": 5, "mode": "hybrid", "where": {"g": 3}}], "threads": 1}, said
        )
        said["documents"] = len(index)


def rows(path: Path, longest: int, said: dict[str, Any]) -> Iterator[Document]:
    with path.open("rb") as file:
        while raw := file.readline(longest + 1):
            if len(raw) > longest:
                said["refused"].append("a row")
                while not raw.endswith(b"\n"):
                    raw = file.readline(10**5)
                continue
            row = json.loads(raw)
            document = Document(row["key"], row["text"], row["metadata"])
            del raw, row
            yield document
            del document


def check_stored(case: dict[str, Any], said: dict[str, Any]) -> list[str]:
    """What is wrong with an index that rows were stored in, looked at without a budget."""
    if "new" not in case or not Path(case["new"]).exists():
        return []
    report = verify_index(case["new"])
    wrong = [] if report.whole else [f"{case['new']} is damaged: {report}"]
    if "documents" in said and sum(n for n in said["done"] if isinstance(n, int)) != said["documents"]:
        wrong.append(f"{said['documents']} documents, stored were {said['done']}")
    for file in Path(case["new"]).parent.glob("new.db*"):
        file.unlink()
    return wrong


if __name__ == "__main__":
    print(json.dumps(work(json.loads(Path(sys.argv[1]).read_text()))))  # noqa: T201
