"""What `edge-embed doctor` finds. Nothing native is imported here: each part is tried in its own process."""

import platform
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from edge_embed.doctor.hardware import describe_hardware
from edge_embed.doctor.parts import IMPORT_SECONDS, KNOWN, PARTS, Part, numbers, part_sentence, required
from edge_embed.measuring.children import ask, child
from edge_embed.measuring.versions import installed_version
from edge_embed_runtime.errors import StorageError
from edge_embed_runtime.progress import progress_bar
from edge_embed_runtime.system import stamps
from edge_embed_runtime.system.tuning import Choice, Verdict, machine_key, store_verdict

MEASURE_SECONDS = 600.0
# Steps of the progress bar for a part, a bundle and the scan.
PART_STEPS, BUNDLE_STEPS, SCAN_STEPS = 5, 100, 10
MEGABYTE = 1_000_000
LEAST_DISK = 200 * MEGABYTE
# The least memory that an index and texts need in addition to the bundle.
SPARE_MEMORY = 32 * MEGABYTE
# From this load per core on, measured times are too long.
BUSY = 0.5
NATIVE_PROGRAM = (
    "from edge_embed_runtime.native.library import native, reason\n"
    "print(native().isa_name if native() else '', reason(), sep='|')"
)
# The first release without the WAL-reset bug.
SAFE_SQLITE = "3.51.3"


@dataclass(frozen=True)
class Finding:
    """level: "problem" (edge-embed cannot be used), "warning" (something should be done) or "note"."""

    level: str
    text: str


@dataclass
class Report:
    """Everything that was found; `verdict` is "ok", "warnings" or "unusable"."""

    version: str
    machine: dict[str, Any]
    parts: list[dict[str, Any]] = field(default_factory=list)
    bundles: list[dict[str, Any]] = field(default_factory=list)
    scan: dict[str, Any] | None = None
    native: dict[str, str] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    tuned: str | None = None

    @property
    def verdict(self) -> str:
        levels = {finding.level for finding in self.findings}
        return "unusable" if "problem" in levels else "warnings" if "warning" in levels else "ok"

    def works(self, *names: str) -> bool:
        return all(part["works"] for part in self.parts if part["name"] in names)

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "verdict": self.verdict}


def examine(bundles: Sequence[str] = (), *, tune: bool = False, show_progress: bool = False) -> Report:
    """Try every part, measure every bundle.

    bundles: folders, or names of embedded ones; none means the default, or where that cannot run here for want of
             onnxruntime "static"
    tune:    store the verdict of this machine, unless it is "unusable"

    Raises StorageError when it cannot be stored.
    """
    report = Report(installed_version("edge-embed") or "unknown", describe_hardware())
    with suppress(StorageError):
        stamps.forget()  # golden texts are embedded again
    _look_at_machine(report)
    report.native = _native()
    total = PART_STEPS * len(PARTS) + BUNDLE_STEPS * max(1, len(bundles)) + SCAN_STEPS
    with progress_bar(total, show_progress, "examining") as advance:
        for part in PARTS:
            try_part(report, part)
            advance(PART_STEPS)
        _look_at_versions(report)
        if report.works("numpy", "tokenizers"):
            for bundle in bundles or (None,):
                _measure(report, bundle, advance)
        if report.works("numpy", "sqlite3", "tokenizers"):
            dim = next((bundle["dim"] for bundle in report.bundles if bundle.get("kind") == "dense"), 384)
            report.scan, problem = _run({"scan": dim}, lambda part: advance(int(SCAN_STEPS * part)))
            if problem:
                report.findings.append(Finding("problem", f"the scan of an index: {problem}"))
    if tune and report.verdict == "unusable":
        report.findings.append(Finding("note", "--tune stored nothing: first repair the problems above"))
    elif tune and not report.works("onnxruntime"):
        report.findings.append(Finding("note", "--tune stored nothing: it is for one release of onnxruntime"))
    elif tune:
        report.tuned = str(_tune(report))
    return report


def _tune(report: Report) -> Path:
    """The number of threads is stored if fewer than all are as fast, unless the machine is busy."""
    all_cores = report.machine["cores"]["usable"]
    found = {}
    for choice, name in ((bundle["choice"], bundle["fingerprint"]) for bundle in report.bundles):
        fewer = choice["threads"] < all_cores and not _busy(report.machine)
        found[name] = Choice(choice["exact"], choice["threads"] if fewer else None)
    scan_ms = report.scan["ms_per_million"] if report.scan else None
    release = next(part["version"] for part in report.parts if part["name"] == "onnxruntime")
    return store_verdict(Verdict(machine_key(release), scan_ms, found))


def _native() -> dict[str, str]:
    """The instruction set that the native library uses here, "" where there is none, and why."""
    lines, problem = child(["-c", NATIVE_PROGRAM], IMPORT_SECONDS)
    found, _, reason = (lines[-1] if lines else "").partition("|")
    return {"instruction_set": "" if problem else found, "reason": problem or reason}


