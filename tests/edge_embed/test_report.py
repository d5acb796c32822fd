"""`edge-embed report`: one page that is whole, says what is so, and runs nothing that documents hold."""

import itertools
import re
import shutil
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from builders.browser import chromium
from builders.colours import picture
from builders.commands import run, run_json

from edge_embed import Document, Embedder, Index
from edge_embed.embedder import default_bundle
from edge_embed.report.mapping import project
from edge_embed.report.svg import COLOURS, Axis, Point, scatter
from edge_embed.report.text import cut, escape, in_bytes
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
    first = re.search(r"Largest documents.*?<td[^>]*>(.*?)</td>", path.read_text(), re.DOTALL)
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


def test_never_replaces_what_it_is_about(folder: Path, static: Embedder) -> None:
    """--force replaces any file but the index, or a file of the bundle, that the report is about."""
    make(folder / "a.db", static)
    (folder / "link.html").symlink_to("a.db")
    shutil.copytree(default_bundle(), "bundle")
    before = {path: path.read_bytes() for path in (folder / "a.db", *(folder / "bundle").iterdir())}
    for target, output in (("a.db", "./a.db"), ("a.db", "link.html"), ("bundle", "bundle/manifest.json")):
        result = run("report", target, output, "--no-timing", "--force")
        assert result.exit_code == 1
        assert "is what the report is about; give another name" in result.stderr
    assert {path: path.read_bytes() for path in before} == before


def test_pictures_have_their_colour(folder: Path, colours: Path) -> None:
    """Where no field suits, the map tells texts and pictures apart."""
    with Index.open("a.db", Embedder(colours)) as index:
        index.add([Document(name, image=picture(name)) for name in ("red", "blue", "green")])
        index.add([Document(f"note {name}", f"something {name}") for name in ("red", "blue")])
    done = run_json("report", "a.db", "--bundle", str(colours))
    page = Path(done["path"]).read_text().partition("Map of the vectors")[2]
    assert re.findall("<bdi>(.*?)</bdi>", page) == ["picture", "text"]
    assert [page.count(f'<circle class="g{colour}" cx') for colour in (0, 1)] == [3 + 1, 2 + 1]  # and those of the key


def test_small_indexes(folder: Path) -> None:
    """One number in a vector; one document: no plot where there is nothing to compare."""
    rng = np.random.default_rng(0)
    for name, count, dim, plots in (("flat.db", 20, 1, 3), ("one.db", 1, 8, 0)):
        with Index.create(name, space="theirs", dim=dim) as index:
            index.add_vectors([Document(f"k{i}") for i in range(count)], rng.normal(size=(count, dim)))
        page = Page(Path(run_json("report", name)["path"]))
        assert page.names.count("svg") == plots


def test_long_and_hidden_characters(folder: Path, static: Embedder) -> None:
    """What a browser would hide, or take as a command to turn the text around, is spelled out; the rest is cut."""
    with Index.open("a.db", static) as index:
        index.add(
            [
                Document("evil\u202etxt.exe", "bell\x07 " * 50, {"note": "\x1b[31m" + "x" * 60}),
                Document("k" * 500, "a"),
            ]
        )
    path = Path(run_json("report", "a.db")["path"])
    page = Page(path)
    assert not re.search("[\x00-\x09\x0b-\x1f\u202e]", path.read_text())
    for said in ("evil\\u202etxt.exe", "bell\\u0007 bell", "\\u001b[31mxxx", "k" * 79 + "…"):
        assert said in page.said
    assert "x" * 50 not in page.said
    assert "k" * 80 not in page.said
    assert (escape('<"'), cut("abcde", 4), cut("abcd", 4)) == ("&lt;&quot;", "abc…", "abcd")
    assert [in_bytes(size) for size in (0, 49_152, 999_999, 66_228_224)] == ["0 kB", "49 kB", "1,000 kB", "66.2 MB"]


OVERLAPS = """
const boxes = [...document.querySelectorAll('svg text')].map(text => [text.textContent, text.getBoundingClientRect()]);
return boxes.flatMap(([one, a], i) => boxes.slice(i + 1).filter(([_, b]) =>
    a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 3 && b.top < a.bottom - 3
).map(([other]) => [one, other]));
"""


