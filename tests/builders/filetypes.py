"""Small real files of each format that `add` reads, with a known text, by the standard library."""

# ruff: noqa: E501 - markup that is broken into lines is hard to read

import zipfile
from collections.abc import Callable, Mapping
from io import BytesIO

from builders.pdf import pdf

W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
A = (
    'xmlns:a="http://schemas.openxmlformats.org/drawingml/2006/main" '
    'xmlns:p="http://schemas.openxmlformats.org/presentationml/2006/main" '
    'xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships"'
)
RELATIONS = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
PACKAGE = 'xmlns="http://schemas.openxmlformats.org/package/2006/relationships"'
ODF = (
    'xmlns:office="urn:oasis:names:tc:opendocument:xmlns:office:1.0" '
    'xmlns:text="urn:oasis:names:tc:opendocument:xmlns:text:1.0" '
    'xmlns:table="urn:oasis:names:tc:opendocument:xmlns:table:1.0" '
    'xmlns:draw="urn:oasis:names:tc:opendocument:xmlns:drawing:1.0" '
    'xmlns:meta="urn:oasis:names:tc:opendocument:xmlns:meta:1.0" xmlns:dc="http://purl.org/dc/elements/1.1/"'
)
CORE = (
    '<cp:coreProperties xmlns:cp="http://schemas.openxmlformats.org/package/2006/metadata/core-properties" '
    'xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>Ferries</dc:title><dc:creator>Ann</dc:creator>'
    "</cp:coreProperties>"
)


def zipped(entries: Mapping[str, str | bytes], *, stored: tuple[str, ...] = ()) -> bytes:
    """A ZIP file of these entries."""
    out = BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as target:
        for name, content in entries.items():
            target.writestr(name, content, zipfile.ZIP_STORED if name in stored else zipfile.ZIP_DEFLATED)
    return out.getvalue()


def docx(body: str | None = None, **more: str) -> bytes:
    """A document of Word; body: the paragraphs as XML."""
    body = (
        '<w:p><w:pPr><w:pStyle w:val="berschrift1"/></w:pPr><w:r><w:t>Chapter 1</w:t></w:r></w:p>'
        "<w:p><w:r><w:t>The first ferry </w:t></w:r><w:r><w:rPr><w:b/></w:rPr><w:t>sank.</w:t></w:r>"
        "<w:del><w:r><w:delText>deleted</w:delText></w:r></w:del>"
        '<w:r><w:footnoteReference w:id="2"/></w:r></w:p>'
        '<w:p><w:pPr><w:pStyle w:val="berschrift2"/></w:pPr><w:r><w:t>Harbour</w:t></w:r></w:p>'
        "<w:tbl><w:tr><w:tc><w:p><w:r><w:t>Name</w:t></w:r></w:p></w:tc><w:tc><w:p><w:r><w:t>Year</w:t></w:r></w:p></w:tc>"
        "</w:tr><w:tr><w:tc><w:p><w:r><w:t>Anna</w:t></w:r></w:p></w:tc><w:tc><w:p><w:r><w:t>1908</w:t></w:r></w:p></w:tc>"
        "</w:tr></w:tbl>"
        '<w:p><w:r><w:fldChar w:fldCharType="begin"/><w:instrText>PAGE</w:instrText><w:t>Tab</w:t><w:tab/><w:t>end</w:t>'
        "</w:r></w:p>"
        if body is None
        else body
    )
    styles = "".join(
        f'<w:style w:type="paragraph" w:styleId="berschrift{i}"><w:name w:val="heading {i}"/></w:style>' for i in (1, 2)
    )
    entries = {
        "[Content_Types].xml": '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"/>',
        "word/document.xml": f"<?xml version='1.0'?><w:document {W}><w:body>{body}</w:body></w:document>",
        "word/styles.xml": f"<w:styles {W}>{styles}</w:styles>",
        "word/footnotes.xml": f"<w:footnotes {W}><w:footnote><w:p><w:r><w:t>A note.</w:t></w:r></w:p></w:footnote></w:footnotes>",
        "docProps/core.xml": CORE,
    }
    return zipped({**entries, **more})


