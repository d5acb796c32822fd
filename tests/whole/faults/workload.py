"""What the harness does to an index, what must be there afterwards, and the check that it is."""

import json
import random
import shutil
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from builders.bert import TINY, WORDS, bert_tensors, word_tokenizer
from children import Shim
from numpy.typing import NDArray

from edge_embed import Document, Embedder, Index
from edge_embed.errors import EdgeEmbedError
from edge_embed_runtime.maintenance.verify import verify_index

NAME = "notes.db"
KEYS = 60  # keys that a workload uses
DIM = 32  # of given vectors
WORD = "cat"  # what searches look for
QUERY = np.ones(DIM, np.float32)
State = dict[str, Document]


@dataclass
class Row:
    """One line of the table that the harness prints."""

    fault: str
    runs: int = 0
    lost: int = 0  # acknowledged documents are missing or wrong
    torn: int = 0  # an operation is there in part
    crashes: int = 0
    hangs: int = 0
    wrong: int = 0  # invented or silently changed results, errors of the wrong kind
    seconds: float = 0.0
    control: bool = False  # a negative control: it must lose
    skipped: str | None = None
    notes: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def fail(self, kind: str, case: str, what: str) -> None:
        setattr(self, kind, getattr(self, kind) + 1)
        self.failures.append(f"{case}: {kind}: {what}")

    @property
    def good(self) -> bool:
        failed = self.lost + self.torn + self.crashes + self.hangs + self.wrong
        return bool(self.skipped) or (self.lost + self.torn > 0 if self.control else not failed and self.runs > 0)


def make_bundle(folder: Path) -> Path:
    """An int8 bundle of a small random BERT, as in conftest.py. Run it in a child: it starts onnxruntime's threads."""
    from safetensors.numpy import save_file

    from edge_embed_export import export_model

    source = folder / "checkpoint"
    (source / "1_Pooling").mkdir(parents=True)
    kinds = "sentence_transformers.models."
    modules = [("Transformer", ""), ("Pooling", "1_Pooling"), ("Normalize", "2_Normalize")]
    files = {
        "config.json": TINY,
        "tokenizer.json": word_tokenizer(),
        "sentence_bert_config.json": {"max_seq_length": 24},
        "1_Pooling/config.json": {"word_embedding_dimension": 32, "pooling_mode_mean_tokens": True},
        "modules.json": [{"idx": i, "name": str(i), "path": p, "type": kinds + k} for i, (k, p) in enumerate(modules)],
    }
    for name, content in files.items():
        (source / name).write_text(json.dumps(content))
    (source / "README.md").write_text("---\nlicense: apache-2.0\n---\n# A random model\n")
    save_file(bert_tensors(TINY), source / "model.safetensors")
    export_model(source, folder / "tiny")
    return folder / "tiny"


class Operation(NamedTuple):
    """add, upsert (documents), delete (keys), compact, repair, rebuild or reopen (nothing)."""

    name: str
    content: Any = None


def make_document(rng: random.Random, key: str) -> Document:
    words = rng.choice([3, 6, 12, 12, 25, 150])
    text = " ".join(rng.choices(WORDS, k=words)) + f" {key} x{rng.randrange(10**6)}"
    return Document(key, text, {"n": int(key[1:]), "lang": rng.choice(["en", "de"])})


def next_operation(rng: random.Random, state: State) -> Operation:
    """An operation that fits a state."""
    free = [f"d{i}" for i in range(KEYS) if f"d{i}" not in state]
    kinds = ["upsert", "upsert", "reopen", "compact", "repair", "rebuild"]
    kinds += ["add"] * (4 if len(free) > 20 else 1) * bool(free) + ["delete"] * (2 if len(state) > 5 else 0)
    name = rng.choice(kinds)
    if name == "add":
        return Operation(name, [make_document(rng, key) for key in rng.sample(free, min(len(free), rng.randint(1, 8)))])
    if name == "upsert":
        keys = rng.sample([f"d{i}" for i in range(KEYS)], rng.randint(1, 8))
        kept = [key for key in keys if key in state and rng.random() < 0.3]
        return Operation(name, [state[key] if key in kept else make_document(rng, key) for key in keys])
    return Operation(name, rng.sample(sorted(state), rng.randint(1, 5)) if name == "delete" else None)


def after(state: State, operation: Operation) -> State:
    if operation.name == "delete":
        return {key: document for key, document in state.items() if key not in operation.content}
    return {**state, **{document.key: document for document in operation.content or ()}}


def plan(rng: random.Random, start: State, count: int) -> tuple[list[Operation], list[State]]:
    """Operations, and the states before the first and after each."""
    operations, states = [], [start]
    for _ in range(count):
        operations.append(next_operation(rng, states[-1]))
        states.append(after(states[-1], operations[-1]))
    return operations, states


def given(documents: Sequence[Document]) -> NDArray[np.float32]:
    """Vectors [n, 32] for documents of an index without an embedder."""
    seeds = [zlib.crc32(document.text.encode()) for document in documents]
    return np.array([np.random.default_rng(seed).standard_normal(DIM) for seed in seeds], np.float32)


class Store:
    """An index as the harness drives it, with an embedder; controls.py has other stores to compare with."""

    def __init__(self, folder: Path, embedder: Embedder) -> None:
        self._path, self._embedder = folder / NAME, embedder
        self.index = self._open()

    def _open(self) -> Index:
        return Index.open(self._path, self._embedder)

    def apply(self, operation: Operation) -> None:
        if operation.name == "reopen":
            self.index.close()
            self.index = self._open()
        elif operation.content is None:
            getattr(self.index, operation.name)()
        else:
            getattr(self.index, operation.name)(operation.content)

    def close(self) -> None:
        self.index.close()

    @staticmethod
    def check(folder: Path, allowed: Sequence[State], embedder: Embedder, *, deep: bool = True) -> "Verdict":
        """See `check`."""
        return check(folder, allowed, embedder, deep=deep)


