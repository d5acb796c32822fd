"""How good vectors are when only their first numbers are kept: STS-B, and nDCG@10 on judged sets, float and binary.

    python -m bench.truncation DATA [--bundle FOLDER] [--dims 256,192,128,96,64]

DATA holds stsb/test.tsv and the judged sets scifact and cranfield. Texts are embedded once; cut and brought to length 1
their vectors are those of `Embedder(truncate_dim=...)`.
"""

import argparse
from pathlib import Path

import numpy as np

from bench.models import Data
from edge_embed import Embedder
from edge_embed.measuring.judged import JudgedSet
from edge_embed_quantize.receipt import rank_tiers, score
from edge_embed_runtime.vectors.normalize import normalize
from edge_embed_runtime.vectors.rotation import Frame
from edge_embed_runtime.vectors.types import Vectors

TIERS = ("float", "int8", "binary")


def retrieval(judged: JudgedSet, documents: Vectors, queries: Vectors, frame: Frame) -> str:
    found = rank_tiers(list(judged.documents), documents, list(judged.queries), queries, frame)
    return " / ".join(f"{score(found[tier][0], judged.judgements)['ndcg@10']:.3f}" for tier in TIERS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--bundle")
    parser.add_argument("--dims", default="256,192,128,96,64")
    options = parser.parse_args()
    data, embedder = Data.read(options.data), Embedder(options.bundle)
    left, right = (embedder.encode(texts) for texts in data.sides())
    sets = {
        name: (
            embedder.encode_document(list(one.documents.values())),
            embedder.encode_query(list(one.queries.values())),
        )
        for name, one in data.judged.items()
    }
    tiers = " / ".join(TIERS)
    print(f"| dim | STS-B | {' | '.join(f'{name}, {tiers}' for name in sets)} |")
    print("|---" * (2 + len(sets)) + "|")
    for dim in (embedder.dim, *map(int, options.dims.split(","))):
        frame = embedder.frame if dim == embedder.dim else Frame()
        pairs = [normalize(side[:, :dim]) for side in (left, right)]
        figures = [f"{data.correlation(np.asarray((pairs[0] * pairs[1]).sum(axis=1), np.float64)):.3f}"]
        for name, both in sets.items():
            documents, queries = (normalize(vectors[:, :dim]) for vectors in both)
            figures.append(retrieval(data.judged[name], documents, queries, frame))
        print(f"| {dim} | {' | '.join(figures)} |", flush=True)


if __name__ == "__main__":
    main()
