"""What a user installs and waits for: python -m bench.install [--json] [--peer PYTHON]

Builds the wheel and makes three fresh virtual environments: one with every declared dependency, one lean
(edge_embed/data/lean.txt), one for static bundles (edge_embed/data/static.txt). Prints what each distribution weighs by
its RECORD, with and without .pyc; the time of each import by `python -X importtime`; and, in whole processes taken in
turn, medians of seven: bare imports, start to first vector, `edge-embed demo`, and the peak memory of each. --peer: a
Python that has fastembed, to compare start to first vector with; fastembed must have its model already, as it has after
one use.

Not measured: a cold page cache (everything is run once before).
"""

import argparse
import csv
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
LEAN = ROOT / "edge_embed" / "data" / "lean.txt"
STATIC = ROOT / "edge_embed" / "data" / "static.txt"
ROUNDS = 7
FIRST_VECTOR = "from edge_embed import Embedder; Embedder().encode(['a text'])"
PROGRAMS = {
    "python": ["-c", "pass"],
    "import numpy": ["-c", "import numpy"],
    "import numpy, onnxruntime, tokenizers": ["-c", "import numpy, onnxruntime, tokenizers"],
    "start to first vector": ["-c", FIRST_VECTOR],
    "edge-embed --help": ["-m", "edge_embed", "--help"],
    "edge-embed demo, whole": ["-m", "edge_embed", "demo"],
}
# In the environment for static bundles.
STATIC_PROGRAMS = {
    "static: start to first vector": ["-c", "from edge_embed import Embedder; Embedder('static').encode(['a text'])"],
    "static: edge-embed demo, whole": ["-m", "edge_embed", "demo", "--bundle", "static"],
}
PEER = "fastembed, start to first vector"
PEER_MODEL = "sentence-transformers/all-MiniLM-L6-v2"
PEER_PROGRAM = ["-c", f"from fastembed import TextEmbedding; list(TextEmbedding({PEER_MODEL!r}).embed(['a text']))"]
INSTALLERS = {"pip", "setuptools"}


def environment(folder: Path, *arguments: str) -> str:
    """A new virtual environment with what pip installs for these arguments; gives its Python."""
    venv.create(folder, with_pip=True)
    python = str(folder / ("Scripts" if os.name == "nt" else "bin") / "python")
    subprocess.run([python, "-m", "pip", "-q", "--disable-pip-version-check", "install", *arguments], check=True)
    return python


def distributions(python: str) -> dict[str, dict[str, int]]:
    """Bytes of each distribution by the files that RECORD lists: {"numpy": {"files": ..., "compiled": ...}}."""
    where = subprocess.check_output([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], text=True)
    found = {}
    for record in Path(where.strip()).glob("*.dist-info/RECORD"):
        name = record.parent.name.split("-")[0]
        if name in INSTALLERS:
            continue
        taken = {"files": 0, "compiled": 0}
        with record.open(encoding="utf-8", newline="") as rows:
            for path in {row[0] for row in csv.reader(rows)}:
                file = record.parents[1] / path
                if file.is_file():
                    taken["compiled" if file.suffix == ".pyc" else "files"] += file.stat().st_size
        found[name] = taken
    return dict(sorted(found.items(), key=lambda item: -sum(item[1].values())))


def imports(python: str, program: str) -> dict[str, dict[str, float]]:
    """Milliseconds of imports by top-level package: its own modules, and from its first one on (others included).

    Nested imports come before what imports them, two spaces deeper; a package's `cumulative` is that of its outermost
    modules.
    """
    done = subprocess.run([python, "-X", "importtime", "-c", program], capture_output=True, text=True, check=True)
    lines = re.findall(r"^import time:\s*(\d+) \|\s*(\d+) \| ( *)(\S+)$", done.stderr, re.MULTILINE)
    found: dict[str, dict[str, float]] = {}
    above: list[tuple[int, str]] = []  # reversed, an importer comes before what it imports
    for own, cumulative, indent, module in reversed(lines):
        package = module.split(".")[0]
        while above and above[-1][0] >= len(indent):
            above.pop()
        kind = package if package not in sys.stdlib_module_names else "standard library"
        taken = found.setdefault(kind, {"own": 0.0, "cumulative": 0.0})
        taken["own"] += int(own) / 1000
        if kind not in {one for _, one in above}:
            taken["cumulative"] += int(cumulative) / 1000
        above.append((len(indent), kind))
    return dict(sorted(found.items(), key=lambda item: -item[1]["own"]))


def median_imports(python: str, program: str) -> dict[str, dict[str, float]]:
    """`imports`, medians of ROUNDS."""
    runs = [imports(python, program) for _ in range(ROUNDS)]
    return {
        package: {kind: statistics.median(run.get(package, taken)[kind] for run in runs) for kind in taken}
        for package, taken in runs[0].items()
    }


