"""The texts' vectors by the float32 model, so that devices need no torch: float32.npz, made by

    python tests/whole/devices/float32.py CHECKPOINT

CHECKPOINT is the folder of the official all-MiniLM-L6-v2 (extra `parity`). Kept as float16: that moves a cosine by less
than 1e-6.
"""

# ruff: noqa: T201 - a script prints
import argparse
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from probe import TEXTS

FILE = Path(__file__).with_name("float32.npz")


def read() -> NDArray[np.float16]:
    """Vectors [texts, dim] of texts.txt. ValueError where they were made of other texts."""
    with np.load(FILE) as stored:
        if str(stored["texts"]) != _sha256():
            raise ValueError(f"{FILE.name} was made of another {TEXTS.name}: run float32.py")
        vectors: NDArray[np.float16] = stored["vectors"]
    return vectors


def make(checkpoint: Path) -> NDArray[Any]:
    """Mean-pooled, normalised vectors by transformers, each text alone, cut to the bundle's tokens."""
    import torch
    from transformers import AutoModel

    from edge_embed import Embedder

    embedder = Embedder(threads=1)
    model = AutoModel.from_pretrained(checkpoint, dtype=torch.float32).eval()
    rows = []
    for text in TEXTS.read_text(encoding="utf-8").splitlines():
        ids = torch.tensor([list(embedder.tokenizer.encode(text))])
        with torch.no_grad():
            pooled = model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state[0].mean(dim=0)
        rows.append((pooled / pooled.norm()).numpy())
    return np.vstack(rows)


def _sha256() -> str:
    return hashlib.sha256(TEXTS.read_bytes()).hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description="make float32.npz with transformers")
    parser.add_argument("checkpoint", type=Path)
    vectors = make(parser.parse_args().checkpoint)
    np.savez(FILE, vectors=vectors.astype(np.float16), texts=_sha256())
    print(f"{FILE}: {vectors.shape[0]} vectors, {FILE.stat().st_size / 1e3:.0f} KB")


if __name__ == "__main__":
    main()
