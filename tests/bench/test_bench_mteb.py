"""mteb's tasks on data in a folder: what is read, what is printed and stored."""

import gzip
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from bench.mteb import main, table

mteb = pytest.importorskip("mteb")
localtasks = pytest.importorskip("bench.localtasks")

pytestmark = [
    pytest.mark.frameworks,
    pytest.mark.filterwarnings("ignore::UserWarning:mteb"),  # evaluators copy tensors, and some tasks have newer ones
    pytest.mark.filterwarnings("ignore::UserWarning:sklearn"),
    pytest.mark.filterwarnings("ignore::FutureWarning:sklearn"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:datasets"),
]
DOCUMENTS = {
    "d1": "The cat sleeps on the sofa.",
    "d2": "Tax forms are due at the end of May.",
    "d3": "Ships wait outside the harbour.",
}
QUESTIONS = {"q1": "Where does the cat sleep?", "q2": "When must tax be declared?"}


def judged(folder: Path) -> None:
    """BEIR's layout: each question is answered by the document of its number."""
    folder.mkdir(parents=True)
    with gzip.open(folder / "corpus.jsonl.gz", "wt", encoding="utf-8") as file:
        file.writelines(json.dumps({"_id": k, "title": "", "text": text}) + "\n" for k, text in DOCUMENTS.items())
    rows = (json.dumps({"_id": k, "text": text}) + "\n" for k, text in QUESTIONS.items())
    (folder / "queries.jsonl").write_text("".join(rows), "utf-8")
    (folder / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\nq1\td1\t1\nq2\td2\t1\n", "utf-8")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The layout that bench/localtasks.py describes, with a few texts."""
    folder = tmp_path_factory.mktemp("data")
    for name in ("scifact", "cosqa", *(f"xquad/{language}" for language in ("en", "de", "es", "zh", "hi"))):
        judged(folder / name)
    for name in ("stsb", "banking77", "tatoeba"):
        (folder / name).mkdir()
    pairs = (
        "5.0\tA cat sleeps.\tA cat is sleeping.\n2.5\tA cat sleeps.\tA dog sleeps.\n0.1\tA cat sleeps.\tTax is due.\n"
    )
    (folder / "stsb" / "test.tsv").write_text(pairs, "utf-8")
    labelled = "".join(f"cat\tThe cat sleeps {n} hours.\ntax\tTax form {n} is due.\n" for n in range(10))
    for split in ("train", "test"):
        (folder / "banking77" / f"{split}.tsv").write_text(labelled, "utf-8")
    for name in ("de-en", "fr-en", "zh-en"):
        (folder / "tatoeba" / f"{name}.tsv").write_text("Taxi 1\tTaxi 1\nBanana\tBanana\n", "utf-8")
    return folder


def run(*arguments: str | Path) -> str:
    done = CliRunner().invoke(main, list(map(str, arguments)))
    assert done.exit_code == 0, done.output
    return done.stdout


def test_all_tasks(data: Path, tmp_path: Path) -> None:
    """Every task runs and is perfect on these texts; results are stored under the hash of the files."""
    lines = run("--data", data, "--task", "all", "--bundle", "minilm", "--threads", "1", "--out", tmp_path).splitlines()
    rows = {line[:32].strip(): line[32:].split() for line in lines[2:]}
    assert len(rows) == 1 + 1 + 1 + 5 + 3 + 1
    assert {name: row[0] for name, row in rows.items()} == dict.fromkeys(rows, "1.0000")
    assert [rows[name][1] for name in ("STSBenchmark", "SciFact", "XQuADRetrieval de", "CosQA")] == [
        "0.8203", "0.6451", "0.7032", "-",
    ]  # fmt: skip
    (folder,) = (tmp_path / "results" / "edge-embed__all-minilm-l6-v2").iterdir()
    stored = {path.stem for path in folder.glob("*.json")} - {"model_meta"}
    assert stored == set(localtasks.TASKS)
    revisions = {mteb.TaskResult.from_disk(folder / f"{name}.json").dataset_revision for name in stored}
    assert all(revision.startswith("local-") for revision in revisions)
    assert len(revisions) == 6 - 1  # scifact and cosqa hold the same files


def test_a_table_has_a_column_for_each_model() -> None:
    scores = {"minilm": {("SciFact", "default"): 0.6455}, "fp32": {("SciFact", "default"): 0.64508}}
    head, row = table(scores)
    assert head.split() == ["task", "minilm", "fp32", "published"]
    assert row.split() == ["SciFact", "0.6455", "0.6451", "0.6451"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["--task", "STS99"], "'STS99' is none of all"), (["--task", "STSBenchmark"], "is not a folder")],
)
def test_refused(arguments: list[str], said: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["--data", str(tmp_path), "--bundle", "static", *arguments])
    assert done.exit_code != 0
    assert said in " ".join(done.output.split())


def test_a_broken_line_is_named(tmp_path: Path) -> None:
    (tmp_path / "stsb").mkdir()
    (tmp_path / "stsb" / "test.tsv").write_text("5.0\tone\ttwo\n5.0\tone\n", "utf-8")
    done = CliRunner().invoke(main, ["--data", str(tmp_path), "--bundle", "static"])
    assert done.exit_code == 1
    assert "line 2: expected score, sentence1, sentence2 by tabs" in " ".join(done.output.split())