def run(python: str, arguments: list[str]) -> tuple[float, float]:
    """Wall seconds and peak memory in MB of one process."""
    start = time.perf_counter()
    process = subprocess.Popen([python, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{python} {arguments} failed")
    return time.perf_counter() - start, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6


def whole_processes(lean: str, static: str, peer: str | None) -> dict[str, dict[str, float]]:
    """Medians of seconds and peak memory; programs in turn, so that a busy machine is busy for all."""
    programs = {label: (lean, arguments) for label, arguments in PROGRAMS.items()}
    programs |= {label: (static, arguments) for label, arguments in STATIC_PROGRAMS.items()}
    if peer is not None:
        programs[PEER] = (peer, PEER_PROGRAM)
    figures: dict[str, list[tuple[float, float]]] = {label: [] for label in programs}
    for program in programs.values():
        run(*program)  # compiles, fills the page cache
    for _ in range(ROUNDS):
        for label, program in programs.items():
            figures[label].append(run(*program))
    medians = {}
    for label, runs in figures.items():
        seconds, memory = (statistics.median(values) for values in zip(*runs, strict=True))
        medians[label] = {"seconds": seconds, "peak_mb": memory}
    return medians


def measure(folder: Path, peer: str | None) -> dict[str, Any]:
    builder = environment(folder / "builder", "--upgrade", "pip")
    subprocess.run([builder, "-m", "pip", "-q", "wheel", "--no-deps", "-w", str(folder), str(ROOT)], check=True)
    (wheel,) = folder.glob("edge_embed-*.whl")
    full = environment(folder / "full", str(wheel))
    lean = environment(folder / "lean", "--no-deps", "-r", str(LEAN), str(wheel))
    static = environment(folder / "static", "--no-deps", "-r", str(STATIC), str(wheel))
    processes = whole_processes(lean, static, peer)
    demos = [json.loads(subprocess.check_output([lean, "-m", "edge_embed", "demo", "--json"])) for _ in range(ROUNDS)]
    environments = {"full": full, "lean": lean, "static": static}
    first = processes["start to first vector"]["seconds"]
    result: dict[str, Any] = {
        "wheel_bytes": wheel.stat().st_size,
        "installed": {name: distributions(where) for name, where in environments.items()},
        "imports": {
            "import numpy": median_imports(lean, "import numpy"),
            "start to first vector": median_imports(lean, FIRST_VECTOR),
        },
        "processes": processes,
        "first_hit_seconds": statistics.median(demo["start_to_first_hit_seconds"] or 0 for demo in demos),
        "first_vector_over_numpy_seconds": first - processes["import numpy"]["seconds"],
        "python": sys.version.split()[0],
        "load": os.getloadavg()[0],
    }
    if peer is not None:
        result["first_vector_part_of_peer"] = first / processes[PEER]["seconds"]
    return result


def show(result: dict[str, Any]) -> None:
    print(f"wheel {result['wheel_bytes'] / 1e6:.1f} MB")
    for kind, found in result["installed"].items():
        files, compiled = (sum(taken[part] for taken in found.values()) / 1e6 for part in ("files", "compiled"))
        print(f"\ninstalled, {kind}: {files:.1f} MB, and {compiled:.1f} MB of .pyc")
        for name, taken in found.items():
            print(f"  {taken['files'] / 1e6:7.2f} MB {taken['compiled'] / 1e6:6.2f} MB  {name}")
    for label, found in result["imports"].items():
        print(f"\nimports of '{label}', ms: own modules, with what they import")
        for package, taken in found.items():
            print(f"  {taken['own']:7.1f} {taken['cumulative']:7.1f}  {package}")
    print("\nwhole processes: seconds, peak memory")
    for label, taken in result["processes"].items():
        print(f"  {taken['seconds']:6.3f} s {taken['peak_mb']:6.0f} MB  {label}")
    print(f"  {result['first_hit_seconds']:6.3f} s            edge-embed demo, start to first hit")
    print(f"first vector, over bare import numpy: {result['first_vector_over_numpy_seconds']:.3f} s (to keep: 0.35)")
    if "first_vector_part_of_peer" in result:
        print(f"first vector, part of fastembed's time: {result['first_vector_part_of_peer']:.2f} (to keep: 0.33)")
    print(f"Python {result['python']}, load {result['load']:.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n", maxsplit=1)[1])
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--peer", metavar="PYTHON", help="a Python that has fastembed and its model")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        result = measure(Path(name), options.peer)
    if options.json:
        print(json.dumps(result))
    else:
        show(result)


if __name__ == "__main__":
    main()