class Given(Store):
    """An index whose vectors are given."""

    def _open(self) -> Index:
        return Index.open(self._path) if self._path.exists() else Index.create(self._path, space="faults", dim=DIM)

    def apply(self, operation: Operation) -> None:
        if operation.name in ("add", "upsert"):
            getattr(self.index, f"{operation.name}_vectors")(operation.content, given(operation.content))
        else:
            super().apply(operation)

    @staticmethod
    def check(
        folder: Path,
        allowed: Sequence[State],
        embedder: Embedder,  # noqa: ARG004 - Store's
        *,
        deep: bool = True,
    ) -> "Verdict":
        return check(folder, allowed, None, deep=deep)


class Verdict(NamedTuple):
    """state: which of the allowed states was found; kind and what: "lost", "torn" or "wrong" where none was."""

    state: State | None
    kind: str = ""
    what: str = ""


def judge(found: dict[str, Any], allowed: Sequence[State]) -> Verdict:
    """What is stored, against what was acknowledged (the first state) and what may be there as well (the second)."""
    for state in allowed:
        if found == state:
            return Verdict(state)
    acknowledged = allowed[0]
    steady = [key for key in acknowledged if all(state.get(key) == acknowledged[key] for state in allowed)]
    lost = [key for key in steady if found.get(key) != acknowledged[key]]
    if lost:
        return Verdict(None, "lost", f"{lost[:3]} and {len(lost)} in all: {found.get(lost[0])!r}"[:300])
    differing = {key for state in allowed for key in state if state.get(key) != found.get(key)} | found.keys()
    return Verdict(None, "torn", f"neither before nor after the last operation: {sorted(differing)[:5]}")


def contents(index: Index, keys: Sequence[str]) -> State:
    return {key: document for key in keys if (document := index.get(key)) is not None}


def check(
    folder: Path, allowed: Sequence[State], embedder: Embedder | None, *, deep: bool = True, repair: bool = False
) -> Verdict:
    """Recover the index in a folder and compare it with the states that may be there; a new document is added too.

    embedder: None where vectors are given
    deep:     verify every row as well
    repair:   it may be found damaged, and whole after `repair`
    """
    path = folder / NAME
    if not path.exists() and not allowed[0]:
        return Verdict(allowed[0])
    try:
        with Index.open(path, embedder) as index:
            if repair:
                index.repair()
            keys = sorted({key for state in allowed for key in state})
            verdict = judge(contents(index, keys), allowed)
            if verdict.state is None:
                return verdict
            problem = (
                wrong_count(index, verdict.state)
                or wrong_hits(index, verdict.state, "text", query=WORD)
                or wrong_hits(index, verdict.state, "vector", **({"query": WORD} if embedder else {"vector": QUERY}))
                or (wrong_rows(index) if deep else None)
                or wrong_addition(index, texts=embedder is not None)
            )
    except EdgeEmbedError as error:
        return Verdict(None, "lost", f"{type(error).__name__}: {error}")
    return Verdict(None, "wrong", problem) if problem else verdict


def wrong_count(index: Index, state: State) -> str | None:
    return None if len(index) == len(state) else f"{len(index)} documents are counted, not {len(state)}"


def wrong_hits(index: Index, state: State, mode: Literal["text", "vector"], **query: Any) -> str | None:
    """Whether a search for all documents finds them, or those with WORD, as they are."""
    hits = index.search(k=len(state) + 1, mode=mode, **query)
    expected = {key for key, document in state.items() if mode == "vector" or WORD in document.text.split()}
    if {hit.key for hit in hits} != expected or len(hits) != len(expected):
        return f"search in mode {mode!r} finds {len(hits)} documents, not {len(expected)}"
    for hit in hits:
        document = state[hit.key]
        if (hit.text, hit.metadata) != (document.text[hit.start : hit.end], document.metadata):
            return f"a hit differs from its document: {hit}"
    return None


def wrong_rows(index: Index) -> str | None:
    report = verify_index(index.path)
    return None if report.whole and not index.damaged else f"verify: {report.damaged} {report.problems}"[:300]


def wrong_addition(index: Index, *, texts: bool) -> str | None:
    """Whether a new document can be stored and deleted. texts: whether there is an embedder."""
    new = Document("new", "a new river", {"n": -1})
    added = index.add([new]) if texts else index.add_vectors([new], given([new]))
    if added != 1 or index.get("new") != new:
        return "a new document is not stored"
    return None if index.delete("new") == 1 else "the new document is not deleted"


@dataclass(frozen=True)
class Bench:
    """What every part of the harness works with. `only` runs one case of the part again."""

    folder: Path
    bundle: Path
    shim: Shim
    seed: int
    only: int | None = None

    def embedder(self) -> Embedder:
        """Of the process that calls it."""
        return Embedder(self.bundle, threads=1)

    def rng(self, *names: object) -> random.Random:
        return random.Random("/".join(map(str, (self.seed, *names))))  # noqa: S311 - not for secrets

    def fresh(self) -> Path:
        """An empty folder."""
        folder = self.folder / "run"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        return folder

    def cases(self, count: int, series: int = 1) -> range:
        """The numbers of a part's cases. One alone needs those before it in its series."""
        return range(count) if self.only is None else range(self.only // series * series, self.only + 1)
