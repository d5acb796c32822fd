"""The whole run of `python -m bench.encode --modality image`, as one dict."""

import hashlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.common import OURS, not_installed
from bench.encode import mask
from bench.encode.children import Outcome, run_child
from bench.encode.towers import inputs
from bench.encode.towers.candidates import CANDIDATES, PEERS, REFERENCE, Job, file_of
from bench.encode.towers.models import EXTRA
from bench.encode.towers.worker import MEMORY_INPUTS
from edge_embed.measuring.versions import when_and_where
from edge_embed_runtime.bundle.bundle import read_bundle
from edge_embed_runtime.errors import InputError, MissingExtraError

WORKER = ("-m", "bench.encode.towers.worker")
READING_ROUNDS = 5
PACKAGES = ("torch", "transformers", "onnx", "onnxruntime", "numpy", "pillow", "soundfile")


@dataclass(frozen=True)
class Settings:
    """checkpoint: a folder of transformers, random weights without one; bundle: ours made from it, made here without
    one; count: pictures or sounds; work: keeps what is made; cpu: see mask.py."""

    modality: str
    checkpoint: str | None = None
    bundle: str | None = None
    peers: Sequence[str] = tuple(PEERS)
    batches: Sequence[int] = (1, 16)
    rounds: int = 5
    count: int = 16
    work: str | None = None
    cpu: str = mask.NATIVE


def run_tower_benchmark(
    settings: Settings, progress: Callable[[int], Any] = lambda _: None, start: Callable[[int], None] = lambda _: None
) -> dict[str, Any]:
    """Measure a tower of ours against every runtime that can be measured, on one core.

    start(n) is called with the number of steps, progress(n) when n more are done. Raises InputError and BundleError
    for what cannot be measured; a peer that fails, at whatever step, is named with its reason.
    """
    if settings.bundle and not settings.checkpoint:
        raise InputError("a bundle is measured beside the checkpoint that it was made from: give both")
    run = _Run(settings, progress)
    names = [OURS, *settings.peers]
    start(2 + len(names) * (3 + len(settings.batches) * settings.rounds) + 1)
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(settings.work or scratch).absolute()
        work.mkdir(parents=True, exist_ok=True)
        run.find_models(work)
        run.prepare(names)
        with mask.applied(settings.cpu, work):
            run.check_mask()
            run.memory(Path(scratch))
            run.timing()
            run.reading()
            flags = mask.visible_flags()
    where = when_and_where("encode", PACKAGES)
    where["machine"]["flags"] = [flag for flag in where["machine"]["flags"] if flag in flags]
    manifest = read_bundle(Path(run.job.bundle)).manifest
    model = {"bundle": manifest.name, "fingerprint": manifest.fingerprint, "random": settings.checkpoint is None}
    return {
        **where,
        "cpu": settings.cpu,
        "modality": settings.modality,
        "model": {**model, "quantization": manifest.towers[settings.modality].quantization},
        "settings": {"count": settings.count, "rounds": settings.rounds, "batches": list(settings.batches)},
        "reference": REFERENCE if REFERENCE in run.candidates else None,
        "candidates": run.candidates,
        "reading": run.read,
        "notes": run.notes,
    }


