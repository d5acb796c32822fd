"""Routes of the index over HTTP: what they take and give, what they refuse, who may write."""

import errno
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from builders.served import reranker_bundle
from builders.services import TOKEN, Answer, Running, running

from edge_embed import Document, Embedder, Index, Reranker
from edge_embed.service.indexes import IndexOptions, ServedIndex
from edge_embed.service.limits import Limits
from edge_embed.service.service import Service

DOCUMENTS = [
    Document("cat", "The cat sleeps on the sofa all day.", {"lang": "en", "year": 2005, "tags": ["pets", "home"]}),
    Document("chat", "Le chat dort sur le canapé.", {"lang": "fr", "year": 2012.5, "tags": ["pets"]}),
    Document("ferry", "The ferry to the island leaves at nine.", {"lang": "en", "draft": True, "note": None}),
    Document("long", "An old lighthouse. " + "Waves and stones. " * 400, {"lang": "en", "source": "own"}),
]


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return Embedder("static", threads=1)


@pytest.fixture
def served(tmp_path: Path, embedder: Embedder) -> Iterator[Running]:
    with _serving(tmp_path / "a.db", embedder) as found:
        yield found


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, embedder: Embedder) -> Iterator[Running]:
    """For tests that change nothing."""
    with _serving(tmp_path_factory.mktemp("shared") / "a.db", embedder) as found:
        yield found


def _serving(
    path: Path, embedder: Embedder, *, rerankers: Any = None, limits: Limits | None = None, **options: Any
) -> Any:
    with Index.open(path, embedder) as index:
        index.upsert(DOCUMENTS)
    embedders = {"small": embedder}
    index = ServedIndex(path, embedders, IndexOptions(**options))
    return running(Service(embedders, rerankers, index=index, limits=limits))


def _error(answer: Answer) -> tuple[int, str]:
    error = answer.json()["error"]
    assert error["message"]
    return answer.status, error["code"]


def _keys(answer: Answer) -> list[str]:
    assert answer.status == 200, answer.body
    found = answer.json()
    return [entry["key"] for entry in found.get("hits", found.get("documents"))]


def test_about(shared: Running, tmp_path: Path) -> None:
    """What the index holds, its fields with values, and nothing of this machine's folders."""
    answer = shared.ask("GET", "/index")
    about = answer.json()
    assert (about["documents"], about["words"], about["dim"]) == (4, "english", 240)
    assert about["modes"] == ["hybrid", "vector", "text"]
    assert (about["writable"], about["rerank"]) == (True, False)
    assert about["memory_bytes"] > 10**7
    fields = {field["name"]: field for field in about["fields"]}
    assert fields["lang"] == {
        "name": "lang", "kind": "text", "documents": 4, "more": False, "min": None, "max": None,
        "values": [{"value": "en", "documents": 3}, {"value": "fr", "documents": 1}],
    }  # fmt: skip
    assert (fields["year"]["kind"], fields["year"]["min"], fields["year"]["max"]) == ("number", 2005, 2012.5)
    assert fields["tags"]["values"] == [{"value": "pets", "documents": 2}, {"value": "home", "documents": 1}]
    assert [fields[name]["kind"] for name in ("draft", "tags", "note")] == ["boolean", "list", "other"]
    assert str(tmp_path) not in answer.body.decode()


def test_about_follows_what_is_written(served: Running) -> None:
    """A new field is there after the commit that brings it."""
    served.ask("GET", "/index")
    document = {"key": "new", "text": "A new text.", "metadata": {"colour": "red"}}
    served.ask("POST", "/index/documents", {"documents": [document]}, token=TOKEN)
    for _ in range(200):  # not at once, where reading the fields took long
        if "colour" in {field["name"] for field in served.ask("GET", "/index").json()["fields"]}:
            break
    else:
        pytest.fail("the field does not appear")


