"""Build the texts that ship with edge_embed: calibration and receipt texts of the exporter, its judged set, the corpus
of the demo.

    python -m bench.make_texts DATA_DIR      # DATA_DIR holds xquad/{en,de,es,zh,hi} and banking77

Sources: XQuAD (google-deepmind/xquad, CC BY-SA 4.0), Banking77 (PolyAI-LDN/task-specific-datasets, CC BY 4.0).
"""

import gzip
import json
import random
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
# texts per source: (calibration, receipt)
XQUAD = {"en": (48, 40), "de": (4, 4), "es": (4, 4), "zh": (4, 4), "hi": (4, 4)}
BANKING = (64, 72)
JUDGED_QUERIES = 300
DEMO_PER_LABEL = 2


def write(path: Path, records: list[dict[str, Any]]) -> None:
    lines = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(lines.encode(), 9, mtime=0))
    print(f"{path.relative_to(ROOT)}: {len(records)} texts, {path.stat().st_size:,} bytes")


def judged(folder: Path, pick: random.Random) -> list[dict[str, Any]]:
    """Every English paragraph of XQuAD, and some of the questions with the paragraphs that answer them."""
    corpus = [json.loads(line) for line in gzip.decompress((folder / "corpus.jsonl.gz").read_bytes()).splitlines()]
    queries = [json.loads(line) for line in (folder / "queries.jsonl").read_text("utf-8").splitlines()]
    relevant: dict[str, list[str]] = {}
    for line in (folder / "qrels.tsv").read_text("utf-8").splitlines()[1:]:
        query, document, _ = line.split("\t")
        relevant.setdefault(query, []).append(document)
    chosen = pick.sample(queries, JUDGED_QUERIES)
    documents = [{"id": row["_id"], "text": row["text"]} for row in corpus]
    return documents + [{"id": q["_id"], "text": q["text"], "relevant": relevant[q["_id"]]} for q in chosen]


def banking(path: Path) -> list[tuple[str, str]]:
    rows = [line.split("\t", 1) for line in path.read_text("utf-8").splitlines()]
    return [(label, text.strip()) for label, text in rows]


def main(data: Path) -> None:
    pick = random.Random(0)  # noqa: S311 - a reproducible choice, not a secret
    texts = []
    for language, (calibration, receipt) in XQUAD.items():
        lines = gzip.decompress((data / "xquad" / language / "corpus.jsonl.gz").read_bytes()).decode().splitlines()
        chosen = pick.sample([json.loads(line)["text"] for line in lines], calibration + receipt)
        texts += [{"part": "calibration", "text": text} for text in chosen[:calibration]]
        texts += [{"part": "receipt", "text": text} for text in chosen[calibration:]]
    questions = [text for _, text in banking(data / "banking77" / "train.tsv")]
    chosen = pick.sample(questions, sum(BANKING))
    texts += [{"part": "calibration", "text": text} for text in chosen[: BANKING[0]]]
    texts += [{"part": "receipt", "text": text} for text in chosen[BANKING[0] :]]
    write(ROOT / "export/edge_embed_export/data/texts.jsonl.gz", texts)

    write(ROOT / "export/edge_embed_export/data/judged.jsonl.gz", judged(data / "xquad" / "en", random.Random(1)))  # noqa: S311

    by_label: dict[str, list[str]] = {}
    for label, text in banking(data / "banking77" / "test.tsv"):
        by_label.setdefault(label, []).append(text)
    demo = [
        {"key": f"{label}-{i}", "text": text, "topic": label}
        for label, group in sorted(by_label.items())
        for i, text in enumerate(pick.sample(group, DEMO_PER_LABEL))
    ]
    write(ROOT / "edge_embed/data/demo.jsonl.gz", demo)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