def try_part(report: Report, part: Part) -> None:
    installed = installed_version(part.name)
    found: dict[str, Any] = {"name": part.name, "version": installed, "works": False, "problem": None}
    report.parts.append(found)
    broken = [name for name in part.needs if not report.works(name)]
    if broken:
        found["problem"] = f"not tried: it needs {broken[0]}"
        return
    if part.name == "numkong" and installed is None:
        report.parts.pop()  # releases of usearch before 2.22 do without
        return
    lines, problem = child(["-c", part.program], IMPORT_SECONDS)
    found["problem"] = problem
    found["works"] = problem is None
    found["version"] = (lines[-1] if lines and problem is None else "") or installed
    if not found["works"]:
        level = "warning" if part.without else "problem"
        text = part_sentence(part, found["version"], str(problem), report.machine["page_size"])
        report.findings.append(Finding(level, text))


def _look_at_versions(report: Report) -> None:
    """Parts that work here, but whose version is too old, or known to fail on other machines."""
    for part in report.parts:
        name, release = part["name"], part["version"]
        if not part["works"] or not release:
            continue
        asked = required(name)
        least = re.search(r">=([\d.]+)", asked or "")
        if least and numbers(release) < numbers(least.group(1)):
            text = f"{name} {release} is older than edge-embed is tested with: pip install '{asked}'"
            report.findings.append(Finding("warning", text))
        for known in KNOWN:
            if known.fits(name, platform.machine().lower(), release):
                text = f"{name} {release} works here, not everywhere: {known.what}. Safer: pip install --upgrade {name}"
                report.findings.append(Finding("note", text))
        if name == "sqlite3" and numbers(release) < numbers(SAFE_SQLITE):
            text = (
                f"SQLite {release}: before {SAFE_SQLITE} two connections that write at once could damage a file (the "
                "WAL-reset bug). An index is safe: it has one writer, with a file lock. Nothing to do"
            )
            report.findings.append(Finding("note", text))


def _look_at_machine(report: Report) -> None:
    machine = report.machine
    for disk in machine["disk"]:
        if not disk["writable"]:
            what = {"index": "an index here", "temporary": "temporary files", "cache": "--tune"}[disk["for"]]
            text = f"{disk['path']} is not writable, which {what} would need: choose or mount another"
            report.findings.append(Finding("note" if disk["for"] != "temporary" else "warning", text))
        elif disk["free"] < LEAST_DISK:
            text = (
                f"only {disk['free'] // MEGABYTE} MB are free in {disk['path']}: make room before an index grows there"
            )
            report.findings.append(Finding("warning", text))
    if _busy(machine):
        load, cores = machine["load"], machine["cores"]["usable"]
        text = f"the machine was busy (load {load:.1f} on {cores} cores): times are too long; run this when it is idle"
        report.findings.append(Finding("warning", text))


def _busy(machine: dict[str, Any]) -> bool:
    return machine["load"] is not None and machine["load"] > BUSY * machine["cores"]["usable"]


def _run(job: dict[str, Any], step: Callable[[float], None]) -> tuple[dict[str, Any] | None, str | None]:
    """The result of a measuring job, or why there is none."""
    return ask("edge_embed.doctor.measure", job, MEASURE_SECONDS, lambda said: step(said.get("done", 0.0)))


def _measure(report: Report, bundle: str | None, advance: Callable[[int], None]) -> None:
    left = [float(BUNDLE_STEPS)]

    def step(part: float) -> None:
        before = int(left[0])
        left[0] -= BUNDLE_STEPS * part
        advance(before - max(0, int(left[0])))

    threads = powers(report.machine["cores"]["usable"])
    found, problem = _run({"bundle": bundle, "threads": threads}, step)
    advance(max(0, int(left[0])))
    if found is None:
        name = "the embedded bundle" if bundle is None else f"bundle {bundle}"
        report.bundles.append({"path": bundle, "problem": problem})
        named = name in str(problem) or str(problem).startswith("bundle ")
        report.findings.append(Finding("problem", str(problem) if named else f"{name}: {problem}"))
        return
    report.bundles.append({"problem": None, **found})
    if found["choice"] is None:
        text = "; ".join(form["problem"] for form in found["forms"])
        report.findings.append(Finding("problem", f"{text}: try another version of onnxruntime"))
    elif found["forms"][0]["problem"]:
        text = f"bundle {found['path']}: the {found['forms'][0]['form']} form is wrong on this CPU, although it "
        text += "should be right; the other form is used. Try another version of onnxruntime"
        report.findings.append(Finding("warning", text))
    if found.get("engine_reason"):
        text = f"bundle {found['path']} is made for the native engine, whose library is not here: "
        report.findings.append(Finding("note", f"{text}{found['engine_reason']}. onnxruntime runs it"))
    _look_at_memory(report, found)


def powers(cores: int) -> list[int]:
    """6 -> [1, 2, 4, 6]."""
    return sorted({cores, *(2**i for i in range(cores.bit_length()))})


def _look_at_memory(report: Report, bundle: dict[str, Any]) -> None:
    memory = report.machine["memory"]
    free = min((size for size in (memory["available"], memory["limit"]) if size is not None), default=None)
    needed = (bundle["peak_rss"] or 0) + SPARE_MEMORY
    if free is not None and free < needed:
        text = (
            f"{bundle['name']} needs {needed // MEGABYTE} MB with a small index, and {free // MEGABYTE} MB are free: "
            "stop other programs, raise the limit, or export a smaller bundle (--precision int4 --table int3)"
        )
        report.findings.append(Finding("warning", text))