def pptx() -> bytes:
    """Two slides, whose files are not in the order of the slides; the second has notes."""

    def shape(text: str, kind: str) -> str:
        return (
            f'<p:sp><p:nvSpPr><p:nvPr><p:ph type="{kind}"/></p:nvPr></p:nvSpPr><p:txBody><a:p><a:r><a:t>{text}</a:t></a:r>'
            "</a:p></p:txBody></p:sp>"
        )

    def slide(*shapes: str) -> str:
        return f"<p:sld {A}><p:cSld><p:spTree>{''.join(shapes)}</p:spTree></p:cSld></p:sld>"

    def relation(number: int, kind: str, target: str) -> str:
        return f'<Relationship Id="rId{number}" Type="{RELATIONS}/{kind}" Target="{target}"/>'

    return zipped(
        {
            "ppt/presentation.xml": f'<p:presentation {A}><p:sldIdLst><p:sldId id="256" r:id="rId7"/>'
            '<p:sldId id="257" r:id="rId6"/></p:sldIdLst></p:presentation>',
            "ppt/_rels/presentation.xml.rels": f"<Relationships {PACKAGE}>{relation(6, 'slide', 'slides/slide1.xml')}"
            f"{relation(7, 'slide', '/ppt/slides/slide2.xml')}</Relationships>",
            "ppt/slides/slide2.xml": slide(
                shape("Boats", "ctrTitle"), shape("They float.", "body"), shape("1", "sldNum")
            ),
            "ppt/slides/slide1.xml": slide(shape("Harbours", "title"), shape("They have walls.", "body")),
            "ppt/slides/_rels/slide1.xml.rels": f"<Relationships {PACKAGE}>"
            f"{relation(1, 'notesSlide', '../notesSlides/notesSlide1.xml')}</Relationships>",
            "ppt/notesSlides/notesSlide1.xml": slide(shape("Say why.", "body")),
            "docProps/core.xml": CORE,
        }
    )


def odt(body: str | None = None) -> bytes:
    body = (
        '<text:h text:outline-level="1">Chapter 1</text:h>'
        '<text:p>The first<text:s text:c="2"/>ferry<text:note><text:note-citation>1</text:note-citation><text:note-body>'
        "<text:p>A note.</text:p></text:note-body></text:note> sank.</text:p>"
        '<text:h text:outline-level="2">Harbour</text:h>'
        "<table:table><table:table-row><table:table-cell><text:p>Anna</text:p></table:table-cell><table:table-cell>"
        "<text:p>1908</text:p></table:table-cell></table:table-row></table:table>"
        if body is None
        else body
    )
    return zipped(
        {
            "mimetype": "application/vnd.oasis.opendocument.text",
            "content.xml": f"<office:document-content {ODF}><office:body><office:text>{body}</office:text></office:body>"
            "</office:document-content>",
            "meta.xml": f"<office:document-meta {ODF}><office:meta><dc:title>Ferries</dc:title>"
            "<meta:initial-creator>Ann</meta:initial-creator></office:meta></office:document-meta>",
        },
        stored=("mimetype",),
    )


def odp() -> bytes:
    pages = "".join(
        f'<draw:page draw:name="p{i}"><draw:frame><draw:text-box><text:p>Slide text {i}</text:p></draw:text-box></draw:frame>'
        "</draw:page>"
        for i in (1, 2)
    )
    return odt(pages)


