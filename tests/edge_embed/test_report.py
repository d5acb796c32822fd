"""`edge-embed report`: one page that is whole, says what is so, and runs nothing that documents hold."""

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from builders.commands import run, run_json

from edge_embed import Document, Embedder, Index
from edge_embed.report.mapping import project
from edge_embed.report.svg import Axis, Point, scatter
from edge_embed_runtime.embed import embedder as runtime
from edge_embed_runtime.storage.store import Store

HOSTILE = "<script>alert(1)</script> & \"quoted\" 'text'"


class Page(HTMLParser):
    """Names of all elements, and the text between them."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.names: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.said = ""
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.said += data


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def static() -> Embedder:
    return Embedder("static")


def make(path: Path, embedder: runtime.Embedder, count: int = 60) -> None:
    words = ["ferry", "harbour", "garden", "kitchen", "engine", "violin"]
    with Index.open(path, embedder) as index:
        texts = [f"The {words[i % 6]} number {i} is old. " * (1 + 30 * (i == 7)) for i in range(count)]
        index.add([Document(f"d{i}", text, {"topic": words[i % 6], "n": i}) for i, text in enumerate(texts)])


def test_bundle(folder: Path) -> None:
    """What the receipt says is on the page, and nothing is loaded from elsewhere."""
    done = run_json("report", "minilm")
    assert done["of"] == "bundle"
    page = Page(Path(done["path"]))
    manifest = run_json("info", "minilm")
    for value in (manifest["fingerprint"], *map(str, manifest["receipt"]["cosine_to_fp32"].values())):
        assert value in page.said
    for tier, value in manifest["receipt"]["retrieval"]["ndcg@10"].items():
        assert f"{tier} 384" in page.said
        assert f"{value:.4g}" in page.said
    assert page.names.count("svg") == 2
    assert not {"script", "link", "img", "iframe"} & set(page.names)
    assert not [value for name, value in page.attributes if name in ("src", "href")]


def test_index(folder: Path, static: Embedder) -> None:
    make(folder / "a.db", static)
    with Index.open("a.db", static) as index:
        index.upsert([Document("<b>key</b>", HOSTILE * 40, {"topic": "<i>x</i>"})])
    done, path = run_json("report", "a.db", "--color-by", "topic"), folder / "a-report.html"
    page = Page(path)
    assert done == {"path": str(path), "of": "index", "bytes": path.stat().st_size}
    assert not {"script", "b", "i"} & set(page.names)
    for said in (
        "Largest documents",
        "Slowest documents",
        "Map of the vectors",
        "<b>key</b>",
        "<i>x</i>",
        "ferry (10)",
    ):
        assert said in page.said
    circles = page.names.count("circle")
    assert circles >= 61  # one for each document, and those of the plots
    first = re.search(r"Largest documents.*?<td>(.*?)</td>", path.read_text(), re.DOTALL)
    assert first is not None
    assert first[1] == "&lt;b&gt;key&lt;/b&gt;"  # the longest


def test_parts_are_all_of_the_file(folder: Path, static: Embedder) -> None:
    from edge_embed.report.contents import bytes_by_part, lengths

    make(folder / "a.db", static)
    store = Store(folder / "a.db", read_only=True)
    parts = bytes_by_part(store)
    if not parts:
        pytest.skip("this SQLite has no dbstat")
    assert {"texts and metadata", "vectors", "binary codes", "words"} <= set(parts)
    pages = store.connection.execute(
        "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size"
    ).fetchone()
    assert sum(parts.values()) <= pages[0]
    assert sum(count for _, count in lengths(store)) == 60
    store.close()


def test_without_a_bundle(folder: Path) -> None:
    """Given vectors, no texts, no vectors: what there is to say is said."""
    rng = np.random.default_rng(0)
    with Index.create("given.db", space="theirs", dim=8) as index:
        index.add_vectors([Document(f"k{i}") for i in range(30)], rng.normal(size=(30, 8)).astype(np.float32))
    page = Page(Path(run_json("report", "given.db")["path"]))
    assert "Map of the vectors" in page.said
    assert "Slowest" not in page.said
    Index.create("empty.db", space="theirs", dim=8).close()
    assert "documents0" in Page(Path(run_json("report", "empty.db")["path"])).said


def test_refusals(folder: Path, static: Embedder, tiny_bundle: Path) -> None:
    """Each in one line, and nothing is written."""
    make(folder / "a.db", static)
    Index.open("other.db", Embedder(tiny_bundle)).close()
    (folder / "there.html").write_text("mine")
    (folder / "noise").write_bytes(b"noise" * 1000)
    for arguments, said in (
        (("other.db",), "which does not come with edge_embed"),
        (("a.db", "--no-timing", "--color-by", "tpoic"), "no document has the field 'tpoic'"),
        (("a.db", "there.html", "--no-timing"), "there.html exists"),
        (("missing.db",), "does not exist"),
        (("noise", "--no-timing"), "noise"),
    ):
        result = run("report", *arguments)
        assert result.exit_code != 0
        assert said in result.stderr
    assert (folder / "there.html").read_text() == "mine"
    assert not list(folder.glob("*-report.html"))
    assert run("report", "a.db", "there.html", "--no-timing", "--force").exit_code == 0
    assert (folder / "there.html").read_text().startswith("<!doctype html>")


def test_projection_keeps_the_largest_directions() -> None:
    rng = np.random.default_rng(1)
    plane = rng.normal(size=(200, 2)).astype(np.float32) * [5, 2]
    vectors = np.zeros((200, 6), np.float32)
    vectors[:, [4, 1]] = plane
    found, kept = project(vectors)
    assert kept > 0.999
    assert np.allclose(np.linalg.norm(found, axis=1), np.linalg.norm(plane - plane.mean(axis=0), axis=1), atol=1e-4)
    assert found[:, 0].std() > found[:, 1].std()
    assert project(np.ones((3, 4), np.float32))[1] == 0


@pytest.mark.parametrize("values", [[0.0], [1.0, 1.0], [1e-9, 1e9], [-5.0, 3.0]], ids=["zero", "same", "wide", "signs"])
def test_points_lie_inside(values: list[float]) -> None:
    for log in (False, True):
        drawn = scatter([Point(value, value, "p") for value in values], Axis("x", log=log), Axis("y"))
        places = [float(x) for x in re.findall(r'cx="([-\d.]+)"', drawn)]
        assert len(places) == len(values)
        assert all(60 <= x <= 620 for x in places)
