"""The whole run of `python -m bench.encode`, as one dict."""

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.common import OURS
from bench.encode import mask, peers
from bench.encode.children import Outcome, run_child
from bench.encode.measure import operations_per_token, ratio_to_best_peer
from bench.encode.peers import PEERS
from bench.encode.plan import INSTALL, Plan, Settings, find_source, make_plan
from bench.encode.runtimes import Source
from edge_embed.embedder import bundle_path
from edge_embed.measuring import versions
from edge_embed.measuring.versions import when_and_where
from edge_embed_runtime.bundle.bundle import read_bundle
from edge_embed_runtime.bundle.manifest import NATIVE, Manifest
from edge_embed_runtime.errors import InputError
from edge_embed_runtime.inputs.tokenizer import Tokenizer
from edge_embed_runtime.system.cpu import default_threads

# Texts of each class for comparing batches, and texts of the class nearest to this length for measuring memory.
CHECK_TEXTS = 8
MEMORY_TEXTS = 16
MEMORY_TOKENS = 52
REFERENCE_BATCH = 16
# A candidate that takes more CPU time than this many cores for each thread is named.
EXTRA_CORES = 1.1

Progress = Callable[[int], None]


def run_encode_benchmark(
    settings: Settings, progress: Callable[[int], Any] = lambda _: None, start: Callable[[int], None] = lambda _: None
) -> dict[str, Any]:
    """Measure our embedder against every peer that can be measured.

    start(n) is called with the number of steps once that is known, progress(n) when n more are done.

    Raises BundleError for a bundle that cannot be used, InputError and SourceError for settings that cannot be
    measured. A peer that fails, at whatever step, is named in the result with its reason.
    """
    bundle = read_bundle(bundle_path(settings.bundle or None))
    threads = tuple(settings.threads)
    tokenizer = Tokenizer(bundle.tokenizer, bundle.manifest.max_tokens)
    plan = make_plan(settings, tokenizer)
    source, notes = find_source(settings, bundle)
    run = _Run(settings, plan, source, _candidates(settings, source, bundle.manifest), notes, progress)
    wanted = run.measurable()
    steps_per_thread = len(wanted) * (2 + len(plan.cases) * (settings.rounds + 1))
    start(len(wanted) + 1 + len(wanted) + len(threads) * steps_per_thread)
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(settings.work or scratch).absolute()
        work.mkdir(parents=True, exist_ok=True)
        with mask.applied(settings.cpu, work):
            run.check_mask()
            run.prepare(work)
            reference = run.reference(work, Path(scratch) / "reference.npy")
            run.memory(threads[0])
            results = [row for count in threads for row in run.timing(count, reference)]
            flags = mask.visible_flags()
    run.compare_threads()
    where = when_and_where("encode", (p for peer in PEERS.values() for p in peers.needed_packages(peer)))
    where["machine"]["flags"] = [flag for flag in where["machine"]["flags"] if flag in flags]
    return {
        **where,
        "cpu": settings.cpu,
        "model": _model(bundle.manifest, source),
        "settings": {
            "peers": list(settings.peers),
            "batches": list(settings.batches),
            "lengths": list(plan.classes),
            "threads": list(threads),
            "rounds": settings.rounds,
            "texts": len(plan.texts),
        },
        "reference": run.reference_name,
        "candidates": run.candidates,
        "peak_operations_per_cpu_second": run.peaks,
        "results": [finish(row, bundle.manifest.architecture, run.peaks.get(str(row["threads"]))) for row in results],
        "notes": notes,
    }


def _candidates(settings: Settings, source: Source, manifest: Manifest) -> dict[str, dict[str, Any]]:
    """Ours and the peers with their titles; a peer that cannot be measured with the reason."""
    wanted = {
        OURS: True,
        peers.IN_ONNXRUNTIME: manifest.engine == NATIVE,
        peers.OTHER: settings.other is not None,
    }
    found: dict[str, dict[str, Any]] = {name: {"title": peers.OWN[name].title} for name in wanted if wanted[name]}
    for name in dict.fromkeys(settings.peers):
        reason = peers.why_not(PEERS[name], source) if source.checkpoint else "no float32 weights to make it from"
        found[name] = {"title": PEERS[name].title, **({"reason": reason} if reason else {})}
    return found


