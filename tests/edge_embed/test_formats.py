"""Every kind of file against its known text and places."""

from pathlib import Path
from typing import Any

import pytest
from builders.commands import added, run, run_json
from builders.filetypes import FILES, MAIL, docx, epub, odt, pptx, xlsx

from bench.smallfiles import pdf
from edge_embed import Index
from edge_embed.files import documents
from edge_embed.files.documents import read_rows
from edge_embed.files.formats.filetypes import FILE_TYPES, SUFFIXES
from edge_embed.files.rows import Reading
from edge_embed_runtime.storage.documents import Document

FERRIES = {"title": "Ferries", "author": "Ann"}
# name -> the text, the places as (what begins there, label), and the metadata
EXPECTED: dict[str, tuple[str, list[tuple[str, str]], dict[str, Any]]] = {
    "f.pdf": (
        "Ferries float.\n\nThey sink.",
        [("Ferries", "page 1"), ("They", "page 2")],
        {**FERRIES, "pages": 2},
    ),
    "f.html": (
        "Ferries\n\nSea & land\n\nThe ferry is old.\nYes.\none\ntwo\n\nShips\nName | Year\nAnna | 1908\n\na  b\n  c",
        [("Sea", "Sea & land"), ("Ships", "Sea & land > Ships")],
        {"title": "Ferries"},
    ),
    "f.docx": (
        "Chapter 1\n\nThe first ferry sank.\n\nHarbour\n\nName | Year\nAnna | 1908\n\nTab\tend\n\nA note.",
        [("Chapter 1", "Chapter 1"), ("Harbour", "Chapter 1 > Harbour")],
        FERRIES,
    ),
    "f.pptx": (
        "Boats\n\nThey float.\n\nHarbours\n\nThey have walls.\n\nSay why.",
        [("Boats", "slide 1: Boats"), ("Harbours", "slide 2: Harbours")],
        FERRIES,
    ),
    "f.odt": (
        "Chapter 1\n\nThe first  ferry (A note.) sank.\n\nHarbour\n\nAnna | 1908",
        [("Chapter 1", "Chapter 1"), ("Harbour", "Chapter 1 > Harbour")],
        FERRIES,
    ),
    "f.odp": (
        "Slide text 1\n\nSlide text 2",
        [("Slide text 1", "slide 1"), ("Slide text 2", "slide 2")],
        {},
    ),
    "f.epub": (
        "One\n\nFerries\u00a0float.\n\nPart\n\nYes.\n\nTwo\n\nThey sink.\n\nThe end.",
        [("One", "One"), ("Part", "One > Part"), ("Two", "Two"), ("The end.", "End")],
        {"title": "Ferries", "author": "Ann, Bo"},
    ),
    "f.xlsx": ("Name | Built\nAnna | 1908\nBerta | 1910.5", [("Name", "sheet Ships")], {}),
    "f.ods": ("Name | Built\nAnna | old", [("Name", "sheet Ships")], {}),
    "f.eml": (
        "Fähre\n\nDie Fähre.\n\n# Plan\r\nWe sail.",
        [("# Plan", "n.md > Plan")],
        {
            "from": "Änne <a@x.org>",
            "to": "b@y.org",
            "subject": "Fähre",
            "date": "2026-11-30T11:00:00Z",
            "attachments": ["n.md", "p.png"],
        },
    ),
    "f.srt": ("Who is there?\nMe.", [("Who", "00:00:01"), ("Me.", "00:01:12")], {}),
    "f.vtt": ("Tom & Ann\nEnd", [("Tom", "00:00:05"), ("End", "01:00:00")], {}),
    "f.md": (
        "Intro\n\n# One\n\ntext\n```\n# no\n```\n## Two #\nmore\n\nThree\n=====\nx\n",
        [("# One", "One"), ("## Two", "One > Two"), ("Three", "Three")],
        {"year": 2020},
    ),
    "f.rst": (
        "=====\nTitle\n=====\n\nIntro.\n\nSub\n---\n\nText.\n",
        [("=====\nTitle", "Title"), ("Sub", "Title > Sub")],
        {},
    ),
}
# The places of files whose text is the file.
PLACES = {
    "f.org": [("* TODO", "One"), ("** Two", "One > Two")],
    "f.adoc": [("= One", "One"), ("== Two", "One > Two")],
    "f.tex": [("\\section", "One"), ("\\subsection", "One > Two")],
    "f.py": [("class A", "A"), ("    async def", "A > f"), ("def g", "g")],
    "f.go": [("func (s", "Start"), ("type T", "T")],
    "f.rs": [("pub struct", "S"), ("impl", "Display"), ("    pub fn", "Display > fmt")],
    "f.c": [("static int", "foo")],
    "f.ts": [("export class", "A"), ("export async", "bar")],
    "f.sh": [("main", "main")],
    "f.toml": [("[tool.x]", "tool.x"), ("[[y]]", "y")],
    "f.json": [],
}