def epub(**more: str | bytes) -> bytes:
    """Two chapters, and a page without a heading that the table of contents names."""
    pages = {
        "one": "<h1>One</h1><p>Ferries&nbsp;float.</p><h2>Part</h2><p>Yes.</p>",
        "two": "<h1>Two</h1><p>They sink.</p>",
        "end": "<p>The end.</p>",
    }
    items = "".join(f'<item id="{name}" href="{name}.xhtml" media-type="application/xhtml+xml"/>' for name in pages)
    order = "".join(f'<itemref idref="{name}"/>' for name in pages)
    titles = "".join(f'<li><a href="{name}.xhtml">{name.title()}</a></li>' for name in pages)
    entries: dict[str, str | bytes] = {
        "mimetype": "application/epub+zip",
        "META-INF/container.xml": '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles><rootfile '
        'full-path="OPS/book.opf"/></rootfiles></container>',
        "OPS/book.opf": '<package xmlns="http://www.idpf.org/2007/opf" xmlns:dc="http://purl.org/dc/elements/1.1/"><metadata>'
        "<dc:title>Ferries</dc:title><dc:creator>Ann</dc:creator><dc:creator>Bo</dc:creator></metadata><manifest>"
        f'<item id="nav" href="nav.xhtml" media-type="application/xhtml+xml" properties="nav"/>{items}</manifest><spine>'
        f"{order}</spine></package>",
        "OPS/nav.xhtml": f'<html xmlns="http://www.w3.org/1999/xhtml"><body><nav><ol>{titles}</ol></nav></body></html>',
        **{
            f"OPS/{name}.xhtml": '<?xml version="1.0"?><!DOCTYPE html><html xmlns="http://www.w3.org/1999/xhtml"><head><title>'
            f"x</title></head><body>{body}</body></html>"
            for name, body in pages.items()
        },
    }
    return zipped({**entries, **more}, stored=("mimetype",))


def xlsx(**sheets: list[list[str | float]]) -> bytes:
    """A workbook; by default of one sheet, "Ships"."""
    sheets = sheets or {"Ships": [["Name", "Built"], ["Anna", 1908], ["Berta", 1910.5]]}
    main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"

    def cell(value: str | float) -> str:
        if isinstance(value, str):
            return f'<c t="inlineStr"><is><t>{value}</t></is></c>'
        return f"<c><v>{value}</v></c>"

    def rows(table: list[list[str | float]]) -> str:
        return "".join(f'<row r="{i}">{"".join(map(cell, row))}</row>' for i, row in enumerate(table, start=1) if row)

    numbered = list(enumerate(sheets.items(), start=1))
    listed = "".join(f'<sheet name="{name}" sheetId="{i}" r:id="rId{i}"/>' for i, (name, _) in numbered)
    related = "".join(
        f'<Relationship Id="rId{i}" Type="{RELATIONS}/worksheet" Target="worksheets/sheet{i}.xml"/>'
        for i, _ in numbered
    )
    types = "http://schemas.openxmlformats.org/package/2006/content-types"
    return zipped(
        {
            "[Content_Types].xml": f'<Types xmlns="{types}"/>',
            "_rels/.rels": f'<Relationships {PACKAGE}><Relationship Id="rId1" Type="{RELATIONS}/officeDocument" '
            'Target="xl/workbook.xml"/></Relationships>',
            "xl/workbook.xml": f'<workbook xmlns="{main}" xmlns:r="{RELATIONS}"><sheets>{listed}</sheets></workbook>',
            "xl/_rels/workbook.xml.rels": f"<Relationships {PACKAGE}>{related}</Relationships>",
            **{
                f"xl/worksheets/sheet{i}.xml": f'<worksheet xmlns="{main}"><sheetData>{rows(table)}</sheetData></worksheet>'
                for i, (_, table) in numbered
            },
        }
    )


def ods() -> bytes:
    def cell(text: str) -> str:
        return f'<table:table-cell office:value-type="string"><text:p>{text}</text:p></table:table-cell>'

    rows = "".join(
        f"<table:table-row>{''.join(map(cell, row))}</table:table-row>" for row in (["Name", "Built"], ["Anna", "old"])
    )
    return zipped(
        {
            "mimetype": "application/vnd.oasis.opendocument.spreadsheet",
            "META-INF/manifest.xml": '<manifest:manifest xmlns:manifest="urn:oasis:names:tc:opendocument:xmlns:manifest:1.0"/>',
            "content.xml": f'<office:document-content {ODF}><office:body><office:spreadsheet><table:table table:name="Ships">'
            f"{rows}</table:table></office:spreadsheet></office:body></office:document-content>",
        },
        stored=("mimetype",),
    )