class _Run:
    """The steps of a run. `candidates` gets what is found out; one with a "reason" is out."""

    def __init__(self, settings: Settings, progress: Callable[[int], Any]) -> None:
        self.settings, self.progress = settings, progress
        self.candidates: dict[str, dict[str, Any]] = {}
        self.read: dict[str, float] | None = None
        self.notes: list[str] = []
        self.job = Job(settings.modality, "", "", "")

    def find_models(self, work: Path) -> None:
        """The checkpoint, made where none is given, and our bundle of it."""
        settings = self.settings
        checkpoint = Path(settings.checkpoint) if settings.checkpoint else work / f"random-{settings.modality}"
        key = hashlib.sha256(str(checkpoint.absolute()).encode()).hexdigest()[:12]
        bundle = Path(settings.bundle) if settings.bundle else work / f"ours-{settings.modality}-{key}"
        files = work / f"peers-{settings.modality}-{key}"
        files.mkdir(exist_ok=True)
        self.job = Job(settings.modality, str(checkpoint.absolute()), str(bundle.absolute()), str(files))
        if not checkpoint.is_dir():
            if missing := not_installed(("torch", "transformers"), EXTRA):
                raise MissingExtraError(f"random weights: {missing}")
            self._must("checkpoint", "random weights", folder=str(checkpoint))
        self.progress(1)
        if not bundle.is_dir():
            self._must("bundle", "our bundle", folder=str(bundle))
        self.progress(1)

    def _must(self, kind: str, what: str, **said: Any) -> None:
        if reason := self._child(kind, **said).reason:
            raise InputError(f"{what} cannot be made: {reason}")

    def _child(self, kind: str, **said: Any) -> Outcome:
        job = {"kind": kind, "job": asdict(self.job), **said}
        return run_child(job, self.job.threads, self.progress, worker=WORKER)

    def prepare(self, names: Sequence[str]) -> None:
        """Each candidate's file, and before it the one that it is made from."""
        for name in names:
            candidate = CANDIDATES[name]
            reason = not_installed(candidate.packages, EXTRA)
            for each in filter(None, (candidate.after, name)):
                if not reason and CANDIDATES[each].make and not file_of(each, self.job).is_file():
                    reason = self._child("prepare", candidate=each, file=str(file_of(each, self.job))).reason
            self.candidates[name] = {"title": candidate.title, **({"reason": reason} if reason else {})}
            self.progress(1)

    def measurable(self) -> list[str]:
        """Candidates that nothing has been found against."""
        return [name for name, facts in self.candidates.items() if "reason" not in facts]

    def check_mask(self) -> None:
        """Raises InputError where libraries see through the mask."""
        if self.settings.cpu == mask.NATIVE:
            return
        outcome = self._child("masked")
        if outcome.reason or not outcome.answers or not outcome.answers[0]["saturate"]:
            raise InputError(f"--cpu {self.settings.cpu}: onnxruntime multiplies as on this CPU: {outcome.reason}")

    def memory(self, scratch: Path) -> None:
        """Each candidate in a process of its own: load, then a few files one after the other."""
        files = []
        for seed in range(MEMORY_INPUTS if self.settings.modality == "image" else 0):
            files.append(str(scratch / f"{seed}.jpg"))
            Path(files[-1]).write_bytes(inputs.jpeg(inputs.picture(480, 640, seed)))
        for name in self.measurable():
            outcome = self._child("memory", candidate=name, files=files)
            if outcome.reason or not outcome.answers:
                self.candidates[name]["reason"] = outcome.reason or "its process said nothing"
            else:
                (found,) = outcome.answers
                self.candidates[name] |= {
                    "peak_rss_mb": (found["peak_rss_bytes"] or 0) / 1e6,
                    "seconds_to_first_vectors": found["seconds"],
                }
            self.progress(1)

    def timing(self) -> None:
        """All candidates in one process. One that dies is started again without the candidate at work."""
        while names := self.measurable():
            settings = self.settings
            outcome = self._child(
                "timing", candidates=names, reference=REFERENCE, count=settings.count, rounds=settings.rounds,
                batches=list(settings.batches),
            )  # fmt: skip
            if outcome.reason is None:
                return self._hear(outcome)
            if outcome.candidate not in names:
                self.notes.append(f"not measured: {outcome.reason}")
                return None
            self.candidates[outcome.candidate]["reason"] = outcome.reason
        return None

    def _hear(self, outcome: Outcome) -> None:
        for answer in outcome.answers:
            if "lost" in answer:
                self.candidates[answer["lost"]]["reason"] = answer["reason"]
            elif "cosines" in answer:
                facts = self.candidates[answer["cosines"]]
                facts |= {"cosine_mean": answer["mean"], "cosine_min": answer["min"]}
            elif "figures" in answer:
                rates = {name: answer[name] for name in ("per_cpu_second", "ms", "cores")}
                self.candidates[answer["figures"]].setdefault("batches", {})[str(answer["batch"])] = rates

    def reading(self) -> None:
        """What reading a picture costs."""
        if self.settings.modality == "image":
            outcome = self._child("reading", rounds=READING_ROUNDS)
            if outcome.reason or not outcome.answers:
                self.notes.append(f"reading is not measured: {outcome.reason}")
            else:
                self.read = outcome.answers[0]["reading"]
        self.progress(1)


def ratios(result: dict[str, Any], batch: str) -> Iterator[tuple[str, float]]:
    """Each peer, and how many times its pictures per CPU second ours does."""
    rates = {
        name: facts["batches"][batch]["per_cpu_second"]
        for name, facts in result["candidates"].items()
        if batch in facts.get("batches", {})
    }
    for name, rate in rates.items():
        if name != OURS and OURS in rates:
            yield name, rates[OURS] / rate
