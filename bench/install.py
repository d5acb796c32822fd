"""What a user installs and waits for: python bench/install.py

Builds the wheel, installs it into a fresh virtual environment without extras, and prints the wheel's size, the
installed size by package, and, in whole processes, medians of seven: importing the dependencies, start to first
vector, start to first hit of `edge-embed demo`, and the peak memory of each.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ROUNDS = 7
PROGRAMS = {
    "import the four dependencies": ["-c", "import onnxruntime, numpy, tokenizers, usearch.index"],
    "start to first vector": ["-c", "from edge_embed import Embedder; Embedder().encode(['a text'])"],
    "edge-embed demo, whole": ["-m", "edge_embed", "demo"],
}


def size(path: Path) -> int:
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file() and not file.is_symlink())


def output(*command: str) -> str:
    return subprocess.check_output(command, text=True)


def run(python: str, arguments: list[str]) -> tuple[float, float]:
    """Wall seconds and peak memory in MB of one process."""
    start = time.perf_counter()
    process = subprocess.Popen([python, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{arguments} failed")
    return time.perf_counter() - start, usage.ru_maxrss * 1024 / 1e6


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        venv.create(folder / "venv", with_pip=True)
        python = str(folder / "venv" / "bin" / "python")
        pip = [python, "-m", "pip", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "wheel", "--no-deps", "-w", name, str(ROOT)], check=True)
        (wheel,) = folder.glob("edge_embed-*.whl")
        packages = Path(output(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
        before = size(packages)
        subprocess.run([*pip, "install", str(wheel)], check=True)
        print(f"wheel {wheel.stat().st_size / 1e6:.1f} MB")
        print(f"installed with all dependencies {(size(packages) - before) / 1e6:.0f} MB, of that")
        sizes = {entry.name: size(entry) for entry in packages.iterdir() if entry.is_dir()}
        for package, taken in sorted(sizes.items(), key=lambda item: -item[1])[:8]:
            if package != "pip":
                print(f"  {taken / 1e6:6.1f} MB  {package}")
        figures: dict[str, list[tuple[float, float]]] = {label: [] for label in PROGRAMS}
        for arguments in PROGRAMS.values():
            run(python, arguments)  # compiles, fills the page cache
        for _ in range(ROUNDS):
            for label, arguments in PROGRAMS.items():
                figures[label].append(run(python, arguments))
        demos = [json.loads(output(python, "-m", "edge_embed", "demo", "--json")) for _ in range(ROUNDS)]
        first_hits = [demo["start_to_first_hit_seconds"] for demo in demos]
        for label, runs in figures.items():
            seconds, memory = (statistics.median(values) for values in zip(*runs, strict=True))
            print(f"{label}: {seconds:.2f} s, peak memory {memory:.0f} MB")
        print(f"edge-embed demo, start to first hit: {statistics.median(first_hits):.2f} s")
        print(f"Python {sys.version.split()[0]}, load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
