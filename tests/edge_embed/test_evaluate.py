import gzip
import json
import math
from pathlib import Path

import pytest

from edge_embed import Embedder
from edge_embed.measuring.judged import JudgedSet, read_judged_set
from edge_embed.measuring.quality import evaluate
from edge_embed_quantize.receipt import FIGURES, score
from edge_embed_runtime.errors import SourceError

CORPUS: list[dict[str, object]] = [
    {"_id": "d1", "title": "Rivers", "text": "water"},
    {"_id": "d2", "title": "", "text": "money"},
    {"_id": 3, "text": "x"},
]
QUERIES: list[dict[str, object]] = [
    {"_id": "q1", "text": "bank"},
    {"_id": "q2", "text": "not judged"},
    {"_id": "q3", "text": "grade 0 only"},
]
QRELS = "query-id\tcorpus-id\tscore\nq1\td1\t2\nq1\td2\t0\n\nq3\td1\t0\nq9\td1\t1\n"


def jsonl(rows: list[dict[str, object]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def judged_folder(folder: Path, **files: str | None) -> Path:
    """A judged set in BEIR's layout; judged_folder(path, qrels="...") replaces a file, None leaves it out."""
    contents = {"corpus": jsonl(CORPUS), "queries": jsonl(QUERIES), "qrels": QRELS, **files}
    for name, content in contents.items():
        if content is not None:
            (folder / f"{name}.{'tsv' if name == 'qrels' else 'jsonl'}").write_text(content)
    return folder


@pytest.mark.parametrize(
    ("ranked", "grades", "ndcg", "recall", "mrr"),
    [
        # the ideal order has gains 2, 1, 1: 2 + 1/log2(3) + 1/2
        ("b x a", {"a": 2, "b": 1, "c": 1}, (1 + 2 / 2) / (2.5 + 1 / math.log2(3)), 2 / 3, 1),
        ("a b c", {"a": 2, "b": 1, "c": 1}, 1, 1, 1),
        ("x a", {"a": 1}, 1 / math.log2(3), 1, 1 / 2),
        ("x y z a", {"a": 3, "x": 0}, 1 / math.log2(5), 1, 1 / 4),
        ("x y", {"a": 1}, 0, 0, 0),
        ("", {"a": 1}, 0, 0, 0),
        ("0 1 2 3 4 5 6 7 8 a", {"a": 1}, 1 / math.log2(11), 1, 1 / 10),
        ("0 1 2 3 4 5 6 7 8 9 a", {"a": 1}, 0, 0, 0),
        # more relevant documents than places: the ideal has ten of them, recall counts all
        ("0 1 2 3 4 5 6 7 8 9", {str(i): 1 for i in range(20)}, 1, 1 / 2, 1),
    ],
)
def test_figures_of_one_query(ranked: str, grades: dict[str, int], ndcg: float, recall: float, mrr: float) -> None:
    """nDCG counts grades, recall and MRR only whether a document is relevant; all look at ten places."""
    figures = score({"q": ranked.split()}, {"q": grades})
    assert figures == pytest.approx({"ndcg@10": ndcg, "recall@10": recall, "mrr@10": mrr})


def test_figures_are_means_over_the_judged_queries() -> None:
    """Every judged query counts the same, those that found nothing too; queries without judgements do not count."""
    ranked = {"q1": ["a"], "q2": ["x", "b"], "q3": [], "q4": ["a"]}
    figures = score(ranked, {"q1": {"a": 1}, "q2": {"b": 1, "c": 1, "d": 1, "e": 1}, "q3": {"a": 1}})
    assert figures["mrr@10"] == pytest.approx((1 + 1 / 2 + 0) / 3)
    assert figures["recall@10"] == pytest.approx((1 + 1 / 4 + 0) / 3)


@pytest.mark.parametrize("qrels", ["qrels.tsv", "qrels/test.tsv"])
@pytest.mark.parametrize("suffix", ["jsonl", "jsonl.gz"])
def test_judged_sets_are_read(suffix: str, qrels: str, tmp_path: Path) -> None:
    """Title and text make a document; queries without a relevant document are left out, unknown ones passed over."""
    (tmp_path / "qrels").mkdir()
    (tmp_path / qrels).write_text(QRELS)
    for name, rows in (("corpus", CORPUS), ("queries", QUERIES)):
        content = jsonl(rows).encode()
        (tmp_path / f"{name}.{suffix}").write_bytes(gzip.compress(content) if suffix.endswith("gz") else content)
    judged = read_judged_set(tmp_path)
    assert judged.documents == {"d1": "Rivers water", "d2": "money", "3": "x"}
    assert judged.queries == {"q1": "bank"}
    assert judged.judgements == {"q1": {"d1": 2, "d2": 0}}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("corpus", '{"_id": "d1", "text": "a"}\n\n{"_id": \n', "corpus.jsonl, line 3: "),
        ("corpus", '{"_id": "d1", "text": "a"}\n{"_id": "d2"}\n', "corpus.jsonl, line 2: expected"),
        ("queries", '["q1", "text"]\n', "queries.jsonl, line 1: expected"),
        ("qrels", "query-id\tcorpus-id\tscore\nq1\td1\t1\nq1 d2 1\n", "qrels.tsv, line 3: expected"),
        ("qrels", "query-id\tcorpus-id\tscore\nq1\td1\thigh\n", "qrels.tsv, line 2: expected"),
        ("qrels", "query-id\tcorpus-id\tscore\nq1\t0\td1\t1\n", "qrels.tsv, line 2: expected"),
        ("qrels", "query-id\tcorpus-id\tscore\nq1\td1\t0\n", "no query that has a relevant document"),
        ("qrels", "", "no query that has a relevant document"),
        ("corpus", "\n", "no documents"),
        ("corpus", None, "has no corpus.jsonl or corpus.jsonl.gz"),
        ("queries", None, "has no queries.jsonl"),
        ("qrels", None, "has no qrels.tsv or qrels/test.tsv"),
    ],
)
def test_malformed_judged_sets_are_refused(name: str, content: str | None, message: str, tmp_path: Path) -> None:
    """The message names the file and the line, or what is missing."""
    with pytest.raises(SourceError, match=message):
        read_judged_set(judged_folder(tmp_path, **{name: content}))


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    """The message says what a judged set is."""
    with pytest.raises(SourceError, match="is not a folder; expected one with corpus"):
        read_judged_set(tmp_path / "missing")


