"""A folder of many pictures indexed by `edge-embed add`, killed halfway and run again: memory over time, what each run
embeds, and whether everything is there.

    python -m bench.pictures.folder [--pictures N] [--bundle BUNDLE] [--work FOLDER]

Without a bundle, the bundle of colours of the tests, whose tower takes no time: what is measured then is all around it.
It does not measure how fast pictures are embedded: that is bench.encode --modality image.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path

import numpy as np

sys.path[:0] = [str(Path(__file__).parents[2] / "tests")]


def make_pictures(folder: Path, count: int) -> None:
    """Small PNGs in a hundred folders; one in fifty is a copy of another."""
    from PIL import Image

    rng = np.random.default_rng(0)
    for i in range(count):
        path = folder / f"{i % 100:02}" / f"{i:05}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        if i % 50 == 49:
            earlier = i - 7
            shutil.copy(folder / f"{earlier % 100:02}" / f"{earlier:05}.png", path)
            continue
        pixels = np.full((48, 64, 3), rng.integers(0, 256, 3), np.uint8)
        pixels[: 8 + i % 30, : 10 + i % 40] = rng.integers(0, 256, (8 + i % 30, 10 + i % 40, 3))
        Image.fromarray(pixels).save(path)


def run(command: list[str], kill_at: int | None, index: Path) -> tuple[float, list[tuple[float, float, int]], int]:
    """Seconds, (seconds, MB, documents) over time, and the exit status; killed once the index has so many documents."""
    from edge_embed_runtime.index.stats import read_stats

    began, seen = time.perf_counter(), []
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            time.sleep(0.5)
            documents = 0
            try:
                fields = dict(
                    line.split(":", 1) for line in Path(f"/proc/{process.pid}/status").read_text().splitlines()
                )
                if index.exists():
                    documents = read_stats(index)["documents"]
                seen.append((time.perf_counter() - began, int(fields["VmRSS"].split()[0]) / 1000, documents))
            except (OSError, KeyError):
                continue
            if kill_at is not None and documents >= kill_at:
                os.kill(process.pid, signal.SIGKILL)
                kill_at = None
    return time.perf_counter() - began, seen, process.returncode


def said(name: str, seconds: float, seen: list[tuple[float, float, int]], status: int) -> None:
    print(f"{name}: {seconds:.1f} s, exit status {status}")
    for part in range(0, 11):
        if seen:
            when, mb, documents = seen[min(len(seen) - 1, part * len(seen) // 10)]
            print(f"    {when:7.1f} s  {mb:7.1f} MB  {documents:6} documents")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=10_000)
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--work", type=Path, default=Path("bench-pictures"))
    options = parser.parse_args()
    photos, index = options.work / "photos", options.work / "photos.db"
    bundle = options.bundle or options.work / "colours"
    if not photos.exists():
        make_pictures(photos, options.pictures)
    if options.bundle is None and not bundle.exists():
        import_module("builders.colours").colour_bundle(bundle)
    for leftover in options.work.glob("photos.db*"):
        leftover.unlink()
    command = [
        sys.executable,
        "-m",
        "edge_embed",
        "add",
        str(index),
        str(photos),
        "--bundle",
        str(bundle),
        "--threads",
        "1",
    ]
    said("first run, killed", *run(command, options.pictures * 2 // 5, index))
    said("second run", *run(command, None, index))
    said("third run, nothing to do", *run(command, None, index))
    names = sorted(photos.rglob("*.png"))
    for name in random.Random(0).sample(names, 500):  # noqa: S311 - which ones is no secret
        name.rename(name.with_name(f"renamed-{name.name}"))
    said("fourth run, 500 renamed", *run([*command, "--sync"], None, index))
    from edge_embed import verify_index
    from edge_embed_runtime.index.stats import read_stats

    report = verify_index(index)
    print(json.dumps({"documents": report.documents, "whole": report.whole, **read_stats(index).get("kinds", {})}))


if __name__ == "__main__":
    main()