def test_search(shared: Running) -> None:
    """Hits as `Index.search` gives them, with `where`, mode and k; marks are where words of the query are."""
    answer = shared.ask("POST", "/index/search", {"query": "sleeping cats", "k": 2, "marks": True})
    found = answer.json()
    assert _keys(answer)[0] == "cat"
    hit = found["hits"][0]
    assert [hit["text"][start:end] for start, end in hit["marks"]] == ["cat", "sleeps"]
    assert (hit["start"], hit["end"], hit["place"]) == (0, len(DOCUMENTS[0].text), None)
    assert hit["metadata"] == DOCUMENTS[0].metadata
    assert found["shortfall"] is None
    assert found["seconds"] > 0
    where = {"lang": "fr", "tags": {"$contains": "pets"}}
    assert _keys(shared.ask("POST", "/index/search", {"query": "cat", "where": where})) == ["chat"]
    assert _keys(shared.ask("POST", "/index/search", {"query": "island", "mode": "text"})) == ["ferry"]
    assert "marks" not in shared.ask("POST", "/index/search", {"query": "cat"}).json()["hits"][0]


def test_search_like(shared: Running) -> None:
    """Examples instead of a query, and with it."""
    assert set(_keys(shared.ask("POST", "/index/search", {"like": ["chat"]}))) == {"cat", "ferry", "long"}
    body = {"query": "boats", "like": ["cat"], "unlike": ["long"], "mmr": 0.5}
    assert set(_keys(shared.ask("POST", "/index/search", body))) == {"chat", "ferry"}
    assert _error(shared.ask("POST", "/index/search", {"like": ["gone"]})) == (404, "key_not_found")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, (400, "invalid_input")),
        ({"query": ""}, (400, "invalid_input")),
        ({"query": 7}, (400, "invalid_input")),
        ({"query": "cat", "k": 0}, (400, "invalid_input")),
        ({"query": "cat", "k": 1001}, (400, "invalid_input")),
        ({"query": "cat", "k": True}, (400, "invalid_input")),
        ({"query": "cat", "mode": "magic"}, (400, "invalid_input")),
        ({"query": "cat", "mode": "sparse"}, (400, "invalid_input")),
        ({"query": "cat", "mmr": 2}, (400, "invalid_input")),
        ({"query": "cat", "like": "cat"}, (400, "invalid_input")),
        ({"query": "cat", "limit": 3}, (400, "invalid_input")),
        ({"query": "cat", "where": []}, (400, "invalid_input")),
        ({"query": "cat", "where": {}}, (400, "invalid_filter")),
        ({"query": "cat", "where": {"lnag": "en"}}, (400, "invalid_filter")),
        ({"query": "cat", "where": {"year": {"$near": 1}}}, (400, "invalid_filter")),
        ({"query": "cat", "rerank": True}, (404, "model_not_found")),
        ({"query": "x" * 200_001}, (413, "text_too_long")),
        (b'{"query": NaN}', (400, "invalid_json")),
        (b'{"query": "a", "query": "b"}', (400, "invalid_json")),
        (b"[" * 100_000, (400, "invalid_json")),
        (b"\xff", (400, "invalid_json")),
    ],
)
def test_searches_that_are_refused(shared: Running, body: Any, expected: tuple[int, str]) -> None:
    """One error in one format, for each kind of mistake."""
    answer = shared.ask("POST", "/index/search", body, Content_Type="application/json")
    assert _error(answer) == expected


def test_search_with_a_reranker(tmp_path: Path, embedder: Embedder) -> None:
    """The order and the scores are the reranker's, over more hits than are asked for."""
    reranker = Reranker(reranker_bundle(tmp_path), threads=1)
    with _serving(tmp_path / "a.db", embedder, rerankers={"judge": reranker}) as served:
        assert served.ask("GET", "/index").json()["rerank"] is True
        found = served.ask("POST", "/index/search", {"query": "cat", "k": 2, "rerank": True, "marks": True}).json()
        every = served.ask("POST", "/index/search", {"query": "cat"}).json()["hits"]
        scores = {hit["key"]: float(reranker.scores([("cat", hit["text"])])[0]) for hit in every}
        best = sorted(scores, key=lambda key: -scores[key])[:2]
        assert [hit["key"] for hit in found["hits"]] == best
        assert [hit["score"] for hit in found["hits"]] == pytest.approx([scores[key] for key in best], abs=1e-5)
        assert found["shortfall"] is None
        marked = {hit["key"]: len(hit["marks"]) for hit in found["hits"]}
        assert marked == {key: int(key == "cat") for key in best}
        with Index.open(tmp_path / "a.db", embedder, read_only=True) as index:
            same = index.search("cat", 2, rerank=reranker)
        assert [(hit.key, hit.start, hit.end) for hit in same] == [
            (hit["key"], hit["start"], hit["end"]) for hit in found["hits"]
        ]
        for body in ({"like": ["cat"]}, {"query": "cat", "mmr": 0.5}):
            assert _error(served.ask("POST", "/index/search", {**body, "rerank": True})) == (400, "invalid_input")


