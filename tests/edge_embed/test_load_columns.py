"""columns.py: keys, texts, vectors and metadata in files that others made."""

import datetime
import decimal
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders.commands import run
from numpy.typing import NDArray

from edge_embed import Document, Index
from edge_embed.files.dump import dump_vectors
from edge_embed.files.load import load_vectors
from edge_embed_runtime.errors import SourceError

V: NDArray[Any] = np.random.default_rng(0).standard_normal((3, 8)).astype(np.float32)
KINDS = [".npz", ".parquet", ".arrow"]


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def save(name: str, **columns: Any) -> None:
    """Columns in a file of its kind; `vector` and `text` have the usual names of it."""
    if name.endswith(".npz"):
        usual = {"vector": "vectors", "text": "texts", "key": "keys"}
        np.savez(name, **{usual.get(k, k): np.array(v) for k, v in columns.items()})
        return
    arrow = pytest.importorskip("pyarrow")
    table = arrow.table({k: v.tolist() if isinstance(v, np.ndarray) and v.ndim > 1 else v for k, v in columns.items()})
    if name.endswith(".parquet"):
        pytest.importorskip("pyarrow.parquet").write_table(table, name)
        return
    with arrow.OSFile(name, "wb") as file, arrow.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)


def documents(index: str = "a.db") -> list[Document]:
    with Index.open(index, read_only=True) as opened:
        return [document for key in opened.keys() if (document := opened.get(key))]  # noqa: SIM118 - no dict


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["id", "_id", "key"])
def test_an_id_column_is_the_key_and_others_are_metadata(kind: str, name: str) -> None:
    save(f"p{kind}", **{name: ["a", "b", "c"]}, text=["x", "y", "z"], lang=["en", "de", "en"], n=[1, 2, 3], vector=V)
    load_vectors("a.db", f"p{kind}", space="s")
    assert documents()[1] == Document("b", "y", {"lang": "de", "n": 2})
    assert load_vectors("a.db", f"p{kind}").unchanged == 3


@pytest.mark.parametrize("kind", KINDS)
def test_columns_that_are_asked_for(kind: str) -> None:
    """--key, --text and --vector; what is not there is refused with the columns that are."""
    save(f"p{kind}", isbn=[7, 8, 9], id=["a", "b", "c"], body=["x", "y", "z"], embedding=V, other=V)
    run("load", "a.db", f"p{kind}", "--space", "s", "--key", "isbn", "--text", "body", "--vector", "embedding")
    assert documents()[0] == Document("7", "x", {"id": "a", "other": pytest.approx(V[0].tolist())})
    for option in ("key", "text", "vector"):
        with pytest.raises(SourceError, match=r"'nothing'.*isbn"):
            load_vectors("b.db", f"p{kind}", space="s", **{"vector": "embedding", option: "nothing"})
    with pytest.raises(SourceError, match=r"no (column|array) 'vectors?'; .*embedding.*--vector"):
        load_vectors("b.db", f"p{kind}", space="s")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"label": ["a", "b", "c"]}, "no column key, _id or id is the keys; columns: label; --key"),
        ({"id": [1, 2, 3], "_id": [4, 5, 6]}, "_id, id may each be the keys"),
        ({"key": [1, 2, 3], "id": [4, 5, 6]}, "keys?, id may each be the keys"),
    ],
)
def test_keys_are_not_guessed(kind: str, columns: dict[str, Any], message: str) -> None:
    """None or several: the user says which. Nothing is stored."""
    save(f"p{kind}", **columns, vector=V)
    with pytest.raises(SourceError, match=message):
        load_vectors("a.db", f"p{kind}", space="s")
    assert not Path("a.db").exists()


