"""What it costs to keep an index in step with a folder: python -m bench.sync [--files 2000] [--part 0.01] [--bundle B]

Builds a folder of files of all kinds (bench/mixed_folder.py), adds it, and adds it again with --sync: unchanged, with a
part of the files changed, and with as many renamed. Prints user and system seconds of each whole process, start of
Python and the process that reads PDF and the like included, and what embedding the changed texts takes in a process that
does nothing else. The files are made older than they are first: those of the last two seconds would be read to be sure.

Not measured: a cold page cache.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.mixed_folder import build, change, texts
from edge_embed_runtime.system.cpu import cpu_model

EMBED = "import json, sys\nfrom edge_embed import Embedder\nEmbedder(sys.argv[1]).encode(json.load(sys.stdin))"
HOUR = 3600


def measured(command: list[str], stdin: str = "") -> tuple[float, float, str]:
    """CPU seconds, wall seconds and stdout of a Python process."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run([sys.executable, *command], input=stdin, capture_output=True, text=True, check=True)
    wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall, done.stdout


def rename(files: list[Path]) -> None:
    for path in files:
        path.rename(path.with_stem(f"{path.stem}-renamed"))


def run(folder: Path, files: int, part: float, bundle: str) -> list[dict[str, Any]]:
    """A row for each step."""
    notes, index = folder / "notes", folder / "index.db"
    made = build(notes, files)
    for number, path in enumerate(made):
        then = time.time() - HOUR - number
        os.utime(path, (then, then))
    add = ["-m", "edge_embed", "add", str(index), str(notes), "--sync", "--bundle", bundle, "--json"]
    rows = []

    def step(name: str, command: list[str], stdin: str = "") -> None:
        cpu, wall, out = measured(command, stdin)
        found = json.loads(out) if out else {}
        names = ("files", "known", "stored", "moved", "unchanged")
        rows.append({"step": name, "cpu_s": round(cpu, 2), "wall_s": round(wall, 2)} | {n: found.get(n) for n in names})

    step("first", add)
    step("unchanged", add)
    changed = change(made, part)
    step("changed", add)
    step("embedding alone", ["-c", EMBED, bundle], json.dumps(texts(changed)))
    step("import alone", ["-c", "import edge_embed.cli.main, numpy, onnxruntime, tokenizers"])
    rename([path for path in made if path not in changed][: len(changed)])
    step("renamed", add)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--part", type=float, default=0.01)
    parser.add_argument("--bundle", default="minilm")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = run(Path(folder), given.files, given.part, given.bundle)
    if given.json:
        print(json.dumps({"cpu": cpu_model(), "rows": rows}))
        return
    print(f"{given.files} files, {given.bundle}, {cpu_model()}, load {os.getloadavg()[0]:.1f}")
    for row in rows:
        print("  ".join(f"{name} {value}" for name, value in row.items() if value is not None))


if __name__ == "__main__":
    main()