def test_a_reranker_with_several_labels_orders_nothing(tmp_path: Path, embedder: Embedder) -> None:
    """It gives several scores for a text; which of them would count?"""
    reranker = Reranker(reranker_bundle(tmp_path, labels=3), threads=1)
    with _serving(tmp_path / "a.db", embedder, rerankers={"judge": reranker}) as served:
        answer = served.ask("POST", "/index/search", {"query": "cat", "rerank": True})
        assert _error(answer) == (400, "invalid_input")
        assert str(tmp_path) not in answer.body.decode()
        assert served.ask("GET", "/index").json()["rerank"] is False


def test_find(shared: Running) -> None:
    """Documents in the order of keys, in parts; texts are cut where asked; the total counts all that fit."""
    first = shared.ask("POST", "/index/find", {"limit": 3}).json()
    assert [entry["key"] for entry in first["documents"]] == ["cat", "chat", "ferry"]
    assert (first["total"], first["next"]) == (4, 3)
    rest = shared.ask("POST", "/index/find", {"limit": 3, "offset": first["next"]}).json()
    assert ([entry["key"] for entry in rest["documents"]], rest["next"]) == (["long"], None)
    assert _keys(shared.ask("POST", "/index/find", {"where": {"$key": {"$prefix": "c"}}})) == ["cat", "chat"]
    cut = shared.ask("POST", "/index/find", {"where": {"$key": "long"}, "start": 3, "end": 17}).json()["documents"][0]
    assert cut == {
        "key": "long", "text": "old lighthouse", "metadata": DOCUMENTS[3].metadata,
        "start": 3, "end": 17, "characters": len(DOCUMENTS[3].text), "kind": "text",
    }  # fmt: skip
    beyond = shared.ask("POST", "/index/find", {"where": {"$key": "cat"}, "start": 10_000}).json()["documents"][0]
    assert (beyond["text"], beyond["start"], beyond["end"]) == ("", 35, 35)
    nothing = shared.ask("POST", "/index/find", {"offset": 10}).json()
    assert (nothing["documents"], nothing["total"], nothing["next"]) == ([], 4, None)
    assert _error(shared.ask("POST", "/index/find", {"limit": 1001})) == (400, "invalid_input")
    assert _error(shared.ask("POST", "/index/find", {"where": {"gone": 1}})) == (400, "invalid_filter")


@pytest.mark.slow
def test_find_ends_an_answer_that_grows_large(served: Running) -> None:
    """Texts of 1 MB at most each, and of some MB together; `next` says where to go on."""
    text = "word " * 150_000
    for number in range(7):
        with Index.open(served.service.index.path, Embedder("static"), shared=True) as index:  # type: ignore[union-attr]
            index.add([Document(f"wide {number}", text)])
    found = served.ask("POST", "/index/find", {"where": {"$key": {"$prefix": "wide"}}}).json()
    assert [len(entry["text"]) for entry in found["documents"]] == [750_000] * 6
    assert (found["total"], found["next"]) == (7, 6)


def test_documents_are_added_and_replaced(served: Running) -> None:
    """All or none; unchanged ones are counted."""
    documents = [{"key": "a", "text": "An apple."}, {"key": "cat", "text": "A lion.", "metadata": {"lang": "en"}}]
    answer = served.ask("POST", "/index/documents", {"documents": documents}, token=TOKEN)
    assert answer.json() == {"stored": 2, "unchanged": 0, "documents": 5}
    answer = served.ask("POST", "/index/documents", {"documents": documents}, token=TOKEN)
    assert answer.json() == {"stored": 0, "unchanged": 2, "documents": 5}
    assert _keys(served.ask("POST", "/index/search", {"query": "lion", "mode": "text"})) == ["cat"]
    documents = [{"key": "b", "text": "A bean."}, {"key": "", "text": "no key"}]
    answer = served.ask("POST", "/index/documents", {"documents": documents}, token=TOKEN)
    assert _error(answer) == (400, "invalid_document")
    same = [{"key": "b", "text": "A bean."}] * 2
    assert _error(served.ask("POST", "/index/documents", {"documents": same}, token=TOKEN)) == (409, "duplicate_key")
    wrong = [{"key": "b", "text": 7}]
    answer = served.ask("POST", "/index/documents", {"documents": wrong}, token=TOKEN)
    assert answer.json()["error"]["option"] == "documents[0].text"
    many = [{"key": str(number), "text": "x"} for number in range(1001)]
    assert _error(served.ask("POST", "/index/documents", {"documents": many}, token=TOKEN)) == (400, "invalid_input")
    assert served.ask("GET", "/index").json()["documents"] == 5


