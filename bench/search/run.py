"""The whole run of `python -m bench.search`, as one dict."""

import json
import math
import shutil
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bench.common import OURS
from bench.search import durability
from bench.search.candidates import PEERS, WRITERS, candidate, why_not
from bench.search.child import Child, ChildError, LateError
from bench.search.texts import Texts, read_texts
from bench.search.vectors import digest, embed, grow, neighbours
from edge_embed.doctor.hardware import memory
from edge_embed.embedder import bundle_path
from edge_embed.measuring.vectors import SIGMA
from edge_embed.measuring.versions import when_and_where
from edge_embed_runtime.bundle.bundle import read_bundle
from edge_embed_runtime.errors import InputError

if TYPE_CHECKING:
    Vectors = NDArray[np.float32]

SIZES = (10_000, 100_000)
# Characters of a stored text, the rest is cut off: what matters is that one text is read for each hit.
TEXT_CHARACTERS = 300
# Queries that a setting is first tried on; then on all of them, unless its recall is lower by this.
TUNING_QUERIES, TUNING_SLACK = 200, 0.01
# Equal recall: to the third place.
RECALL_SLACK = 0.0005
# What must be reached where ours was not measured.
USUAL_RECALL = 0.95
# Longest time for trying a setting, for a candidate's recall, and for its part of a round; then with fewer queries.
TUNING_SECONDS, RECALL_SECONDS, ROUND_SECONDS = 15, 60, 20
# For opening, and for answers beyond their own limits (a query of a flat database may take seconds).
PATIENCE_SECONDS = 300
# Memory and disk space that must be left free when an index is built or opened.
RESERVE_BYTES = 1_000_000_000
# Bytes on disk without texts are those of all vectors where building them was quick, else those of a few.
QUICK_SECONDS, FEW_VECTORS = 60, 100_000
# Real vectors that are grown back from this part of them, to compare grown with real.
PART = 8

Say = Callable[[str], None]


@dataclass(frozen=True)
class Settings:
    """What to measure.

    data:   folders of texts
    recall: what our index is asked for, in place of its default
    work:   keeps embedded and grown vectors for the next run
    """

    data: Sequence[str] = ()
    bundle: str | None = None
    sizes: Sequence[int] = SIZES
    peers: Sequence[str] = tuple(PEERS)
    rounds: int = 5
    queries: int = 1000
    k: int = 10
    kills: int = 10
    recall: float | None = None
    build_limit: float = 600
    work: str | None = None


def run_search_benchmark(settings: Settings, say: Say = lambda _: None) -> dict[str, Any]:
    """Measure our index against every peer that can be measured; say(line) tells how far it is.

    Raises SourceError for texts that cannot be read, BundleError for a bundle that cannot be used. A peer that fails,
    at whatever step, is named in the result with its reason.
    """
    names = [OURS, *dict.fromkeys(settings.peers)]
    if min(settings.sizes) < settings.k:
        raise InputError(f"{min(settings.sizes)} vectors have no {settings.k} nearest")
    texts = read_texts(settings.data, settings.queries)
    manifest = read_bundle(bundle_path(settings.bundle or None)).manifest
    if settings.work:
        Path(settings.work).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="run-", dir=settings.work) as scratch:
        kept = Path(settings.work or scratch).absolute()
        say(f"embedding {len(texts.stored):,} texts and {len(texts.queries):,} queries")
        base, queries = embed(texts, settings.bundle, manifest.fingerprint, kept)
        total = max(*settings.sizes, durability.VECTORS)
        say(f"growing {len(base):,} vectors to {total:,}")
        vectors = kept / f"vectors-{digest([manifest.fingerprint, *texts.stored, str(SIGMA)])}-{total}.npy"
        if not vectors.is_file():
            grow(base, total, vectors)
        run = _Run(settings, names, vectors, queries, Path(scratch).absolute(), say)
        run.prepare(texts)
        comparison = compare_growth(base, queries, settings.k, Path(scratch))
        results = [run.measure(count) for count in sorted(set(settings.sizes))]
        run.endure()
    return {
        **when_and_where("search", (package for peer in PEERS.values() for package in peer.packages)),
        "model": {"bundle": manifest.name, "fingerprint": manifest.fingerprint, "dim": manifest.dim},
        "data": {
            "folders": [Path(folder).name for folder in settings.data],
            "texts": len(texts.stored),
            "queries": len(texts.queries),
            "sigma": SIGMA,
            "cosines": comparison,
        },
        "settings": {
            "sizes": sorted(set(settings.sizes)),
            **{name: getattr(settings, name) for name in ("rounds", "k", "kills", "recall", "build_limit")},
        },
        "candidates": run.candidates,
        "results": results,
    }


