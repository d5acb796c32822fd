"""What text queries take over an index of pictures and over one of as many texts, of one bundle, with real vectors.

    python -m bench.pictures.queries PHOTOS.db TEXTS.db QUERIES.jsonl --bundle FOLDER

The indexes are made by `edge-embed add`; each line of QUERIES has a `text`. Queries are embedded once, before. CPU time
of the process, the ways in turns. The neighbours of a text among pictures lie further away than those among texts, so
that more candidates have to be scored; `all` is the share of queries for which all vectors were.
"""

import argparse
import json
import time
from pathlib import Path
from unittest.mock import patch

import numpy as np

from edge_embed import Embedder, Index
from edge_embed_runtime.search.nearest import nearest_documents
from edge_embed_runtime.search.query import Mode

QUERIES, ROUNDS = 100, 2
MODES: tuple[Mode, ...] = ("hybrid", "vector")
# What scores all vectors, where the search looks for it.
SCAN = "edge_embed_runtime.search.dense.nearest_documents"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pictures", type=Path)
    parser.add_argument("texts", type=Path)
    parser.add_argument("queries", type=Path)
    parser.add_argument("--bundle", required=True)
    options = parser.parse_args()
    rows = options.queries.read_text(encoding="utf-8").splitlines()
    queries = [str(json.loads(row)["text"]) for row in rows if row.strip()]
    queries = queries[:: max(1, len(queries) // QUERIES)][:QUERIES]
    vectors = Embedder(options.bundle).encode_query(queries)
    paths = {"pictures": options.pictures, "texts": options.texts}
    indexes = {name: Index.open(path, read_only=True) for name, path in paths.items()}
    ways = [(mode, name) for mode in MODES for name in ("texts", "pictures")]
    times: dict[tuple[Mode, str], list[float]] = {way: [] for way in ways}
    scans = dict.fromkeys(ways, 0)
    for mode, name in ways:
        indexes[name].search(queries[0], mode=mode, vector=vectors[0])
    with patch(SCAN, wraps=nearest_documents) as scan:
        for query, vector in list(zip(queries, vectors, strict=True)) * ROUNDS:
            for mode, name in ways:
                before, began = scan.call_count, time.process_time()
                indexes[name].search(query, mode=mode, vector=vector)
                times[mode, name].append(time.process_time() - began)
                scans[mode, name] += scan.call_count - before
    for mode, name in ways:
        found, first = np.array(times[mode, name]), np.median(times[mode, "texts"])
        p50, p95 = 1000 * np.quantile(found, (0.5, 0.95))
        print(
            f"{mode:7} {len(indexes[name]):7,} {name:9} p50 {p50:6.2f} ms CPU   p95 {p95:6.2f}   "
            f"{np.median(found) / first:5.2f} x   all {scans[mode, name] / len(found):.0%}"
        )


if __name__ == "__main__":
    main()
