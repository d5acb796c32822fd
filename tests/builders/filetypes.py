"""Files of each format that `add` reads, with a known text."""

# ruff: noqa: E501 - markup that is broken into lines is hard to read

from collections.abc import Callable

from bench import smallfiles
from bench.smallfiles import ODF, W, pdf

CORE = (
    '<cp:coreProperties xmlns:cp="http://schemas.openxmlformats.org/package/2006/metadata/core-properties" '
    'xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>Ferries</dc:title><dc:creator>Ann</dc:creator>'
    "</cp:coreProperties>"
)
DOCX = (
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
)
ODT = (
    '<text:h text:outline-level="1">Chapter 1</text:h>'
    '<text:p>The first<text:s text:c="2"/>ferry<text:note><text:note-citation>1</text:note-citation><text:note-body>'
    "<text:p>A note.</text:p></text:note-body></text:note> sank.</text:p>"
    '<text:h text:outline-level="2">Harbour</text:h>'
    "<table:table><table:table-row><table:table-cell><text:p>Anna</text:p></table:table-cell><table:table-cell>"
    "<text:p>1908</text:p></table:table-cell></table:table-row></table:table>"
)
BOOK = {
    "one": "<h1>One</h1><p>Ferries&nbsp;float.</p><h2>Part</h2><p>Yes.</p>",
    "two": "<h1>Two</h1><p>They sink.</p>",
    "end": "<p>The end.</p>",
}
SHIPS: dict[str, list[list[str | float]]] = {"Ships": [["Name", "Built"], ["Anna", 1908], ["Berta", 1910.5]]}


def docx(body: str = DOCX, **entries: str) -> bytes:
    notes = f"<w:footnotes {W}><w:footnote><w:p><w:r><w:t>A note.</w:t></w:r></w:p></w:footnote></w:footnotes>"
    return smallfiles.docx(body, {"word/footnotes.xml": notes, "docProps/core.xml": CORE, **entries})


def pptx() -> bytes:
    slides = [
        {"ctrTitle": "Boats", "body": "They float.", "sldNum": "1"},
        {"title": "Harbours", "body": "They have walls."},
    ]
    return smallfiles.pptx(slides, {2: "Say why."}, {"docProps/core.xml": CORE})


def odt(body: str = ODT) -> bytes:
    meta = "<dc:title>Ferries</dc:title><meta:initial-creator>Ann</meta:initial-creator>"
    return smallfiles.odt(
        body,
        {"meta.xml": f"<office:document-meta {ODF}><office:meta>{meta}</office:meta></office:document-meta>"},
    )


def epub(**entries: str | bytes) -> bytes:
    """Two chapters, and a page without a heading that the table of contents names."""
    return smallfiles.epub(BOOK, entries)


def xlsx(**sheets: list[list[str | float]]) -> bytes:
    return smallfiles.xlsx(**(sheets or SHIPS))


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
    "f.odp": lambda: smallfiles.odp("Slide text 1", "Slide text 2"),
    "f.epub": epub,
    "f.xlsx": xlsx,
    "f.ods": lambda: smallfiles.ods("Ships", [["Name", "Built"], ["Anna", "old"]]),
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
