"""How close quantized bundles are to the float32 model, on the texts of judged sets.

    python -m bench.fidelity CHECKPOINT DATA_DIR... [--texts 2000] [--bundle FOLDER]...

CHECKPOINT is the official all-MiniLM-L6-v2 folder. The texts are documents and queries of the judged sets, in equal
parts and spread over each set. The float32 bundle is exported on the spot, in a temporary folder. Without --bundle the
embedded bundle is measured.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import onnxruntime

from edge_embed import Embedder
from edge_embed.measuring.judged import read_judged_set
from edge_embed_export import export_model

BATCH_BUDGETS = (64, 512, 4096)
SAME_BITS_TEXTS = 200


def spread(texts: list[str], count: int) -> list[str]:
    """`count` of the texts, evenly spread; all of them when there are fewer."""
    return [texts[i] for i in np.linspace(0, len(texts) - 1, min(count, len(texts))).astype(int)]


def real_texts(folders: list[Path], count: int) -> list[str]:
    """Documents and queries, as many of each set as it has or as are needed."""
    groups = []
    for folder in folders:
        judged = read_judged_set(folder)
        groups += [[text for text in texts.values() if text] for texts in (judged.documents, judged.queries)]
    share = next(n for n in range(1, count + 1) if n == count or sum(min(n, len(g)) for g in groups) >= count)
    return [text for group in groups for text in spread(group, share)]


def same_bits(embedder: Embedder, texts: list[str]) -> bool:
    """Alone, in batches of several sizes, and with two threads."""
    alone = np.vstack([embedder.encode([text]) for text in texts])
    others = [embedder.encode(texts, batch_tokens=size) for size in BATCH_BUDGETS]
    others.append(Embedder(embedder.path, threads=2).encode(texts))
    return all(np.array_equal(alone.view(np.uint32), vectors.view(np.uint32)) for vectors in others)


def main() -> None:
    parser = argparse.ArgumentParser(description="quantized bundles against float32")
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("data", type=Path, nargs="+")
    parser.add_argument("--texts", type=int, default=2000)
    parser.add_argument("--bundle", type=Path, action="append", default=[])
    options = parser.parse_args()
    texts = real_texts(options.data, options.texts)
    with tempfile.TemporaryDirectory() as name:
        export_model(options.checkpoint, Path(name) / "fp32", precision="fp32")
        expected = Embedder(Path(name) / "fp32").encode(texts, show_progress=True)
    embedders = [Embedder(path, threads=1) for path in options.bundle] or [Embedder(threads=1)]
    for embedder in embedders:
        cosines = (expected * embedder.encode(texts, show_progress=True)).sum(axis=1)
        size = sum(record.size for record in embedder.manifest.files.values()) / 1e6
        print(
            f"{embedder.path.name}: {size:.1f} MB, {len(texts)} texts, cosine to float32 mean {cosines.mean():.5f}, "
            f"p5 {np.percentile(cosines, 5):.5f}, min {cosines.min():.5f}; "
            f"same bits alone, in batches and with two threads: {same_bits(embedder, spread(texts, SAME_BITS_TEXTS))}"
        )
    print(f"onnxruntime {onnxruntime.__version__}")


if __name__ == "__main__":
    main()