def test_a_cut_off_gzip_file_is_refused(tmp_path: Path) -> None:
    """Half a file is not taken for a small one."""
    folder = judged_folder(tmp_path, corpus=None)
    whole = gzip.compress(jsonl([{"_id": str(i), "text": f"text {i}"} for i in range(100)]).encode())
    (folder / "corpus.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(SourceError, match=r"corpus.jsonl.gz, line \d+: "):
        read_judged_set(folder)


def test_tiers_find_plainly_right_documents(embedder: Embedder) -> None:
    """Each tier ranks the right document first, words alone where they are in it; a tier says what a vector takes."""
    documents = {
        "river": "The river flooded its banks after a week of heavy rain.",
        "money": "The central bank raised its interest rate by half a point.",
        "bread": "Knead the dough for ten minutes, then let the bread rise.",
        "cat": "A cat sleeps for most of the day and hunts at dusk.",
        "rocket": "The rocket reached orbit nine minutes after its launch.",
        "guitar": "She tuned the strings of her guitar before the concert.",
        "empty": "",
    }
    queries = {"q1": "how long to knead bread dough", "q2": "rocket launch into orbit", "q3": "feline nap habits"}
    judged = JudgedSet(documents, queries, {"q1": {"bread": 1}, "q2": {"rocket": 2, "cat": 0}, "q3": {"cat": 1}})
    figures = evaluate(judged, embedder)
    dim = embedder.dim
    exact = {"float": 4 * dim, "int8": dim + 4, "binary": dim // 8}
    searched = {"binary+int8": dim // 8 + dim + 4, "hybrid": dim // 8 + dim + 4}
    expected = {
        tier: {**dict.fromkeys(FIGURES, 1.0), "bytes_per_vector": size} for tier, size in {**exact, **searched}.items()
    }
    # no document holds a word of the third query
    assert figures == {**expected, "text": {**dict.fromkeys(FIGURES, pytest.approx(2 / 3)), "bytes_per_vector": 0}}