@pytest.mark.parametrize("kind", [".npy", *KINDS])
def test_rows_by_number_are_of_one_file(kind: str) -> None:
    """Another file's rows do not take their place, unless that is asked for."""
    for name, vectors in (("p", V), ("q", -V)):
        np.save(f"{name}.npy", vectors) if kind == ".npy" else save(f"{name}{kind}", vector=vectors)
    load_vectors("a.db", f"p{kind}", space="s")
    assert documents()[2] == Document("2", "", {"source": f"p{kind}"})
    with pytest.raises(SourceError, match=rf"row 0: the key '0' belongs to a document of p\{kind}; --replace"):
        load_vectors("a.db", f"q{kind}")
    assert documents()[2].metadata == {"source": f"p{kind}"}
    assert load_vectors("a.db", f"q{kind}", replace=True).stored == 3
    np.save("r.npy", V)
    assert run("load", "a.db", "r.npy").exit_code == 1
    assert run("load", "a.db", "r.npy", "--replace").exit_code == 0


def test_documents_of_another_file_are_not_replaced() -> None:
    """Ids of --documents are keys by themselves: those of two files may clash."""
    np.save("v.npy", V)
    for name in ("d", "e"):
        Path(f"{name}.jsonl").write_text("".join(f'{{"id": {i}, "text": "{name}"}}\n' for i in range(3)))
    load_vectors("a.db", "v.npy", "d.jsonl", space="s")
    with pytest.raises(SourceError, match=r"e.jsonl: row 0: the key '0' belongs to a document of d.jsonl"):
        load_vectors("a.db", "v.npy", "e.jsonl")
    Path("e.jsonl").unlink()
    Path("d.jsonl").rename("moved.jsonl")
    assert "of d.jsonl" in run("load", "a.db", "v.npy", "--documents", "moved.jsonl").stderr
    assert run("load", "a.db", "v.npy", "--documents", "moved.jsonl", "--replace").exit_code == 0


def test_documents_by_other_names() -> None:
    """--key and --text are of the file of documents where there is one."""
    np.save("v.npy", V)
    Path("d.csv").write_text("isbn;body;year\n7;x;2001\n8;y;2002\n9;z;2003\n")
    load_vectors("a.db", "v.npy", "d.csv", space="s", key="isbn", text="body")
    assert documents()[1] == Document("8", "y", {"source": "d.csv", "year": 2002})


@pytest.mark.parametrize("kind", KINDS[1:])
def test_types_of_columns(kind: str) -> None:
    """Numbers, truths, times as ISO texts, lists, structs; a null is nothing."""
    arrow = pytest.importorskip("pyarrow")
    at = datetime.datetime(2024, 5, 1, 12, 30, tzinfo=datetime.UTC)
    save(
        f"p{kind}",
        id=["a", "b", "c"],
        vector=V,
        truth=[True, False, None],
        whole=arrow.array([1, 2**63, 3], arrow.uint64()),
        price=arrow.array([decimal.Decimal("9.50"), decimal.Decimal("20.00"), None], arrow.decimal128(10, 2)),
        day=[datetime.date(2024, 5, 1)] * 3,
        at=arrow.array([at] * 3, arrow.timestamp("ns", "UTC")),
        tags=[["a", "b"], [], None],
        deep=[{"x": 1, "y": [1.5]}] * 3,
        lang=arrow.array(["en", "de", "en"]).dictionary_encode(),
    )
    load_vectors("a.db", f"p{kind}", space="s")
    first, second, third = (document.metadata for document in documents())
    assert first == {
        "truth": True, "whole": 1, "price": 9.5, "day": "2024-05-01", "at": "2024-05-01T12:30:00+00:00",
        "tags": ["a", "b"], "deep": {"x": 1, "y": [1.5]}, "lang": "en"}  # fmt: skip
    assert (second["whole"], second["price"], second["tags"]) == (2**63, 20, [])
    assert sorted(third) == ["at", "day", "deep", "lang", "whole"]


