"""Bytes of a closed index changed at random: equal results or a clear error, never a crash, a hang or a wrong hit."""

import random
import shutil
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from children import Child, HangError, Send, in_child
from powercut import read_files, write_files
from workload import KEYS, NAME, Bench, Operation, Row, State, Store, after, contents, make_document, next_operation

from edge_embed import Document, Embedder, Index
from edge_embed.errors import EdgeEmbedError
from edge_embed_runtime.maintenance.verify import verify_index

PAGE = 4096
SECTOR = 512
LIMIT = 10.0  # seconds that one mutation may take
OPERATIONS = 20  # of the workload whose index and log are damaged
DAMAGED, PLACES, TRIES = 3, 3, 60  # restorable files to make, damage in each, mutations tried for it
QUERY = "cat river"
WHERE = {"lang": "en"}
MODES = ("vector", "text", "hybrid")
EPSILON = 1e-6  # between scores that ought to be equal

Mutation = Callable[[random.Random, bytearray], None]


def _place(rng: random.Random, data: bytearray, size: int) -> int:
    return rng.randrange(max(1, len(data) - size + 1))


def flip_bit(rng: random.Random, data: bytearray) -> None:
    data[_place(rng, data, 1)] ^= 1 << rng.randrange(8)


def change_bytes(rng: random.Random, data: bytearray) -> None:
    for _ in range(rng.randint(1, 8)):
        data[_place(rng, data, 1)] = rng.randrange(256)


def overwrite(rng: random.Random, data: bytearray) -> None:
    size = rng.choice([4, 16, 64, SECTOR])
    start = _place(rng, data, size)
    data[start : start + size] = rng.randbytes(min(size, len(data) - start))


def truncate(rng: random.Random, data: bytearray) -> None:
    size = rng.randrange(len(data))
    del data[size - size % rng.choice([1, SECTOR, PAGE]) :]


def lengthen(rng: random.Random, data: bytearray) -> None:
    data += rng.randbytes(rng.choice([1, 100, PAGE]))


def zero_page(rng: random.Random, data: bytearray) -> None:
    size = rng.choice([SECTOR, PAGE])
    start = _place(rng, data, size) // size * size
    data[start : start + size] = bytes(min(size, len(data) - start))


