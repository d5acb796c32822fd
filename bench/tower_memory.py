"""What an image tower takes under a limit of memory: `python -m bench.tower_memory BUNDLE [LIMIT_MB ...]`.

Each limit runs in a process of its own, which embeds 12-megapixel and small JPEGs on all cores, from files made here. It
prints the peak that was predicted, and the one that was reached; 0 is no limit. It says nothing of speed.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from edge_embed import Embedder
from edge_embed_runtime.system.memory import peak_rss_bytes

LIMITS = (0, 500, 300, 200, 150)
LARGE, SMALL = (3000, 4000), (480, 640)
MB = 1e6


def write_pictures(folder: Path) -> None:
    """large.jpg and small.jpg: slow changes with noise, which compress as photographs do."""
    from PIL import Image

    random = np.random.default_rng(0)
    for name, (height, width) in (("large", LARGE), ("small", SMALL)):
        coarse = Image.fromarray(random.integers(0, 256, (height // 40, width // 40, 3), dtype=np.uint8))
        pixels = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), np.int16)
        noise = random.integers(-12, 13, (height, width, 1), dtype=np.int16)
        Image.fromarray(np.clip(pixels + noise, 0, 255).astype(np.uint8)).save(folder / f"{name}.jpg", quality=90)


def run(bundle: str, limit: float, folder: Path) -> None:
    embedder = Embedder(bundle, towers=("image",), max_rss_mb=limit or None)
    embedder.encode_image([folder / "large.jpg"] * 8 + [folder / "small.jpg"] * 16)
    predicted, peak = embedder.predicted_peak / MB, (peak_rss_bytes() or 0) / MB
    print(f"limit {limit:g} MB: predicted {predicted:.0f}, reached {peak:.0f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle")
    parser.add_argument("limits", nargs="*", type=float, default=list(LIMITS))
    parser.add_argument("--pictures", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.pictures is not None:  # the process of one limit
        run(given.bundle, given.limits[0], given.pictures)
        return
    with tempfile.TemporaryDirectory() as folder:
        write_pictures(Path(folder))
        for limit in given.limits:
            command = [sys.executable, "-m", "bench.tower_memory", given.bundle, str(limit), "--pictures", folder]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            print(done.stdout.strip() or f"limit {limit:g} MB: {done.stderr.strip().splitlines()[-1]}")


if __name__ == "__main__":
    main()
