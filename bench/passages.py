"""Where passages end, and what that does to retrieval: nDCG@10 of judged sets whose documents are joined to long ones.

    python -m bench.passages FOLDER... [--bundle static] [--join 6] [--tokens 256]

FOLDER is a judged set in BEIR's layout. Documents are joined in the order of the file, `join` to one, and a long one is
as relevant as the best of its parts. Its score is that of its best passage, by float vectors. "words" are passages that
end near a word, with an eighth said again; "sentences" are those of the index.
"""

import argparse
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

from edge_embed import Embedder
from edge_embed.measuring.judged import read_judged_set
from edge_embed_runtime.inputs.words import Span
from edge_embed_runtime.passages import split as splitting
from edge_embed_runtime.passages.borders import near_border
from edge_embed_runtime.vectors.types import Vectors

DEPTH = 10


def ndcg(found: Sequence[int], relevant: Mapping[int, float]) -> float:
    gains = sum((2 ** relevant.get(d, 0) - 1) / np.log2(rank + 2) for rank, d in enumerate(found[:DEPTH]))
    best = sorted(relevant.values(), reverse=True)[:DEPTH]
    return float(gains / sum((2**gain - 1) / np.log2(rank + 2) for rank, gain in enumerate(best)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+")
    parser.add_argument("--bundle", default="static")
    parser.add_argument("--join", type=int, default=6)
    parser.add_argument("--tokens", type=int, default=256)
    options = parser.parse_args()
    embedder = Embedder(options.bundle)
    for folder in options.folders:
        judged = read_judged_set(folder)
        number = {key: i // options.join for i, key in enumerate(judged.documents)}
        parts, texts = iter(judged.documents.values()), list[str]()
        while group := list(islice(parts, options.join)):
            texts.append("\n\n".join(group))
        queries = embedder.encode_query(list(judged.queries.values()))
        for name in ("words", "sentences"):
            began = time.process_time()
            with _ends(name):
                spans = [splitting.split(text, embedder.tokenizer, most=options.tokens) for text in texts]
            seconds = time.process_time() - began
            scores = _scores(embedder, texts, spans, queries)
            figures = []
            for query, row in zip(judged.queries, scores, strict=True):
                relevant: dict[int, float] = {}
                for key, grade in judged.judgements[query].items():
                    if key in number:
                        relevant[number[key]] = max(grade, relevant.get(number[key], 0))
                figures.append(ndcg([int(i) for i in np.argsort(-row, kind="stable")[:DEPTH]], relevant))
            result = {
                "set": folder.rstrip("/").rpartition("/")[2],
                "bundle": options.bundle,
                "passages end at": name,
                "documents": len(texts),
                "passages": sum(map(len, spans)),
                "split_cpu_s": round(seconds, 2),
                "ndcg@10": round(float(np.mean(figures)), 4),
            }
            print(json.dumps(result), flush=True)


@contextmanager
def _ends(name: str) -> Iterator[None]:
    """With "words", passages end as if there were no sentences."""
    if name == "sentences":
        yield
        return

    def begin(text: str, tokens: NDArray[np.int64], i: int, least: int) -> int:
        del least
        return near_border(text, tokens, i, 1)

    with patch.object(splitting, "last_end", lambda *_: None), patch.object(splitting, "begin_before", begin):
        yield


def _scores(embedder: Embedder, texts: list[str], spans: list[list[Span]], queries: Vectors) -> Vectors:
    """Of the best passage of each document, for each query."""
    passages = [text[a:b] for text, parts in zip(texts, spans, strict=True) for a, b in parts]
    found = queries @ embedder.encode_document(passages).T
    firsts = np.cumsum([0, *map(len, spans[:-1])])
    best: Vectors = np.maximum.reduceat(found, firsts, axis=1)
    return best


if __name__ == "__main__":
    main()