def _model(manifest: Manifest, source: Source) -> dict[str, Any]:
    return {
        "bundle": manifest.name,
        "fingerprint": manifest.fingerprint,
        "weights_sha256": manifest.provenance.get("weights_sha256"),
        "checkpoint": Path(source.checkpoint).name if source.checkpoint else None,
        "quantization": manifest.quantization,
        "operations_per_token": operations_per_token(manifest.architecture),
    }


def finish(row: dict[str, Any], architecture: dict[str, Any], peak: float | None) -> dict[str, Any]:
    """A row with what follows from it: the ratio to the best peer, the share of the core's integer peak."""
    best = ratio_to_best_peer(row["candidates"])
    operations, ours = operations_per_token(architecture), row["candidates"].get(OURS)
    share = operations * ours["tokens_per_cpu_second"] / peak if operations and ours and peak else None
    return {
        **row,
        "best_peer": best[0] if best else None,
        "ratio_to_best_peer": best[1] if best else None,
        "share_of_integer_peak": share,
    }


class _Run:
    """The steps of a run. `candidates` gets what is found out; one with a "reason" is out."""

    def __init__(
        self,
        settings: Settings,
        plan: Plan,
        source: Source,
        candidates: dict[str, dict[str, Any]],
        notes: list[str],
        progress: Progress,
    ) -> None:
        self.settings, self.plan, self.source, self.notes = settings, plan, source, notes
        self.candidates, self.progress = candidates, progress
        self.folders: dict[str, str] = {peers.OTHER: settings.other} if settings.other else {}
        self.peaks: dict[str, float] = {}
        self.reference_name: str | None = None
        self._prepared: dict[str, str | None] = {}

    def measurable(self) -> list[str]:
        """Candidates that nothing has been found against."""
        return [name for name, facts in self.candidates.items() if "reason" not in facts]

    def _job(self, kind: str, threads: int, **more: Any) -> dict[str, Any]:
        return {"kind": kind, "source": asdict(self.source), "folders": self.folders, "threads": threads, **more}

    def check_mask(self) -> None:
        """Raises InputError where libraries see through the mask."""
        if self.settings.cpu == mask.NATIVE:
            return
        outcome = run_child(self._job("masked", 1), 1)
        if outcome.reason or not outcome.answers:
            raise InputError(f"--cpu {self.settings.cpu}: no process runs under the mask: {outcome.reason}")
        if not outcome.answers[0]["saturate"]:
            raise InputError(f"--cpu {self.settings.cpu}: onnxruntime still multiplies as on this CPU")

    def prepare(self, work: Path) -> None:
        """Convert what the candidates need, each conversion in its own process."""
        for name in self.measurable():
            artefact = peers.candidate(name).artefact
            reason = self._make(artefact, work) if artefact else None
            if reason:
                self.candidates[name]["reason"] = reason
            elif artefact:
                self.folders[name] = str(peers.artefact_folder(artefact, self.source, work))
            self.progress(1)

    def _make(self, name: str, work: Path) -> str | None:
        """Make an artefact, and before it those that it is made from; gives why that failed, or None."""
        if name in self._prepared:
            return self._prepared[name]
        folder, after = peers.artefact_folder(name, self.source, work), peers.ARTEFACTS[name].after
        reason = self._make(after, work) if after else None
        if reason is None and not folder.is_dir():
            before = str(peers.artefact_folder(after, self.source, work)) if after else ""
            job = self._job("prepare", default_threads(), artefact=name, folder=str(folder), after=before)
            reason = run_child(job, default_threads()).reason
            for partial in work.glob(f"{folder.name}.*.partial"):
                shutil.rmtree(partial, ignore_errors=True)
            reason = f"{name} cannot be made: {reason}" if reason else None
        self._prepared[name] = reason
        return reason

    def reference(self, work: Path, output: Path) -> Path | None:
        """Vectors of the first float32 peer that works, as .npy, in a process of its own."""
        for name in peers.REFERENCES if self.source.checkpoint else ():
            peer = PEERS[name]
            if self.candidates.get(name, {}).get("reason") or peers.why_not(peer, self.source):
                continue
            if peer.artefact:
                if self._make(peer.artefact, work):
                    continue
                self.folders[name] = str(peers.artefact_folder(peer.artefact, self.source, work))
            texts = {"texts": self.plan.texts, "tokens": self.plan.tokens, "batch": REFERENCE_BATCH}
            job = self._job("reference", default_threads(), candidate=name, output=str(output), **texts)
            if run_child(job, default_threads()).reason is None:
                self.reference_name = name
                break
        self.progress(1)
        if self.reference_name is None:
            self.notes.append("no cosines: there is no float32 peer to compare with")
            return None
        return output

    def memory(self, threads: int) -> None:
        """Each candidate in a process of its own: load, then one batch."""
        middle = min(
            self.plan.classes.values(), key=lambda positions: abs(self._mean_tokens(positions) - MEMORY_TOKENS)
        )
        texts = [self.plan.texts[i] for i in middle[:MEMORY_TEXTS]]
        for name in self.measurable():
            outcome = run_child(self._job("memory", threads, candidate=name, texts=texts), threads)
            if outcome.reason or not outcome.answers:
                self.candidates[name]["reason"] = outcome.reason or "its process said nothing"
            else:
                (found,) = outcome.answers
                self.candidates[name] |= {
                    "peak_rss_mb": _megabytes(found["peak_rss_bytes"]),
                    "private_mb": _megabytes(found["private_bytes"]),
                    "idle_cores": found["idle_cores"],
                    "seconds_to_first_vectors": found["seconds"],
                }
            self.progress(1)

    def _mean_tokens(self, positions: list[int]) -> float:
        return sum(len(self.plan.tokens[i]) for i in positions) / len(positions)

    def timing(self, threads: int, reference: Path | None) -> list[dict[str, Any]]:
        """All cases with one number of threads. A process that dies is started again without the candidate at work."""
        peak = versions.installed_version("onnx") is not None
        if not peak and "share" not in " ".join(self.notes):
            self.notes.append(f"no share of the integer peak: measuring it needs the package onnx ({INSTALL})")
        while True:
            job = self._job(
                "timing",
                threads,
                candidates=self.measurable(),
                texts=self.plan.texts,
                tokens=self.plan.tokens,
                cases=self.plan.cases,
                check=[i for positions in self.plan.classes.values() for i in positions[:CHECK_TEXTS]],
                rounds=self.settings.rounds,
                reference=str(reference) if reference else None,
                peak=peak,
            )
            outcome = run_child(job, threads, self.progress)
            if outcome.reason is None:
                return self._read(threads, outcome)
            if outcome.candidate not in self.measurable():
                self.notes.append(f"{threads} threads: not measured: {outcome.reason}")
                return []
            self.candidates[outcome.candidate]["reason"] = outcome.reason

    def _read(self, threads: int, outcome: Outcome) -> list[dict[str, Any]]:
        """Rows of the cases; other answers of a timing process are stored with their candidates and in the notes."""
        rows = []
        for answer in outcome.answers:
            if "lost" in answer:
                self.candidates[answer["lost"]]["reason"] = answer["reason"]
            elif "batches" in answer:
                name = answer.pop("batches")
                self.candidates[name].setdefault("batches", {})[str(threads)] = answer
            elif "peak" in answer:
                self.peaks[str(threads)] = max(self.peaks.get(str(threads), 0), answer["peak"])
            elif "no_peak" in answer:
                self.notes.append(f"no share of the integer peak, {threads} threads: {answer['no_peak']}")
            elif "case" in answer:
                rows.append({"threads": threads, **answer["case"], "candidates": answer["candidates"]})
        for name in self.candidates:
            cores = max((row["candidates"][name]["cores"] for row in rows if name in row["candidates"]), default=0.0)
            if cores > EXTRA_CORES * threads:
                self.notes.append(f"{name} took {cores:.1f} cores with --threads {threads}")
        return rows

    def compare_threads(self) -> None:
        """Whether vectors are the same bits with every number of threads."""
        for facts in self.candidates.values():
            found = list(facts.get("batches", {}).values())
            if found:
                facts["same_bits"] = all(each["same_bits"] for each in found)
                facts["lowest_cosine_alone_to_batch"] = min(each["lowest_cosine"] for each in found)
            if len(found) > 1:
                facts["same_bits_any_threads"] = len({each["sha256"] for each in found}) == 1


def _megabytes(size: int | None) -> float | None:
    return None if size is None else size / 1e6
