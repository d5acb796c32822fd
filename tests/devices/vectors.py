"""Embed fixed texts on this device, save their vectors, and say what CPU made them, how, and how fast.

    python tests/devices/vectors.py OUT.npy [--bundle FOLDER]

Compare the files of several devices with compare.py. The runtime needs numpy, onnxruntime and tokenizers alone, so on
a device without this package, or under emulation, a checkout is enough:

    PYTHONPATH=.:runtime QEMU_LD_PREFIX=SYSROOT qemu-aarch64 -cpu cortex-a72 SYSROOT/usr/bin/python3 \\
        tests/devices/vectors.py a72.npy
    PYTHONPATH=.:runtime qemu-x86_64 -cpu Haswell python tests/devices/vectors.py haswell.npy

qemu-user shows a program of the host's architecture the host's /proc/cpuinfo: the name and flags printed are then the
host's, the instructions are not. Unset OPENBLAS_CORETYPE, which would reach the emulated CPU.
"""

# ruff: noqa: T201 - a script prints
import argparse
import platform
import time
from pathlib import Path

import numpy as np
import onnxruntime

from edge_embed.benchmark.machine import cpu_flags
from edge_embed.embedder import Embedder
from edge_embed_runtime.machine import cpu_model

# Short ones, because emulation is slow; long words, digits and another script on purpose.
TEXTS = [
    "is there a way to do automatic top up",
    "Why was my payment not accepted?",
    "The reactor was shut down after a leak in the secondary cooling loop.",
    "Zwei Stunden Verspätung, und niemand sagt etwas.",
    "pip install numpy==2.4.0 fails with error: subprocess-exited-with-error",
    "Mitochondrial phosphatidylethanolamine",
    "東京タワーの高さは333メートルです。",
    "ok",
]
# Those that decide how int8 products are made.
FLAGS = {"sse4_1", "avx", "avx2", "avx512f", "avx_vnni", "avx512_vnni", "amx_int8", "asimd", "asimddp", "i8mm", "sve"}


def main() -> None:
    parser = argparse.ArgumentParser(description="embed fixed texts, save their vectors")
    parser.add_argument("out", type=Path, help="the .npy file to write")
    parser.add_argument("--bundle", type=Path, help="a bundle folder [default: the embedded one]")
    options = parser.parse_args()
    start = time.perf_counter()
    embedder = Embedder(options.bundle, threads=1)
    loaded = time.perf_counter()
    vectors = np.vstack([embedder.encode([text]) for text in TEXTS])
    done = time.perf_counter()
    np.save(options.out, vectors)
    print(f"cpu      {cpu_model()} ({platform.machine()}), flags {' '.join(sorted(FLAGS & cpu_flags())) or 'unknown'}")
    print(f"versions Python {platform.python_version()}, onnxruntime {onnxruntime.__version__}, numpy {np.__version__}")
    print(f"bundle   {embedder.manifest.name} {embedder.fingerprint}")
    print(f"form     {'exact: fast int8 products saturate here' if embedder.exact else 'fast'}")
    print(f"golden   cosine {embedder.golden_cosine:.5f}")
    print(f"seconds  {loaded - start:.2f} to load, {done - loaded:.2f} for {len(TEXTS)} texts one by one")


if __name__ == "__main__":
    main()