def read(name: str, content: bytes, folder: Path, **reading: Any) -> list[Document]:
    """The documents of a file that is read without a problem."""
    path = folder / name
    path.write_bytes(content)

    def report(problem: object) -> None:
        raise AssertionError(problem)

    return [row.document for row in read_rows(path, "F", Reading(**reading), report)]


def begins(document: Document, expected: list[tuple[str, str]]) -> bool:
    """Whether the places have these labels, and the text that begins there."""
    found = [(document.text[start:], label) for start, label in document.places]
    return [label for _, label in found] == [label for _, label in expected] and all(
        text.startswith(begin) for (text, _), (begin, _) in zip(found, expected, strict=True)
    )


@pytest.mark.parametrize("name", EXPECTED)
def test_text_places_and_metadata(name: str, tmp_path: Path) -> None:
    """What a person sees is the text; pages, chapters and headings are the places."""
    text, places, metadata = EXPECTED[name]
    (document,) = read(name, FILES[name](), tmp_path)
    assert document.text == text
    assert begins(document, places), document.places
    assert document.metadata == {"source": "F", **metadata}
    assert document.key == "F"


@pytest.mark.parametrize("name", PLACES)
def test_places_of_text_as_it_stands(name: str, tmp_path: Path) -> None:
    """Headings, functions and classes are places; the text is the file."""
    (document,) = read(name, FILES[name](), tmp_path)
    assert document.text == FILES[name]().decode()
    assert begins(document, PLACES[name]), document.places


def test_every_builder_is_tested() -> None:
    """No kind of file is forgotten."""
    assert {*EXPECTED, *PLACES, "f.mbox"} == set(FILES)


def test_every_kind_is_documented() -> None:
    """The page of files names each ending."""
    page = (Path(__file__).parents[2] / "docs" / "files.md").read_text("utf-8")
    assert [suffix for suffix in SUFFIXES if f"`{suffix}`" not in page] == []


def test_mails_of_a_mailbox_are_documents(tmp_path: Path) -> None:
    """Their keys end with the Message-ID, or else the number; lines that begin with From are as they were."""
    first, second = read("f.mbox", FILES["f.mbox"](), tmp_path)
    assert (first.key, first.metadata["subject"]) == ("F#1@x", "Fähre")
    assert (second.key, second.text) == ("F#2", "Second\n\nBody.\nFrom here on.")
    assert second.metadata["source"] == "F"


def test_attachments_are_read(tmp_path: Path) -> None:
    """A PDF in a mail is part of it; its pages are places after its name."""
    content = MAIL.replace(b"# Plan\r\nWe sail.", pdf("A plan")).replace(b'filename="n.md"', b'filename="n.pdf"')
    (document,) = read("m.eml", content, tmp_path)
    assert document.text.endswith("A plan")
    assert begins(document, [("A plan", "n.pdf > page 1")])


def test_rows_of_a_sheet_are_documents(tmp_path: Path) -> None:
    """A sheet with a column of text is read as .csv is; the others of the workbook are one document."""
    content = xlsx(
        Ships=[["Name", "Built"], ["Anna", 1908]],
        Notes=[["id", "Text", "year"], [7, "the sea", 2020.0], ["", "the land", 2021]],
    )
    seven, land, rest = read("b.xlsx", content, tmp_path)
    assert (seven.key, seven.text, seven.metadata) == ("F#7", "the sea", {"source": "F", "year": 2020})
    assert land.key == "F:Notes:3"
    assert (rest.key, rest.text) == ("F", "Name | Built\nAnna | 1908")
    (only,) = read("c.xlsx", xlsx(Notes=[["Body", "n"], ["the sea", 1]]), tmp_path, text=("body",))
    assert (only.key, only.text, only.metadata) == ("F:2", "the sea", {"source": "F", "n": 1})


def test_an_html_page_says_its_encoding(tmp_path: Path) -> None:
    """A page in windows-1252 says so in its head; without that it is found out, and said."""
    page = '<html><head><meta charset="iso-8859-1"></head><p>“naïve”</p></html>'.encode("cp1252")
    assert [d.text for d in read("a.html", page, tmp_path)] == ["“naïve”"]


