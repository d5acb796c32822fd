"""A folder of many pictures into an index: time, peak memory, killed in the middle and resumed.

python -m bench.picture_folder --bundle FOLDER [--count 10000] [--side 256] [--bad 0]

The pictures are JPEG files of random noise and shapes, each another one. Reported: pictures a second, CPU seconds and
the peak resident set of `add`, of all pictures and of a tenth of them, whose difference is what memory grows by; a run
that is killed at about a half, and the one that goes on; a run with nothing to do; the time of a query over them. It
does not measure what a real photo of 12 megapixels takes to decode: bench.encode --modality image does.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

PROGRAM = "import sys\nfrom edge_embed.cli.main import main\nmain(sys.argv[1:])"
# Pictures in a folder, as on a camera's card.
IN_FOLDER = 1000


def build(folder: Path, count: int, side: int, bad: int) -> None:
    from PIL import Image

    random = np.random.default_rng(4)
    for number in range(count + bad):
        place = folder / f"{number // IN_FOLDER:03}"
        place.mkdir(parents=True, exist_ok=True)
        if number >= count:
            (place / f"bad{number}.jpg").write_bytes(b"\xff\xd8\xff" + random.bytes(500))
            continue
        rough = random.integers(0, 256, (6, 8, 3), np.uint8)
        Image.fromarray(rough).resize((side * 4 // 3, side)).save(place / f"{number}.jpg", quality=85)
        if number % 4 == 0:
            (place / f"{number}.txt").write_text(f"Picture number {number}, of colours")


def add(index: Path, folder: Path, bundle: str, *options: str, kill_after: float | None = None) -> dict[str, Any]:
    """What `add` says, with seconds, CPU seconds and megabytes of its peak; killed after so many seconds."""
    command = [sys.executable, "-c", PROGRAM, "add", str(index), str(folder), "--bundle", bundle, "--json", *options]
    started = time.perf_counter()
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command, stdout=said, stderr=subprocess.DEVNULL)
        if kill_after is not None:
            try:
                process.wait(kill_after)
            except subprocess.TimeoutExpired:
                process.kill()
        _, status, usage = os.wait4(process.pid, 0) if process.returncode is None else (0, 0, None)
        said.seek(0)
        told = json.loads(said.read() or b"{}")
    found = {name: told.get(name) for name in ("stored", "unchanged", "known", "documents")}
    found |= {"problems": len(told.get("problems", ())), "seconds": round(time.perf_counter() - started, 1)}
    if usage is not None:
        found |= {"cpu": round(usage.ru_utime + usage.ru_stime, 1), "peak_mb": round(usage.ru_maxrss / 1000)}
    return {**found, "killed": os.WIFSIGNALED(status)}


def query_ms(index: Path, bundle: str, kind: Any) -> float:
    """The median time of ten queries, in milliseconds."""
    from edge_embed import Embedder, Index

    with Index.open(index, Embedder(bundle, threads=1), read_only=True) as opened:
        times = []
        for number in range(11):
            started = time.perf_counter()
            opened.search(f"something red, number {number}", kind=kind)
            times.append(1e3 * (time.perf_counter() - started))
    return round(float(np.median(times[1:])), 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--bundle", required=True)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--bad", type=int, default=0)
    parser.add_argument("--threads", default="1")
    given = parser.parse_args()
    place = Path(tempfile.mkdtemp(prefix="pictures-"))
    threads = ("--threads", given.threads)
    try:
        build(place / "few", given.count // 10, given.side, 0)
        build(place / "all", given.count, given.side, given.bad)
        print("a tenth", add(place / "few.db", place / "few", given.bundle, *threads), flush=True)
        whole = add(place / "all.db", place / "all", given.bundle, *threads)
        print("all", whole, flush=True)
        print("again", add(place / "all.db", place / "all", given.bundle, *threads), flush=True)
        half = whole["seconds"] / 2
        print("killed", add(place / "killed.db", place / "all", given.bundle, *threads, kill_after=half), flush=True)
        print("resumed", add(place / "killed.db", place / "all", given.bundle, *threads), flush=True)
        for kind in (None, "image", "text"):
            print("query ms", kind or "all kinds", query_ms(place / "all.db", given.bundle, kind), flush=True)
        print("index MB", round((place / "all.db").stat().st_size / 1e6, 1))
    finally:
        shutil.rmtree(place)


if __name__ == "__main__":
    main()