class _Run:
    """The steps of a run. `candidates` gets what holds at every size."""

    def __init__(
        self, settings: Settings, names: list[str], vectors: Path, queries: "Vectors", work: Path, say: Say
    ) -> None:
        self.settings, self.names, self.work, self.say = settings, names, work, say
        self._vectors, self._queries = vectors, queries
        self._query_file, self._text_file = work / "queries.npy", work / "texts.json"
        self._truth_file = work / "truth.npy"
        self.candidates: dict[str, dict[str, Any]] = {}
        for name in names:
            reason = why_not(candidate(name))
            facts = {"title": candidate(name).title, "family": candidate(name).family, "knob": candidate(name).knob}
            self.candidates[name] = {**facts, **({"reason": reason} if reason else {})}
        # seconds that building took at the largest size so far, or what was against it
        self._built: dict[str, tuple[int, float]] = {}

    def measurable(self) -> list[str]:
        return [name for name in self.names if "reason" not in self.candidates[name]]

    def prepare(self, texts: Texts) -> None:
        """Files that all children read; the vectors are there already."""
        np.save(self._query_file, self._queries)
        self._text_file.write_text(json.dumps([text[:TEXT_CHARACTERS] for text in texts.stored]), "utf-8")

    def measure(self, count: int) -> dict[str, Any]:
        """Every candidate at one size."""
        self.say(f"{count:,} vectors: exact neighbours")
        truth, scores = neighbours(np.load(self._vectors, mmap_mode="r")[:count], self._queries, self.settings.k)
        np.save(self._truth_file, truth)
        figures: dict[str, dict[str, Any]] = {}
        with tempfile.TemporaryDirectory(dir=self.work) as folder, ExitStack() as stack:
            for name in self.measurable():
                figures[name] = self._attempt(name, count, "building", self._build, name, count, Path(folder) / name)
            opened: dict[str, Child] = {}
            for name in self.measurable():
                if "reason" not in figures[name]:
                    child = stack.enter_context(Child())
                    size = figures[name]["bytes"]
                    more = self._attempt(name, count, "opening", self._open, name, child, Path(folder) / name, size)
                    figures[name] |= more
                    if "reason" not in more:
                        opened[name] = child
            target = USUAL_RECALL
            for name, child in opened.items():
                figures[name] |= self._attempt(name, count, "recall", self._tune, name, child, target)
                if name == OURS and "recall" in figures[name]:
                    target = figures[name]["recall"]
            self._time(count, opened, figures)
        for each in figures.values():
            each["equal_recall"] = "recall" in each and each["recall"] >= target - RECALL_SLACK
        return {
            "vectors": count,
            **_cosines(scores),
            "target_recall": target,
            "candidates": figures,
            "ratios": ratios(figures),
        }

    def _attempt(self, name: str, count: int, what: str, action: Callable[..., dict[str, Any]], *given: Any) -> Any:
        """What the action gives, or the reason why it gave nothing."""
        self.say(f"{count:,} vectors: {what}: {candidate(name).title}")
        try:
            return action(*given)
        except ChildError as error:
            self.say(f"  {error}")
            return {"reason": f"{what}: {error}"}

    def _build(self, name: str, count: int, folder: Path) -> dict[str, Any]:
        self._check_time(name, count)
        dim = self._queries.shape[1]
        _check_room(count * dim * 4 * 2, memory()["available"], "memory")
        _check_room(count * (dim * 4 * 2 + 2 * TEXT_CHARACTERS), shutil.disk_usage(self.work).free, "disk space")
        order = {"candidate": name, "folder": str(folder), "count": count}
        order |= {"vectors": str(self._vectors), "texts": str(self._text_file)}
        with Child() as child:
            try:
                built = child.ask({"do": "build", **order}, self.settings.build_limit)
            except LateError:
                self._built[name] = (count, math.inf)
                raise
            self._built[name] = (count, built["build_seconds"])
            most = count if built["build_seconds"] < QUICK_SECONDS else FEW_VECTORS
            sizes = child.ask({"do": "sizes", "most": most, **order}, self.settings.build_limit + PATIENCE_SECONDS)
        shutil.rmtree(folder.with_name(f"{folder.name}-without-texts"), ignore_errors=True)
        return {**built, **sizes}

    def _check_time(self, name: str, count: int) -> None:
        """Raise ChildError when a smaller size says that building would take longer than the limit."""
        if name not in self._built:
            return
        smaller, seconds = self._built[name]
        expected = seconds * count / smaller * math.log(count) / math.log(smaller)
        if expected > self.settings.build_limit:
            about = "" if math.isinf(expected) else f"it would take about {expected:,.0f} s, "
            raise ChildError(f"left out: {about}the limit is {self.settings.build_limit:,.0f} s (--build-limit)")

    def _open(self, name: str, child: Child, folder: Path, size: int) -> dict[str, Any]:
        _check_room(size, memory()["available"], "memory")
        order = {"do": "open", "candidate": name, "folder": str(folder), "queries": str(self._query_file)}
        return child.ask({**order, "k": self.settings.k, "setting": self._tried(name)[0]}, PATIENCE_SECONDS)

    def _tried(self, name: str) -> Sequence[int]:
        """The settings of a candidate; ours has the one that was asked for."""
        return (round(1000 * (self.settings.recall or 0)),) if name == OURS else candidate(name).settings

    def _tune(self, name: str, child: Child, target: float) -> dict[str, Any]:
        """Recall at the first setting where it is at least the target, or at the last one."""
        *others, last = self._tried(name)
        for setting in others:
            if self._recall(child, setting, TUNING_QUERIES, TUNING_SECONDS)["recall"] > target - TUNING_SLACK:
                found = self._recall(child, setting, len(self._queries))
                if found["recall"] >= target - RECALL_SLACK:
                    return found
        return self._recall(child, last, len(self._queries))

    def _recall(self, child: Child, setting: int, most: int, seconds: float = RECALL_SECONDS) -> dict[str, Any]:
        order = {"do": "recall", "truth": str(self._truth_file), "setting": setting, "most": most}
        limits = {"k": self.settings.k, "limit_seconds": seconds}
        found = child.ask({**order, **limits}, seconds + PATIENCE_SECONDS)
        return {"setting": setting, "recall": found["recall"], "recall_queries": found["queries"]}

    def _time(self, count: int, opened: dict[str, Child], figures: dict[str, dict[str, Any]]) -> None:
        """Every candidate answers the same part of the queries in each round, one after the other."""
        samples: dict[str, list[int]] = {}
        cpu: dict[str, float] = {}
        names = [name for name in opened if "recall" in figures[name]]
        for i in range(self.settings.rounds):
            self.say(f"{count:,} vectors: round {i + 1} of {self.settings.rounds}")
            positions = list(range(i, len(self._queries), self.settings.rounds))
            order = {"do": "time", "positions": positions, "k": self.settings.k, "limit_seconds": ROUND_SECONDS}
            turn = i % max(1, len(names))
            for name in names[turn:] + names[:turn]:
                if "reason" in figures[name]:
                    continue
                try:
                    setting = figures[name]["setting"]
                    answer = opened[name].ask({**order, "setting": setting}, ROUND_SECONDS + PATIENCE_SECONDS)
                except ChildError as error:
                    figures[name]["reason"] = f"timing: {error}"
                    continue
                samples.setdefault(name, []).extend(answer["nanoseconds"])
                cpu[name] = cpu.get(name, 0.0) + answer["cpu_seconds"]
        for name, nanoseconds in samples.items():
            p50, p99 = np.percentile(nanoseconds, [50, 99]) / 1e6
            spent = {"cpu_ms": 1e3 * cpu[name] / len(nanoseconds), "timed_queries": len(nanoseconds)}
            figures[name] |= {"p50_ms": float(p50), "p99_ms": float(p99), **spent}

    def endure(self) -> None:
        """Kill one writer of each family; what is seen holds for all of it."""
        if not self.settings.kills:
            return
        families = {candidate(name).family for name in self.measurable()}
        for name in (each for each in WRITERS if candidate(each).family in families):
            self.say(f"kill -9 while writing: {candidate(name).title}")
            with tempfile.TemporaryDirectory(dir=self.work) as folder:
                try:
                    found = durability.endure(name, self._vectors, Path(folder), self.settings.kills)
                except ChildError as error:
                    found = {"reason": str(error)}
            for facts in self.candidates.values():
                if facts["family"] == candidate(name).family:
                    facts["durability"] = found


