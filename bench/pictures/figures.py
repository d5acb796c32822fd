"""What the bundles of make.py find: emoji that nothing was trained on, stamps, sounds, and stamps among notes."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bench.pictures.make import rows
from edge_embed import Embedder
from edge_embed.measuring.judged import Chosen, JudgedSet, read_judged_set
from edge_embed.measuring.quality import rank_files
from edge_embed_quantize.receipt import Ranked
from edge_embed_runtime.vectors.types import Vectors

DEPTHS = (1, 5, 10)
STYLES = ("noto", "twemoji")


def figures(ranked: Ranked, judgements: Mapping[str, Mapping[str, int]]) -> dict[str, float]:
    """recall@k: the share of a query's documents among the first k; found@k: whether one is there; means of queries."""
    found: dict[str, float] = {}
    for k in DEPTHS:
        recalls, hits = [], []
        for query, grades in judgements.items():
            right = {key for key, grade in grades.items() if grade > 0}
            count = len(right.intersection(ranked[query][:k]))
            recalls.append(count / len(right))
            hits.append(float(count > 0))
        found[f"recall@{k}"] = sum(recalls) / len(recalls)
        found[f"found@{k}"] = sum(hits) / len(hits)
    return {name: round(value, 4) for name, value in found.items()}


def tiers(judged: JudgedSet, embedder: Embedder) -> dict[str, dict[str, float]]:
    """Figures by storage tier."""
    return {tier: figures(found, judged.judgements) for tier, (found, _) in rank_files(judged, embedder).items()}


class Remembering(Embedder):
    """An embedder that embeds no picture twice."""

    def __init__(self, bundle: Path) -> None:
        super().__init__(bundle)
        self._known: dict[Path, Vectors] = {}

    def encode_image(self, images: Any, *, show_progress: bool = False) -> Vectors:
        new = [path for path in images if path not in self._known]
        self._known |= dict(zip(new, super().encode_image(new, show_progress=show_progress), strict=True))
        return np.stack([self._known[path] for path in images])


class Emoji:
    """Pictures of concepts never seen, found by texts."""

    def __init__(self, data: Path, embedder: Embedder) -> None:
        self._data, self._embedder = data, Remembering(embedder.path)

    def both(self) -> dict[str, dict[str, float]]:
        """By their names, both styles together."""
        return self._tiers()

    def style(self, style: str) -> dict[str, dict[str, float]]:
        """By their names, one style alone."""
        return self._tiers(("style", style))

    def keywords(self) -> dict[str, dict[str, float]]:
        """By keywords, which several concepts share."""
        return self._tiers(kind="keyword")

    def _tiers(self, *documents: tuple[str, str], kind: str = "name") -> dict[str, dict[str, float]]:
        chosen = Chosen(qrels="test", documents=(("split", "test"), *documents), asked=(("kind", kind),))
        return tiers(read_judged_set(self._data, chosen), self._embedder)


def of_tux(data: Path, embedder: Embedder, kind: str) -> dict[str, dict[str, float]]:
    """Captions to stamps, or to their sounds, each kind alone."""
    name = {"image": "image", "audio": "sound"}[kind]
    return tiers(read_judged_set(data, Chosen(qrels=name, kind=kind)), embedder)


def among_notes(data: Path, embedder: Embedder) -> dict[str, dict[str, float]]:
    """Captions to stamps in an index that holds notes on the same things too: every caption of the set, and every
    question. "kinds" is what an index gives, "float" one ranking of raw cosines."""
    judged = read_judged_set(data, Chosen(qrels="image", kind="image"))
    notes = {f"note/{row['_id']}": row["metadata"]["caption"] for row in rows(data / "corpus.jsonl")}
    notes |= {f"note/{row['_id']}": row["text"] for row in rows(data / "queries.jsonl")}
    return tiers(replace(judged, documents={**judged.documents, **notes}), embedder)
