"""Routes that take pictures and sounds, and the thumbnails."""

import base64
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from threading import Event
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
from builders.colours import picture, sound
from builders.services import TOKEN, Running, running

from edge_embed import Document, Embedder, Index
from edge_embed.service.indexes import IndexOptions, ServedIndex
from edge_embed.service.limits import Limits
from edge_embed.service.service import Service


@pytest.fixture(scope="module")
def towers(colours: Path) -> Embedder:
    return Embedder(colours, threads=1)


def serving(path: Path, embedder: Embedder, *, limits: Limits | None = None, always: bool = False) -> Any:
    with Index.open(path, embedder) as index:
        index.upsert(
            [
                Document("barn", "The red barn of my uncle", image=picture("red")),
                Document("lake", image=picture("blue")),
                Document("hum", audio=sound("a deep hum")),
                Document("note", "A note about the harbour"),
            ],
            thumbnails=True,
        )
    embedders = {"colours": embedder}
    index = ServedIndex(path, embedders, IndexOptions())
    return running(Service(embedders, index=index, limits=limits), always=always)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, towers: Embedder) -> Iterator[Running]:
    """For tests that change nothing."""
    with serving(tmp_path_factory.mktemp("shared") / "a.db", towers) as found:
        yield found


def text(content: bytes) -> str:
    return base64.b64encode(content).decode()


def by_file(service: Running, name: str, content: bytes, **asked: Any) -> Any:
    path = f"/index/search/file?name={quote(name)}&ask={quote(json.dumps(asked))}"
    return service.ask("POST", path, content, Content_Type="application/octet-stream")


def test_search_by_a_picture_in_base64(shared: Running) -> None:
    """Alone or as a data URL; hits say their kind."""
    for given in (text(picture("blue", size=(50, 50))), f"data:image/png;base64,{text(picture('blue'))}"):
        answer = shared.ask("POST", "/index/search", {"image": given, "k": 1, "kind": "image"}).json()
        (hit,) = answer["hits"]
        assert (hit["key"], hit["kind"], hit["source"]) == ("lake", "image", "")


def test_search_by_a_file(shared: Running) -> None:
    """The body is the picture or sound; its name says which; the rest of the search stands in the address."""
    (hit,) = by_file(shared, "C:\\x\\a.PNG", picture("red"), k=1, kind="image").json()["hits"]
    assert hit["key"] == "barn"
    (hit,) = by_file(shared, "a.wav", sound("a deep hum", 3.0), k=1, kind="audio").json()["hits"]
    assert hit["key"] == "hum"
    found = by_file(shared, "a.png", picture("red"), query="harbour", k=4, marks=True).json()["hits"]
    assert {"barn", "note"} <= {hit["key"] for hit in found}
    assert all("marks" in hit for hit in found)


def test_texts_find_pictures_and_where_still_counts(shared: Running) -> None:
    asked = {"query": "blue", "kind": "image", "where": {"$key": {"$in": ["barn"]}}}
    assert [hit["key"] for hit in shared.ask("POST", "/index/search", asked).json()["hits"]] == ["barn"]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"image": "not base64!"}, 400, "invalid_input"),
        ({"image": ""}, 400, "invalid_input"),
        ({"image": "https://example.org/a.png"}, 400, "invalid_input"),
        ({"image": "data:image/png,abc"}, 400, "invalid_input"),
        ({"image": text(b"no picture")}, 400, "bad_image"),
        ({"audio": text(b"no sound")}, 400, "bad_audio"),
        ({"image": text(picture("red", "JPEG", (600, 500))[:900])}, 400, "bad_image"),
        ({"image": 7}, 400, "invalid_input"),
        ({"query": "a", "kind": "video"}, 400, "invalid_input"),
    ],
)
def test_what_is_refused(shared: Running, body: dict[str, Any], status: int, code: str) -> None:
    answer = shared.ask("POST", "/index/search", body)
    assert (answer.status, answer.json()["error"]["code"]) == (status, code)
    assert "edge-embed-" not in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("path", "content", "status"),
    [
        ("name=a.txt", b"text", 400),
        ("name=a.png", b"", 400),
        ("name=..", b"x", 400),
        ("name=a.png&ask=%7B", b"x", 400),
        ("name=a.png&ask=%7B%22image%22%3A%22AA%3D%3D%22%7D", b"x", 400),
        ("", b"x", 400),
    ],
)
def test_files_that_are_refused(shared: Running, path: str, content: bytes, status: int) -> None:
    assert shared.ask("POST", f"/index/search/file?{path}", content).status == status