def test_hidden_and_second_forms_of_text(tmp_path: Path) -> None:
    """Text boxes of Word are read once, and deleted text not at all."""
    box = "<w:txbxContent><w:p><w:r><w:t>Box</w:t></w:r></w:p></w:txbxContent>"
    body = (
        "<w:p><w:r><w:t>Outside.</w:t></w:r><w:r><mc:AlternateContent xmlns:mc='x'><mc:Choice><w:drawing>"
        f"{box}</w:drawing></mc:Choice><mc:Fallback>{box}</mc:Fallback></mc:AlternateContent></w:r></w:p>"
    )
    (document,) = read("a.docx", docx(body), tmp_path)
    assert document.text == "Box\n\nOutside.\n\nA note."


def test_styles_based_on_headings(tmp_path: Path) -> None:
    """A style of one's own is a heading if the one that it is based on is; styles based on each other are none."""
    styles = (
        '<w:styles xmlns:w="w"><w:style w:type="paragraph" w:styleId="h"><w:name w:val="Heading 2"/></w:style>'
        '<w:style w:type="paragraph" w:styleId="own"><w:name w:val="Own"/><w:basedOn w:val="h"/></w:style>'
        '<w:style w:type="paragraph" w:styleId="a"><w:basedOn w:val="b"/></w:style>'
        '<w:style w:type="paragraph" w:styleId="b"><w:basedOn w:val="a"/></w:style></w:styles>'
    )
    body = "".join(
        f'<w:p><w:pPr><w:pStyle w:val="{style}"/></w:pPr><w:r><w:t>{style}</w:t></w:r></w:p>' for style in ("own", "a")
    )
    (document,) = read("a.docx", docx(body, **{"word/styles.xml": styles}), tmp_path)
    assert list(document.places) == [(0, "own")]


def test_a_file_without_text_is_empty(tmp_path: Path) -> None:
    """Nothing is stored of it, and nothing is wrong with it."""
    for name, content in (
        ("a.docx", docx("<w:p/>", **{"word/footnotes.xml": "<a/>"})),
        ("a.odt", odt("")),
        ("a.pdf", b""),
    ):
        assert read(name, content, tmp_path) == []


def test_add_and_search_say_the_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`edge-embed add` takes a folder of all kinds, `search` says the place, and a second run reads nothing new."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDGE_EMBED_BUNDLE", "static")
    Path("m").mkdir()
    for name, make in FILES.items():
        Path("m", name).write_bytes(make())
    result = added("m")
    assert (result["problems"], result["notes"]) == ([], {})
    assert result["stored"] == len(FILES) + 1  # two mails in the mailbox
    assert added("m")["unchanged"] == len(FILES) + 1
    hits = run_json("search", "a.db", "They sink.", "--where", "source=m/f.pdf")["hits"]
    assert hits[0]["place"] == "page 1"  # both pages are in one passage
    with Index.open("a.db", read_only=True) as index:
        found = index.get("m/f.pdf")
    assert found is not None
    assert list(found.places) == [(0, "page 1"), (16, "page 2")]


def test_encodings_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that are not UTF-8 are read where their encoding is clear, counted, and named with --json."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDGE_EMBED_BUNDLE", "static")
    Path("m").mkdir()
    Path("m/a.txt").write_bytes("Schöne Grüße aus Köln, die Fähre fährt heute nicht über den Fluß.".encode("cp1252"))
    Path("m/b.txt").write_text("Über")
    assert added("m")["notes"] == {"m/a.txt": ["read as cp1252"]}
    Path("m/a.txt").write_bytes("Schöne Grüße aus Köln, die Fähre fährt morgen nicht über den Fluß.".encode("cp1252"))
    assert "1 file read as cp1252" in run("add", "a.db", "m").stdout


def test_without_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each file that needs it is one problem with the pip line; plain files are read."""

    monkeypatch.setattr(documents, "is_installed", lambda _: False)
    for suffix in SUFFIXES:
        path = tmp_path / f"a{suffix}"
        path.write_bytes(FILES.get(f"f{suffix}", lambda: b"text")())
        problems: list[Any] = []
        if FILE_TYPES[suffix].own_process:
            assert list(read_rows(path, "k", Reading(), problems.append)) == []
            (problem,) = problems
            assert problem.line is None
            assert "pip install 'edge-embed[files]'" in problem.reason
            assert problem.reason.startswith("cannot be read: this needs the package")


@pytest.mark.parametrize("make", [docx, pptx, odt, epub, xlsx])
def test_builders_make_what_they_say(make: Any) -> None:
    """Files are zip files, as real ones are."""
    assert make().startswith(b"PK")