@pytest.mark.parametrize("kind", KINDS[1:])
@pytest.mark.parametrize(
    ("values", "shown"),
    [([b"a"] * 3, "bytes"), ([1.0, float("nan"), 2.0], "nan"), ([datetime.timedelta(1)] * 3, "timedelta"),
     ([decimal.Decimal("0.1234567890123456789")] * 3, "Decimal")],
)  # fmt: skip
def test_what_json_cannot_hold(kind: str, values: list[Any], shown: str) -> None:
    """An error that names the row and the column."""
    save(f"p{kind}", id=["a", "b", "c"], vector=V, odd=values)
    with pytest.raises(SourceError, match=rf"row [01]: the column 'odd' holds .*{shown}.*JSON cannot hold"):
        load_vectors("a.db", f"p{kind}", space="s")


def test_arrays_of_other_types() -> None:
    """Of .npz: strings, bytes, times, lists of numbers; others are refused by name."""
    at = np.array(["2024-05-01T12:30", "NaT", "2024-05-02T00:00"], "M8[s]")
    blob = {"note": np.frombuffer("aéc".encode(), np.uint8), "note_offsets": np.array([0, 1, 3, 4])}
    columns = {"at": at, "raw": np.array([b"x", b"y", b"z"]), "pair": V[:, :2], "flag": np.array([True, False, True])}
    np.savez("p.npz", vectors=V, id=["a", "b", "c"], **columns, **blob, version=np.array("1"))
    load_vectors("a.db", "p.npz", space="s")
    assert documents()[0].metadata == {
        "at": "2024-05-01T12:30:00", "raw": "x", "flag": True, "note": "a", "pair": pytest.approx(V[0, :2].tolist())
    }  # fmt: skip
    assert "at" not in documents()[1].metadata
    assert documents()[1].metadata["note"] == "é"
    for odd, message in ((V[:2, 0], "3 vectors and 2 odd"), (V[:, 0] * 1j, "odd is complex64, which JSON cannot hold")):
        np.savez("q.npz", vectors=V, id=["a", "b", "c"], odd=odd)
        with pytest.raises(SourceError, match=message):
            load_vectors("b.db", "q.npz", space="s")


@pytest.mark.parametrize("kind", KINDS)
def test_names_in_two_places(kind: str) -> None:
    """A field of the JSON metadata and a column of the same name: neither is dropped without a word."""
    rest = {"metadata": ['{"lang": "en"}'] * 3, "lang": ["de"] * 3}
    save(f"p{kind}", id=["a", "b", "c"], vector=V, **rest)
    with pytest.raises(SourceError, match="row 0 has lang in its metadata and as a column"):
        load_vectors("a.db", f"p{kind}", space="s")


@pytest.mark.parametrize("kind", KINDS)
def test_start_and_stop_of_others(kind: str) -> None:
    """Where the passage lies in a dump is not metadata; in a file of others these are columns as any."""
    plural = "s" if kind == ".npz" else ""
    save(f"p{kind}", id=["a", "b", "c"], vector=V, **{f"start{plural}": [1, 2, 3]})
    load_vectors("a.db", f"p{kind}", space="s")
    assert documents()[0].metadata == {f"start{plural}": 1}
    dump_vectors("a.db", f"out{kind}")
    load_vectors("b.db", f"out{kind}", space="s")
    assert documents("b.db") == documents("a.db")


def test_there_and_back() -> None:
    """dump, then load: the same documents, and the same dump."""
    np.save("v.npy", V)
    Path("d.jsonl").write_text("".join(json.dumps({"id": f"k{i}", "text": "é" * i, "n": [i]}) + "\n" for i in range(3)))
    load_vectors("a.db", "v.npy", "d.jsonl", space="s")
    for kind in KINDS:
        if kind != ".npz":
            pytest.importorskip("pyarrow")
        dump_vectors("a.db", f"out{kind}")
        load_vectors(f"copy{kind}.db", f"out{kind}", space="s")
        assert documents(f"copy{kind}.db") == documents()
        assert load_vectors("a.db", f"out{kind}").stored == 0