def test_delete(served: Running) -> None:
    """By keys or by a condition; one of them has to be given."""
    assert served.ask("POST", "/index/delete", {"keys": ["cat", "gone"]}, token=TOKEN).json()["deleted"] == 1
    answer = served.ask("POST", "/index/delete", {"where": {"lang": "fr"}}, token=TOKEN)
    assert answer.json() == {"deleted": 1, "documents": 2}
    for body in ({}, {"keys": [], "where": {"lang": "en"}}, {"where": {}}, {"keys": "cat"}):
        assert _error(served.ask("POST", "/index/delete", body, token=TOKEN))[0] == 400
    assert served.ask("GET", "/index").json()["documents"] == 2


@pytest.mark.parametrize("path", ["/index/documents", "/index/delete", "/index/files?name=a.txt"])
@pytest.mark.parametrize("token", [{}, {"token": "wrong"}, {"Authorization": "Bearer"}])
def test_writes_need_the_token(shared: Running, path: str, token: dict[str, str]) -> None:
    """Without it nothing is changed."""
    body: Any = {"keys": ["cat"]} if "delete" in path else {"documents": []} if "documents" in path else b"text"
    assert _error(shared.ask("POST", path, body, **token)) == (401, "unauthorized")
    assert shared.ask("GET", "/index").json()["documents"] == 4


def test_a_service_that_only_reads(tmp_path: Path, embedder: Embedder) -> None:
    """It says so, and refuses writes that have the token."""
    with _serving(tmp_path / "a.db", embedder, read_only=True) as served:
        assert served.ask("GET", "/index").json()["writable"] is False
        answer = served.ask("POST", "/index/documents", {"documents": []}, token=TOKEN)
        assert _error(answer) == (403, "index_read_only")
        answer = served.ask("POST", "/index/files?name=a.txt", b"text", token=TOKEN)
        assert _error(answer) == (403, "index_read_only")


def test_without_an_index(embedder: Embedder) -> None:
    """Every route says that there is none."""
    with running(Service({"small": embedder})) as served:
        assert _error(served.ask("GET", "/index")) == (404, "no_index")
        assert _error(served.ask("POST", "/index/search", {"query": "cat"})) == (404, "no_index")
        assert _error(served.ask("POST", "/index/files?name=a.txt", b"text", token=TOKEN)) == (404, "no_index")


def test_a_file_is_added(served: Running) -> None:
    """Its key is made of its name; it names no file under the root of the index, so that `add --sync` leaves it."""
    answer = served.ask("POST", "/index/files?name=notes.md", b"---\nlang: en\n---\nThe harbour master.", token=TOKEN)
    assert answer.json() == {
        "key": "upload:notes.md", "stored": 1, "unchanged": 0, "deleted": 0, "documents": 5,
        "notes": [], "problems": [], "problems_left_out": 0,
    }  # fmt: skip
    found = served.ask("POST", "/index/find", {"where": {"$key": "upload:notes.md"}}).json()["documents"]
    assert (found[0]["text"], found[0]["metadata"]) == ("The harbour master.", {"file": "notes.md", "lang": "en"})


def test_a_page_of_html_is_added_with_its_headings(served: Running) -> None:
    """Files are read as `edge-embed add` reads them: hits say under which heading they stand."""
    page = b"<h1>Port</h1><p>Ships come and go.</p><h2>Crane</h2><p>The crane lifts containers.</p>"
    answer = served.ask("POST", "/index/files?name=port.html", page, token=TOKEN)
    assert answer.json()["stored"] == 1
    hit = served.ask("POST", "/index/search", {"query": "ships", "mode": "text"}).json()["hits"][0]
    assert (hit["key"], hit["place"], hit["metadata"]["file"]) == ("upload:port.html", "Port", "port.html")
    assert "<" not in hit["text"]


