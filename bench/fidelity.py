"""How close the int8 bundle is to the float32 model, and how much faster.

    python bench/fidelity.py CHECKPOINT DATA_DIR [--texts 500] [--strengths 0.5 0.65 0.75 0.8]

CHECKPOINT is the official all-MiniLM-L6-v2 folder, DATA_DIR a judged set whose documents are the texts. The float32
bundle is exported on the spot, in a temporary folder. With --strengths a bundle is exported for each SmoothQuant
strength instead of taking the embedded one. Speed is one thread, tokens per CPU second, the candidates interleaved,
medians of five rounds; it does not say what other runtimes do.
"""

import argparse
import os
import platform
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import onnxruntime

from edge_embed import Embedder
from edge_embed.evaluate import read_judged_set
from edge_embed_export import export_model, exporter

ROUNDS = 5


def cosines(reference: Embedder, candidate: Embedder, texts: list[str]) -> str:
    found = (reference.encode(texts) * candidate.encode(texts)).sum(axis=1)
    return f"mean {found.mean():.5f}  p5 {np.percentile(found, 5):.5f}  min {found.min():.5f}"


def same_bits(embedder: Embedder, texts: list[str]) -> bool:
    alone = np.vstack([embedder.encode([text]) for text in texts])
    batched = [embedder.encode(texts, batch_tokens=size) for size in (64, 512, 4096)]
    return all(np.array_equal(alone.view(np.uint32), vectors.view(np.uint32)) for vectors in batched)


def speed(embedders: dict[str, Embedder], texts: list[str]) -> dict[str, float]:
    """Tokens per CPU second, median."""
    tokens = sum(len(next(iter(embedders.values())).tokenizer.encode(text)) for text in texts)
    seconds: dict[str, list[float]] = {name: [] for name in embedders}
    for _ in range(ROUNDS):
        for name, embedder in embedders.items():
            start = time.process_time()
            embedder.encode(texts)
            seconds[name].append(time.process_time() - start)
    return {name: tokens / statistics.median(values) for name, values in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description="int8 against float32")
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--texts", type=int, default=500)
    parser.add_argument("--strengths", type=float, nargs="*", default=[])
    options = parser.parse_args()
    texts = list(read_judged_set(options.data).documents.values())[: options.texts]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        export_model(options.checkpoint, folder / "fp32", precision="fp32")
        reference = Embedder(folder / "fp32", threads=1)
        for strength in options.strengths:
            exporter.NORM_SMOOTHING = strength
            export_model(options.checkpoint, folder / f"int8-{strength}")
            print(f"strength {strength}: {cosines(reference, Embedder(folder / f'int8-{strength}'), texts)}")
        embedded = Embedder(threads=1)
        print(f"embedded bundle, {len(texts)} texts: cosine to float32 {cosines(reference, embedded, texts)}")
        print(f"same bits alone and in batches: {same_bits(embedded, texts[:100])}")
        figures = speed({"int8": embedded, "fp32": reference}, texts[:60])
    print(f"tokens per CPU second: int8 {figures['int8']:,.0f}, fp32 {figures['fp32']:,.0f}, ", end="")
    print(f"ratio {figures['int8'] / figures['fp32']:.2f}")
    print(f"onnxruntime {onnxruntime.__version__}, {platform.machine()}, load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