@pytest.mark.browser
def test_in_a_browser(folder: Path, static: Embedder) -> None:
    """On a desktop and on a phone: nothing is wider than the window, no texts overlap, nothing runs or complains."""
    make(folder / "a.db", static)
    with Index.open("a.db", static) as index:
        index.upsert(
            [Document(f"{i}{HOSTILE}", HOSTILE * i, {"topic": HOSTILE * i, "k" * 300: i}) for i in range(1, 9)]
        )
    pages = [Path(run_json("report", name)["path"]) for name in ("minilm", "a.db")]
    with chromium() as browser:
        for width, scheme in ((1280, "light"), (390, "dark")):
            for path in pages:
                browser.show(width, 900, scheme)
                browser.open(path.as_uri())
                assert browser.run("return document.documentElement.scrollWidth") == width
                assert browser.run(OVERLAPS) == []
        assert browser.log() == []


def test_labels_do_not_overlap() -> None:
    """Labels of points close to each other stand apart, or are left to the pointer; none leaves the picture."""
    points = [Point(1 + 0.02 * (i % 4), 1 + 0.02 * (i // 4), f"recall {i}") for i in range(16)]
    points += [Point(2, 2, "at the end"), Point(2, 1, "a long label at the end")]
    drawn = scatter("a plot", points, Axis("x"), Axis("y"))
    found = re.findall(r'<text x="([\d.]+)" y="([\d.]+)" text-anchor="(\w+)">([a-z][^<]+)</text>', drawn)
    boxes = []
    for x, y, anchor, label in found:
        left = float(x) - {"start": 0, "middle": 0.5, "end": 1}[anchor] * 6 * len(label)
        boxes.append((left, float(y) - 10, left + 6 * len(label), float(y)))
    assert {"at the end", "a long label at the end"} < {label for *_, label in found}
    assert 4 < len(boxes) < len(points)
    for one, other in itertools.combinations(boxes, 2):
        assert one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]
    assert all(left >= 0 and right <= 560 for left, _, right, _ in boxes)
    assert all(f"<title>{point.label}</title>" in drawn for point in points)


# Colours as people see them who lack one kind of cones: matrices for linear RGB (Machado and others, 2009).
SEEN = {
    "all cones": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "no long": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
    "no middle": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
    "no short": [[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]],
}
# Linear RGB to cones, and their cube roots to OKLab (Ottosson, 2020).
CONES = [[0.4122, 0.5363, 0.0514], [0.2119, 0.6807, 0.1074], [0.0883, 0.2817, 0.6300]]
OKLAB = [[0.2105, 0.7936, -0.0041], [1.9780, -2.4286, 0.4506], [0.0259, 0.7828, -0.8087]]


@pytest.mark.parametrize("seen", SEEN)
def test_colours_are_apart(seen: str) -> None:
    """Each two colours of groups differ clearly, also for the colour-blind, and each from what is behind it (3:1)."""
    css = (files("edge_embed") / "report" / "page.css").read_text("utf-8")
    for scheme in css.split("@media screen")[:2]:
        values = dict(re.findall(r"--(g\d|raised): (#\w+);", scheme))
        assert len(values) == COLOURS + 1
        rgb = np.array([[int(value[i : i + 2], 16) for i in (1, 3, 5)] for value in values.values()]) / 255
        linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
        light = linear @ [0.2126, 0.7152, 0.0722] + 0.05
        raised = list(values).index("raised")
        assert all(max(one, light[raised]) / min(one, light[raised]) >= 3 for one in np.delete(light, raised))
        cones = np.clip(np.delete(linear, raised, axis=0) @ np.transpose(SEEN[seen]), 0, 1) @ np.transpose(CONES)
        colours = np.cbrt(cones) @ np.transpose(OKLAB)
        assert min(np.linalg.norm(one - other) for one, other in itertools.combinations(colours, 2)) > 0.09


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
        drawn = scatter("a plot", [Point(value, value, "p") for value in values], Axis("x", log=log), Axis("y"))
        places = [float(x) for x in re.findall(r'cx="([-\d.]+)"', drawn)]
        assert len(places) == len(values)
        assert all(70 <= x <= 540 for x in places)