def compare_growth(base: "Vectors", queries: "Vectors", k: int, work: Path) -> dict[str, Any]:
    """Mean cosines of the queries' first and k-th neighbours among real vectors, and a part of them grown back."""
    part = base[: max(k, len(base) // PART)]
    named = {"real": base, "part": part, "part_grown_back": grow(part, len(base), work / "part.npy")}
    return {
        name: {"vectors": len(vectors), **_cosines(neighbours(vectors, queries, k)[1])}
        for name, vectors in named.items()
    }


def _cosines(scores: "Vectors") -> dict[str, float]:
    """Of the first and the last of k neighbours, means over the queries."""
    return {"first": float(scores[:, 0].mean()), "last": float(scores[:, -1].mean())}


def ratios(figures: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """By family: the fastest of those with a recall as good as ours, and our p50 and p99 divided by its own."""
    ours = figures.get(OURS, {})
    found: dict[str, dict[str, Any]] = {}
    for name, each in figures.items():
        if name == OURS or not each["equal_recall"] or "p50_ms" not in each or "p50_ms" not in ours:
            continue
        best = found.get(candidate(name).family)
        if best is None or each["p50_ms"] < figures[best["candidate"]]["p50_ms"]:
            p50, p99 = (ours[figure] / each[figure] for figure in ("p50_ms", "p99_ms"))
            found[candidate(name).family] = {"candidate": name, "p50": p50, "p99": p99}
    return found


def _check_room(needed: int, available: int | None, what: str) -> None:
    if available is not None and needed + RESERVE_BYTES > available:
        raise ChildError(f"left out: it needs about {needed / 1e9:.1f} GB of {what}, {available / 1e9:.1f} GB are free")