def test_limits(tmp_path: Path, towers: Embedder) -> None:
    """Pixels are looked at before anything is decoded; bytes before anything is read."""
    with serving(tmp_path / "a.db", towers, limits=Limits(pixels=2000, upload_bytes=30_000)) as service:
        large = by_file(service, "a.png", picture("red", size=(60, 60)))
        assert (large.status, large.json()["error"]["code"]) == (413, "picture_too_large")
        added = service.ask("POST", "/index/files?name=a.png", picture("red", size=(60, 60)), token=TOKEN)
        assert (added.status, added.json()["error"]["code"]) == (413, "picture_too_large")
        assert by_file(service, "a.png", picture("red") + bytes(40_000)).status == 413
        assert by_file(service, "a.png", picture("red", size=(40, 50))).status == 200


def test_long_sounds_keep_no_search_waiting(shared: Running, towers: Embedder, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on, each_input = Event(), towers.each_input

    def slow(*given: Any) -> Any:
        assert go_on.wait(30)
        return each_input(*given)

    monkeypatch.setattr(towers, "each_input", slow)
    with ThreadPoolExecutor(3) as pool:
        sounds = [pool.submit(by_file, shared, "a.wav", sound("a deep hum"), k=1) for _ in range(3)]
        try:
            while b"edge_embed_waiting_calls 3" not in shared.ask("GET", "/metrics").body:
                assert not any(one.done() for one in sounds)
            answer = shared.ask("POST", "/index/search", {"query": "harbour", "mode": "text"})
        finally:
            go_on.set()
        assert answer.json()["hits"][0]["key"] == "note"
        assert [one.result().status for one in sounds] == [200, 200, 200]


def test_thumbnails(shared: Running) -> None:
    """WebP, which a browser keeps and asks for again; none for texts and what is not there."""
    answer = shared.ask("GET", "/index/thumbnail?key=barn")
    assert (answer.status, answer.headers["content-type"]) == (200, "image/webp")
    assert answer.headers["cache-control"] == "private, no-cache"
    assert answer.body[8:12] == b"WEBP"
    from PIL import Image

    assert max(Image.open(BytesIO(answer.body)).size) <= 160
    assert shared.ask("GET", "/index/thumbnail?key=barn", If_None_Match=answer.headers["etag"]).status == 304
    for key in ("note", "hum", "nothing"):
        assert shared.ask("GET", f"/index/thumbnail?key={key}").status == 404


def test_the_token_guards_thumbnails(tmp_path: Path, towers: Embedder) -> None:
    """Where every route needs it; a browser sends it as the password of the page."""
    with serving(tmp_path / "a.db", towers, always=True) as service:
        assert service.ask("GET", "/index/thumbnail?key=barn").status == 401
        assert service.ask("GET", "/index/thumbnail?key=barn", token=TOKEN).status == 200
        password = text(f"x:{TOKEN}".encode())
        assert service.ask("GET", "/index/thumbnail?key=barn", Authorization=f"Basic {password}").status == 200


def test_pictures_and_sounds_are_added(tmp_path: Path, towers: Embedder) -> None:
    """Under the name of their file, with what they say of themselves, and a thumbnail."""
    with serving(tmp_path / "a.db", towers) as service:
        told = service.ask("POST", "/index/files?name=new.png", picture("green"), token=TOKEN).json()
        assert (told["key"], told["stored"], told["problems"]) == ("upload:new.png", 1, [])
        assert service.ask("POST", "/index/files?name=s.wav", sound("silence"), token=TOKEN).json()["stored"] == 1
        again = service.ask("POST", "/index/files?name=new.png", picture("green"), token=TOKEN).json()
        assert (again["stored"], again["unchanged"]) == (0, 1)
        (hit,) = service.ask("POST", "/index/search", {"query": "green", "k": 1, "kind": "image"}).json()["hits"]
        assert (hit["key"], hit["metadata"]["file"], hit["source"]) == ("upload:new.png", "new.png", "")
        assert service.ask("GET", "/index/thumbnail?key=upload:new.png").status == 200
        refused = service.ask("POST", "/index/files?name=bad.png", b"no picture", token=TOKEN)
        assert (refused.status, refused.json()["error"]["code"]) == (400, "bad_image")
        cut = service.ask("POST", "/index/files?name=c.jpg", picture("red", "JPEG", (600, 500))[:900], token=TOKEN)
        assert cut.json()["problems"]
        rows = b'{"id": "1", "text": "A row", "image": "/etc/hostname"}\n'
        told = service.ask("POST", "/index/files?name=rows.jsonl", rows, token=TOKEN).json()
        assert told["stored"] == 1  # a field like others: nobody reads files of this machine so
        found = service.ask("POST", "/index/find", {"where": {"$key": "upload:rows.jsonl#1"}}).json()
        assert found["documents"][0]["kind"] == "text"


def test_an_index_without_towers(tmp_path: Path) -> None:
    """Its page and clients see that it takes none; pictures are refused by what they need."""
    embedder = Embedder("static", threads=1)
    with Index.open(tmp_path / "a.db", embedder) as index:
        index.upsert([Document("a", "A text")])
    embedders = {"static": embedder}
    with running(Service(embedders, index=ServedIndex(tmp_path / "a.db", embedders))) as service:
        about = service.ask("GET", "/index").json()
        assert about["takes"] == []
        assert "kinds" not in about
        paths = service.ask("GET", "/openapi.json").json()["paths"]
        assert "images" not in json.dumps(paths["/v2/embed"]["post"]["requestBody"])
        assert "image" not in json.dumps(paths["/v1/embeddings"]["post"]["requestBody"])
        refused = service.ask("POST", "/index/files?name=a.png", picture("red"), token=TOKEN)
        assert refused.status == 400
        assert "no image tower" in refused.json()["error"]["message"]
        assert service.ask("POST", "/index/search", {"image": text(picture("red"))}).status == 400


def test_what_the_index_says_of_kinds(shared: Running) -> None:
    about = shared.ask("GET", "/index").json()
    assert about["takes"] == ["audio", "image"]
    assert about["kinds"] == {"text": 1, "image": 2, "audio": 1}
    listed = shared.ask("POST", "/index/find", {"limit": 10}).json()["documents"]
    assert {entry["key"]: entry["kind"] for entry in listed} == {
        "barn": "image", "lake": "image", "hum": "audio", "note": "text",
    }  # fmt: skip


def test_coheres_images(shared: Running, towers: Embedder) -> None:
    """As its version 2 takes them: data URLs, with input_type "image"."""
    images = [picture("red"), picture("blue", "JPEG")]
    urls = [f"data:image/png;base64,{text(one)}" for one in images]
    answer = shared.ask("POST", "/v2/embed", {"model": "colours", "input_type": "image", "images": urls}).json()
    assert np.array_equal(np.array(answer["embeddings"]["float"], np.float32), towers.encode_image(images))
    assert answer["texts"] == []
    assert answer["images"] == [
        {"width": 40, "height": 30, "format": "png"}, {"width": 40, "height": 30, "format": "jpeg"},
    ]  # fmt: skip
    for body in (
        {"input_type": "image", "texts": ["a"]},
        {"input_type": "image"},
        {"input_type": "search_query", "images": urls},
        {"input_type": "search_query"},
        {"input_type": "image", "images": ["data:image/png;base64,AAAA"]},
        {"input_type": "image", "images": []},
    ):
        assert shared.ask("POST", "/v2/embed", {"model": "colours", **body}).status == 400, body


def test_texts_and_pictures_as_jina_takes_them(shared: Running, towers: Embedder) -> None:
    """In one list, each at its place."""
    inputs = [{"image": text(picture("red"))}, {"text": "blue"}, {"image": text(picture("blue"))}]
    answer = shared.ask("POST", "/v1/embeddings", {"model": "colours", "input": inputs}).json()
    vectors = np.array([entry["embedding"] for entry in answer["data"]], np.float32)
    assert np.array_equal(vectors[[0, 2]], towers.encode_image([picture("red"), picture("blue")]))
    assert np.array_equal(vectors[1:2], towers.encode(["blue"]))
    assert answer["usage"]["prompt_tokens"] > 0
    texts = shared.ask("POST", "/v1/embeddings", {"model": "colours", "input": [{"text": "blue"}]}).json()
    assert texts["data"][0]["embedding"] == answer["data"][1]["embedding"]
    for wrong in ([{"image": "https://a.b/c.png"}], [{"text": "a"}, "b"], [{"image": "!"}], [{"photo": "AA=="}], [{}]):
        assert shared.ask("POST", "/v1/embeddings", {"model": "colours", "input": wrong}).status == 400, wrong


def test_the_document_names_them(shared: Running) -> None:
    paths = shared.ask("GET", "/openapi.json").json()["paths"]
    answer = paths["/index/thumbnail"]["get"]["responses"]["200"]
    assert list(answer["content"]) == ["image/webp"]
    assert [one["name"] for one in paths["/index/search/file"]["post"]["parameters"]] == ["name", "ask"]
    taken = paths["/v2/embed"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert [list(one["properties"])[2] for one in taken["anyOf"]] == ["texts", "images"]
    assert (
        "image" in paths["/index/search"]["post"]["requestBody"]["content"]["application/json"]["schema"]["properties"]
    )