HTML = """<!doctype html><html><head><title>Ferries</title><style>p {}</style><script>var x = "<p>no</p>"</script></head>
<body><nav><a href="x">menu</a></nav><h1>Sea &amp; land</h1><p>The <b>fer</b>ry
is   old.<br>Yes.</p><ul><li>one</li><li>two</li></ul><h2>Ships</h2><table><tr><th>Name</th><th>Year</th></tr>
<tr><td>Anna</td><td>1908</td></tr></table><pre>a  b
  c</pre><p hidden>no</p><div style="display: none">no</div></body></html>"""
MAIL = (
    b"From: =?utf-8?q?=C3=84nne?= <a@x.org>\r\nTo: b@y.org\r\nSubject: =?utf-8?b?RsOkaHJl?=\r\nMessage-ID: <1@x>\r\n"
    b"Date: Mon, 30 Nov 2026 12:00:00 +0100\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=B\r\n\r\n"
    b"--B\r\nContent-Type: multipart/alternative; boundary=C\r\n\r\n"
    b"--C\r\nContent-Type: text/plain; charset=iso-8859-1\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
    b"Die F=E4hre.\r\n--C\r\nContent-Type: text/html\r\n\r\n<p>html</p>\r\n--C--\r\n"
    b'--B\r\nContent-Type: text/markdown; name="n.md"\r\nContent-Disposition: attachment; filename="n.md"\r\n\r\n'
    b"# Plan\r\nWe sail.\r\n--B\r\nContent-Type: image/png\r\nContent-Disposition: attachment; filename=p.png\r\n\r\nxx\r\n"
    b"--B--\r\n"
)
MBOX = (
    b"From a@x Mon Nov 30 12:00:00 2026\n"
    + MAIL.replace(b"\r\n", b"\n")
    + b"\n\nFrom b@y Mon Nov 30 12:00:00 2026\nSubject: Second\n\nBody.\n>From here on.\n\n"
)
SRT = "1\n00:00:01,500 --> 00:00:03,000\n<i>Who is</i>\nthere?\n\n2\n00:01:12,000 --> 00:01:13,000\nMe.\n"

# name -> its bytes
FILES: dict[str, Callable[[], bytes]] = {
    "f.pdf": lambda: pdf("Ferries float.", "They sink."),
    "f.html": HTML.encode,
    "f.docx": docx,
    "f.pptx": pptx,
    "f.odt": odt,
    "f.odp": odp,
    "f.epub": epub,
    "f.xlsx": xlsx,
    "f.ods": ods,
    "f.eml": lambda: MAIL,
    "f.mbox": lambda: MBOX,
    "f.srt": SRT.encode,
    "f.vtt": lambda: (
        b"WEBVTT\n\nNOTE x\n\n00:05.000 --> 00:06.000 align:start\n<v Bob>Tom &amp; Ann\n\n01:00:00.000 --> 01:00:01.000\nEnd\n"
    ),
    "f.md": lambda: (
        b"---\nyear: 2020\n---\nIntro\n\n# One\n\ntext\n```\n# no\n```\n## Two #\nmore\n\nThree\n=====\nx\n"
    ),
    "f.rst": lambda: b"=====\nTitle\n=====\n\nIntro.\n\nSub\n---\n\nText.\n",
    "f.org": lambda: b"* TODO One :tag:\ntext\n** Two\nmore\n",
    "f.adoc": lambda: b"= One\n\ntext\n\n== Two\n",
    "f.tex": lambda: b"\\section{One}\ntext\n\\subsection*{Two}\nmore\n",
    "f.py": lambda: b"import os\n\nclass A:\n    async def f(self): ...\n\n\ndef g():\n    pass\n",
    "f.go": lambda: b"package x\n\nfunc (s *Server) Start(a int) error {\n}\n\ntype T struct {}\n",
    "f.rs": lambda: b"pub struct S;\nimpl<T> Display for S {\n    pub fn fmt(&self) {}\n}\n",
    "f.c": lambda: b"#include <x.h>\nstatic int foo(int a,\n    int b)\n{\n    if (a) { return b; }\n}\n",
    "f.ts": lambda: b"export class A {}\nexport async function bar(a: string) {}\n",
    "f.sh": lambda: b"main() {\n    echo\n}\n",
    "f.toml": lambda: b"[tool.x]\na = 1\n[[y]]\n",
    "f.json": lambda: b'{"a": 1}\n',
}