def test_rows_of_a_file_are_replaced_by_those_of_its_next_version(served: Running) -> None:
    """Rows that the new file lacks are deleted, unless some of it could not be read."""
    rows = [{"id": number, "text": f"Row {number} of a file.", "source": "a list"} for number in range(3)]
    lines = [json.dumps(row).encode() for row in rows]
    path = "/index/files?name=a/b%5Crows.jsonl"
    first = served.ask("POST", path, b"\n".join(lines), token=TOKEN).json()
    assert (first["key"], first["stored"], first["documents"]) == ("upload:rows.jsonl", 3, 7)
    broken = served.ask("POST", path, lines[0] + b"\nno JSON", token=TOKEN).json()
    assert (broken["stored"], broken["unchanged"], broken["deleted"], broken["documents"]) == (0, 1, 0, 7)
    assert [(problem["line"], problem["reason"][:14]) for problem in broken["problems"]] == [(2, "not valid JSON")]
    last = served.ask("POST", path, lines[1], token=TOKEN).json()
    assert (last["unchanged"], last["deleted"], last["documents"]) == (1, 2, 5)
    found = served.ask("POST", "/index/find", {"where": {"file": "rows.jsonl"}}).json()["documents"]
    assert [(entry["key"], entry["metadata"]["source"]) for entry in found] == [("upload:rows.jsonl#1", "a list")]


@pytest.mark.parametrize(
    ("name", "body", "expected"),
    [
        ("", b"text", "invalid_name"),
        ("..", b"text", "invalid_name"),
        ("a/..", b"text", "invalid_name"),
        ("a%00.txt", b"text", "invalid_name"),
        ("a%0A.txt", b"text", "invalid_name"),
        ("%E2%80%AEa.txt", b"text", "invalid_name"),
        ("a" * 260 + ".txt", b"text", "invalid_name"),
        ("a.exe", b"text", "invalid_source"),
        ("noending", b"text", "invalid_source"),
        ("a.txt", b"", "invalid_source"),
        ("a.txt", b" \n", "invalid_source"),
        ("a.txt", b"a\x00b\x00", "invalid_source"),
        ("a.jsonl", b"{}", "invalid_source"),
        ("a.pdf", b"%PDF-1.7 no more", "invalid_source"),
    ],
)
def test_files_that_are_refused(shared: Running, name: str, body: bytes, expected: str) -> None:
    """One error without a path of this machine; the index stays as it is."""
    answer = shared.ask("POST", f"/index/files?name={name}", body, token=TOKEN)
    assert _error(answer) == (400, expected)
    assert b"/tmp" not in answer.body
    assert b"edge-embed-" not in answer.body
    assert shared.ask("GET", "/index").json()["documents"] == 4


def test_a_machine_without_a_place_for_temporary_files(
    served: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is read beside the index, and is gone afterwards; where that fails, too, one error says so."""

    def none() -> str:
        raise FileNotFoundError("no usable temporary directory")

    monkeypatch.setattr("tempfile.gettempdir", none)
    before = sorted(tmp_path.iterdir())
    answer = served.ask("POST", "/index/files?name=a.txt", b"Some text.", token=TOKEN)
    assert answer.json()["stored"] == 1
    assert sorted(tmp_path.iterdir()) == before

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    answer = served.ask("POST", "/index/files?name=a.txt", b"Some text.", token=TOKEN)
    assert _error(answer) == (507, "disk_full")
    assert sorted(tmp_path.iterdir()) == before


def test_an_upload_leaves_no_file_behind(served: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The copy that readers get is gone afterwards, whether it could be read or not."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    served.ask("POST", "/index/files?name=a.txt", b"Some text.", token=TOKEN)
    served.ask("POST", "/index/files?name=a.txt", b"\x00", token=TOKEN)
    assert list((tmp_path / "temporary").iterdir()) == []


@pytest.mark.parametrize(("most", "k", "status"), [(2, 2, 200), (2, 3, 400), (2000, 2000, 200), (2000, 2001, 400)])
def test_most_hits(embedder: Embedder, tmp_path: Path, most: int, k: int, status: int) -> None:
    """k is bounded by the service's own limit, be it under or over the default."""
    with _serving(tmp_path / "a.db", embedder, limits=Limits(hits=most)) as served:
        assert served.ask("POST", "/index/search", {"query": "cat", "k": k}).status == status