def copy_page(rng: random.Random, data: bytearray) -> None:
    """A page in the place of another, as a disk that mixes up its blocks."""
    size = rng.choice([SECTOR, PAGE])
    source, target = (_place(rng, data, size) // size * size for _ in range(2))
    page = data[source : source + size]
    data[target : target + len(page)] = page


def page_header(rng: random.Random, data: bytearray) -> None:
    """The first bytes of a page, which say where SQLite finds its rows."""
    start = _place(rng, data, PAGE) // PAGE * PAGE
    data[min(len(data) - 1, start + rng.randrange(100))] = rng.randrange(256)


MUTATIONS: tuple[Mutation, ...] = (
    flip_bit, flip_bit, change_bytes, overwrite, truncate, lengthen, zero_page, copy_page, page_header, page_header,
)  # fmt: skip


def damaged_index(folder: Path, embedder: Embedder, rng: random.Random) -> tuple[State, list[bytes]]:
    """Documents, and index files with them that are damaged in several places, all of which `repair` restores."""
    path, state = folder / NAME, {key: make_document(rng, key) for key in (f"d{i}" for i in range(KEYS))}
    with Index.open(path, embedder) as index:
        index.add(state.values())
    whole, found = path.read_bytes(), []
    while len(found) < DAMAGED:
        data, damage = bytearray(whole), 0
        for _ in range(TRIES):
            tried = bytearray(data)
            flip_bit(rng, tried)
            path.write_bytes(tried)
            if (seen := _seen(path)) > damage and _restorable(path, embedder, state):
                data, damage = tried, seen
        if damage >= PLACES:
            found.append(bytes(data))
    return state, found


def _seen(path: Path) -> int:
    """Damaged documents and other problems that `verify` sees; 0 where the file cannot be read at all."""
    try:
        report = verify_index(path)
    except EdgeEmbedError:
        return 0
    return len(report.damaged) + len(report.problems)


def _restorable(path: Path, embedder: Embedder, state: State) -> bool:
    """Whether `repair` restores all documents."""
    copy = Path(shutil.copy(path, path.with_name("copy.db")))
    try:
        with Index.open(copy, embedder) as index:
            return index.repair().whole and contents(index, list(state)) == state
    except EdgeEmbedError:
        return False


class Target(NamedTuple):
    """A file to damage, and how to look at the result.

    files:    all that lie in the folder, among them the one to damage
    examine:  in a child process, says how it ended (such as "told", where the user was) and what is wrong with that
    """

    files: dict[str, bytes]
    damaged: str
    examine: Callable[[Path, Embedder], tuple[str, list[str]]]


def mutate(rng: random.Random, whole: bytes) -> tuple[str, bytes]:
    """The name of a mutation, and the file after it."""
    data = bytearray(whole)
    mutation = rng.choice(MUTATIONS)
    mutation(rng, data)
    return mutation.__name__, bytes(data)


def mutate_all(bench: Bench, row: Row, count: int, name: str) -> None:
    """Mutations one after the other in a child process; a new one goes on where that dies or hangs.

    Where it is silent for too long it gets a second try: now and then the whole machine stands still.
    """
    files, damaged, examine = target(bench, name)
    cases, ends, slow = bench.cases(count), Counter[str](), -1
    while cases:

        def work(send: Send) -> None:
            embedder = bench.embedder()
            for case in cases:  # noqa: B023 - the child's own copy
                mutation, data = mutate(bench.rng(row.fault, case), files[damaged])
                folder = write_files(bench.folder / "run", {**files, damaged: data})
                send(mutation)
                send(examine(folder, embedder))

        child, mutation = Child(work), "not begun"
        try:
            for message in child.messages(LIMIT):
                if isinstance(message, str):
                    mutation = message
                    continue
                row.runs += 1
                ends[message[0]] += 1
                for wrong in message[1]:
                    row.fail("wrong", f"case {cases[0]} ({mutation})", wrong)
                cases = cases[1:]
            problem = ("crashes", child.crashed) if child.crashed else None
        except HangError:
            problem = ("hangs", f"no answer for {LIMIT:.0f} s, twice") if cases[0] == slow else None
            slow = cases[0]
        if problem:
            row.fail(problem[0], f"case {cases[0]} ({mutation})", problem[1])
            cases = cases[1:]
    row.notes.append(", ".join(f"{count} {end}" for end, count in ends.most_common()))


class Truth:
    """What was stored: the states that were committed, of which the last is the newest.

    Damage in SQLite's log ends it: what is found then is an earlier state. `scores` are those of the newest state's
    documents in mode "vector".
    """

    def __init__(self, states: Sequence[State], scores: dict[str, float]) -> None:
        self._states, self._scores = states, scores
        self._keys = sorted({key for state in states for key in state})

    def examine(self, folder: Path, embedder: Embedder) -> tuple[str, list[str]]:
        """See `Target`."""
        return _Examination(self._states, self._scores, self._keys).run(folder / NAME, embedder)


class _Examination:
    """One damaged index, as its users see it."""

    def __init__(self, states: Sequence[State], scores: dict[str, float], keys: list[str]) -> None:
        self._states, self._scores, self._keys = states, scores, keys
        self._told, self._found = "", "not opened"
        self._wrong: list[str] = []

    def run(self, path: Path, embedder: Embedder) -> tuple[str, list[str]]:
        report = self._attempt("verify", lambda: verify_index(path))
        if report is not None and not report.whole:
            self._told = f"verify: {report.damaged} {report.problems}"
        index = self._attempt("open", lambda: Index.open(path, embedder, read_only=True))
        if index is not None:
            self._read(index)
            self._attempt("close", index.close)
        index = self._attempt("open for writing", lambda: Index.open(path, embedder))
        if index is not None:
            self._write(index)
            self._attempt("close after writing", index.close)
        return "told" if self._told else self._found, self._wrong

    def _attempt(self, what: str, use: Callable[[], Any]) -> Any:
        """A result, or None where there was an error of ours."""
        try:
            return use()
        except EdgeEmbedError as error:
            self._told = f"{what}: {error}"
        except Exception as error:  # noqa: BLE001 - that is what is looked for
            place = traceback.extract_tb(error.__traceback__)[-1]
            self._wrong.append(f"{what}: {type(error).__name__}: {error} ({Path(place.filename).name}:{place.lineno})")
        return None

    def _documents(self, index: Index, what: str) -> State:
        """Every document that is found; each has to be one that was stored under its key."""
        found = {key: d for key in self._keys if (d := self._attempt(what, lambda: index.get(key))) is not None}  # noqa: B023
        for key, document in found.items():
            if all(state.get(key) != document for state in self._states):
                self._wrong.append(f"{what}: {key!r} was never {document!r}"[:300])
        return found

    def _read(self, index: Index) -> None:
        found = self._documents(index, "get")
        count = self._attempt("len", lambda: len(index))
        self._attempt("stats", index.stats)
        ranked = {mode: self._search(index, mode) for mode in MODES}
        chosen = self._search(index, "hybrid", where=WHERE)
        self._told = self._told or ("damaged passages" if index.damaged else "")
        if self._told:
            return
        state = next((state for state in self._states if state == found), None)
        if state is None or count != len(state):
            self._wrong.append(f"silent: {len(found)} documents, {count} counted")
            return
        self._found = "equal" if state == self._states[-1] else "an earlier state"
        holders = {key for key, document in state.items() if set(QUERY.split()) & set(document.text.split())}
        for mode, expected in zip(MODES, (set(state), holders, set(state)), strict=True):
            if set(ranked[mode]) != expected:
                self._wrong.append(f"silent: mode {mode!r} finds {len(ranked[mode])} of {len(expected)}")
        fitting = {key for key, document in state.items() if WHERE.items() <= document.metadata.items()}
        if set(chosen) != fitting:
            self._wrong.append(f"silent: with `where` {len(chosen)} of {len(fitting)} are found")
        different = [
            key for key, score in ranked["vector"].items() if abs(score - self._scores.get(key, score)) > EPSILON
        ]
        if state == self._states[-1] and different:
            self._wrong.append(f"silent: other scores for {different[:3]}")

    def _search(self, index: Index, mode: Any, where: dict[str, Any] | None = None) -> dict[str, float]:
        """Scores of the hits by key; each hit has to be a part of a document that was stored, and fit `where`."""
        k = len(self._keys) + 1
        hits = self._attempt(f"search {mode}", lambda: index.search(QUERY, k=k, where=where, mode=mode)) or []
        for hit in hits:
            texts = [(state[hit.key].text, state[hit.key].metadata) for state in self._states if hit.key in state]
            if not any(hit.text == text[hit.start : hit.end] and hit.metadata == data for text, data in texts):
                self._wrong.append(f"search {mode}: a hit that was never stored: {hit!r}"[:300])
            if not (where or {}).items() <= hit.metadata.items():
                self._wrong.append(f"search {mode}: a hit that does not fit `where`: {hit!r}"[:300])
        scores = {hit.key: hit.score for hit in hits}
        if len(scores) < len(hits):
            self._wrong.append(f"search {mode}: a document twice")
        return scores

    def _write(self, index: Index) -> None:
        """Where reading told of no damage, writing finds none; where it did, `repair` helps or says so."""
        quiet = not self._told
        new = Document("new", "a new river", {"n": -1})
        added = self._attempt("add", lambda: index.add([new]))
        if added and quiet and self._attempt("get after add", lambda: index.get("new")) != new:
            self._wrong.append(f"an added document is not found {self._told}")
        done = self._attempt("repair", index.repair)
        if quiet and (self._told or done is None or done.restored or not done.whole):
            self._wrong.append(f"writing found what reading did not: {self._told or done}"[:300])
        self._documents(index, "get after repair")
        if done is not None and done.whole:
            if not verify_index(index.path).whole:
                self._wrong.append("repair says whole, verify does not")
            if added and self._attempt("get after repair", lambda: index.get("new")) != new:
                self._wrong.append("an added document is gone after repair")


def target(bench: Bench, name: str) -> Target:
    """The closed index; an index and its log, as a kill leaves them, with the one or the other damaged; the graph."""
    closed, left, states, scores = in_child(lambda: _make(bench, graph=name == "graph"))
    newest, every = Truth(states[-1:], scores).examine, Truth(states, {}).examine
    return {
        "index": Target(closed, NAME, newest),
        "graph": Target(closed, f"{NAME}.graph", newest),
        "index beside its log": Target(left, NAME, every),
        "log (-wal)": Target(left, f"{NAME}-wal", every),
        "-shm": Target(left, f"{NAME}-shm", newest),
    }[name]


def _make(bench: Bench, *, graph: bool) -> tuple[dict[str, bytes], dict[str, bytes], list[State], dict[str, float]]:
    """(files of a closed index, files of one in use, the states it had, scores of the last)."""
    folder, embedder = bench.fresh(), bench.embedder()
    rng, states = bench.rng("mutations"), [State()]
    operations = [Operation("add", [make_document(rng, f"d{i}") for i in range(KEYS // 2)])]
    while len(operations) < OPERATIONS:
        operation = next_operation(rng, after(states[-1], operations[-1]))
        if len(operations) < 5 or operation.content:  # a later checkpoint would empty the log
            states.append(after(states[-1], operations[-1]))
            operations.append(operation)
    states.append(after(states[-1], operations[-1]))
    store = Store(folder, embedder)
    for operation in operations:
        store.apply(operation)
    left = read_files(folder, shared=True)
    if graph:
        store.index.rebuild("always")
    scores = {hit.key: hit.score for hit in store.index.search(QUERY, k=KEYS + 1, mode="vector")}
    store.close()
    return read_files(folder), left, states, scores
