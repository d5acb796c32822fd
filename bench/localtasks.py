"""Tasks of mteb whose data lies in a folder, for machines without a network.

Layout of the folder, a folder each:

    stsb/test.tsv                         score, sentence, sentence by tabs
    banking77/train.tsv, test.tsv         label, text by tabs
    tatoeba/de-en.tsv                     sentence, its English by tabs
    scifact/, cosqa/, xquad/de/           BEIR's: corpus.jsonl(.gz), queries.jsonl, qrels.tsv

mteb's own classes compute the scores. What is stored as the revision of the data is "local-" and a hash of the files,
since nothing says that they are what mteb would have loaded.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge_embed.errors import SourceError
from edge_embed.measuring.judged import read_judged_set
from edge_embed_runtime.extras import require

mteb: Any = require("mteb", "mteb")
datasets: Any = require("datasets", "mteb")  # comes with mteb

Loaded = dict[str, Any]


@dataclass(frozen=True)
class LocalTask:
    """One task and its data.

    read:      the folder and a subset's own name in it to what mteb holds for a split
    folder:    in the data
    subsets:   mteb's name of a subset: its name in the folder
    splits:    of the data, by mteb's name
    published: main score of all-MiniLM-L6-v2 in fp32 by subset, from mteb's results repository
    note:      why scores here may differ from published ones for another reason than the model
    """

    read: Callable[[Path, str], Any]
    folder: str
    splits: tuple[str, ...] = ("test",)
    subsets: Mapping[str, str] = field(default_factory=lambda: {"default": ""})
    published: Mapping[str, float] = field(default_factory=dict)
    note: str = ""

    def load(self, name: str, data: Path) -> Any:
        """The task of mteb with its data loaded."""
        folder = data / self.folder
        if not folder.is_dir():
            raise SourceError(f"{folder} is not a folder: task {name} has its data there", path=folder)
        several = list(self.subsets) != ["default"]
        task = mteb.get_task(name, hf_subsets=list(self.subsets) if several else None)
        loaded = {
            subset: {split: self.read(folder, own or split) for split in self.splits}
            for subset, own in self.subsets.items()
        }
        retrieval = task.metadata.type == "Retrieval"
        task.dataset = loaded if several or retrieval else loaded["default"]
        task.data_loaded = True
        task.metadata = task.metadata.model_copy(
            update={"dataset": {**task.metadata.dataset, "revision": f"local-{_hash(folder)}"}}
        )
        return task


def _hash(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]


def _columns(path: Path, *names: str) -> dict[str, list[str]]:
    rows = [line.split("\t") for line in path.read_text("utf-8").splitlines()]
    bad = [number for number, row in enumerate(rows, start=1) if len(row) != len(names)]
    if bad or not rows:
        raise SourceError(f"{path}, line {(bad or [1])[0]}: expected {', '.join(names)} by tabs", path=path)
    return dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))


def _pairs(folder: Path, split: str) -> Any:
    found = _columns(folder / f"{split}.tsv", "score", "sentence1", "sentence2")
    return datasets.Dataset.from_dict({**found, "score": [float(score) for score in found["score"]]})


def _labelled(folder: Path, split: str) -> Any:
    labels = sorted(set(_columns(folder / "train.tsv", "label", "text")["label"]))
    found = _columns(folder / f"{split}.tsv", "label", "text")
    return datasets.Dataset.from_dict({**found, "label": [labels.index(label) for label in found["label"]]})


def _bitext(folder: Path, name: str) -> Any:
    return datasets.Dataset.from_dict(_columns(folder / f"{name}.tsv", "sentence1", "sentence2"))


def _judged(folder: Path, name: str) -> Loaded:
    judged = read_judged_set(folder if name == "test" else folder / name)
    return {
        "corpus": datasets.Dataset.from_list(
            [{"id": key, "title": "", "text": text} for key, text in judged.documents.items()]
        ),
        "queries": datasets.Dataset.from_list([{"id": key, "text": text} for key, text in judged.queries.items()]),
        "relevant_docs": judged.judgements,
        "top_ranked": None,
    }


# Published: https://github.com/embeddings-benchmark/results, model sentence-transformers/all-MiniLM-L6-v2
TASKS = {
    "STSBenchmark": LocalTask(_pairs, "stsb", published={"default": 0.8203}),
    "SciFact": LocalTask(_judged, "scifact", published={"default": 0.6451}),
    "Banking77Classification": LocalTask(
        _labelled,
        "banking77",
        splits=("train", "test"),
        published={"default": 0.8004},
    ),
    "XQuADRetrieval": LocalTask(
        _judged,
        "xquad",
        splits=("validation",),
        subsets={language: language for language in ("en", "de", "es", "zh", "hi")},
        published={"en": 0.9436, "de": 0.7032, "es": 0.6323, "zh": 0.2422, "hi": 0.0477},
    ),
    "Tatoeba": LocalTask(_bitext, "tatoeba", subsets={"deu-eng": "de-en", "fra-eng": "fr-en", "cmn-eng": "zh-en"}),
    "CosQA": LocalTask(_judged, "cosqa", note="6,267 of the 20,604 functions of mteb's corpus: easier"),
}
