"""Small real files of each format that `add` reads, written by hand: for the mixed folder here, and for tests."""

# ruff: noqa: E501 - markup that is broken into lines is hard to read

import zipfile
from collections.abc import Mapping, Sequence
from io import BytesIO

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


def zipped(entries: Mapping[str, str | bytes], *, stored: tuple[str, ...] = ()) -> bytes:
    """A ZIP file of these entries."""
    out = BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as target:
        for name, content in entries.items():
            target.writestr(name, content, zipfile.ZIP_STORED if name in stored else zipfile.ZIP_DEFLATED)
    return out.getvalue()


def pdf(*pages: str, info: str = "/Title (Ferries) /Author (Ann)", stream: str | None = None) -> bytes:
    """A PDF with the lines of text of each page, in one of the fonts that every reader has.

    stream: what the pages draw, in place of the texts
    """
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        "",
        f"<< {info} >>",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    kids = []
    for page in pages:
        lines = page.replace("\n", ") ' (")
        drawn = stream if stream is not None else f"BT /F1 12 Tf 14 TL 72 700 Td ({lines}) Tj ET"
        number = len(objects) + 1
        kids.append(f"{number} 0 R")
        objects += [
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents {number + 1} 0 R /Resources << /Font << /F1 4 0 R "
            ">> >> >>",
            f"<< /Length {len(drawn)} >>\nstream\n{drawn}\nendstream",
        ]
    objects[1] = f"<< /Type /Pages /Kids [{' '.join(kids)}] /Count {len(kids)} >>"
    out = b"%PDF-1.4\n"
    places = []
    for number, content in enumerate(objects, start=1):
        places.append(len(out))
        out += f"{number} 0 obj\n{content}\nendobj\n".encode("latin-1")
    table = "".join(f"{place:010} 00000 n \n" for place in places)
    start = len(out)
    return out + (
        f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}trailer\n<< /Size {len(objects) + 1} /Root 1 0 R /Info 3 0 R "
        f">>\nstartxref\n{start}\n%%EOF\n"
    ).encode("latin-1")


def docx(body: str, entries: Mapping[str, str] | None = None) -> bytes:
    """A document of Word, whose styles "berschrift1" and "berschrift2" are headings.

    body: the paragraphs as XML; entries: of the ZIP file, further ones or in place of those here
    """
    styles = "".join(
        f'<w:style w:type="paragraph" w:styleId="berschrift{i}"><w:name w:val="heading {i}"/></w:style>' for i in (1, 2)
    )
    return zipped(
        {
            "[Content_Types].xml": '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"/>',
            "word/document.xml": f"<?xml version='1.0'?><w:document {W}><w:body>{body}</w:body></w:document>",
            "word/styles.xml": f"<w:styles {W}>{styles}</w:styles>",
            **(entries or {}),
        }
    )


def pptx(
    slides: Sequence[Mapping[str, str]],
    notes: Mapping[int, str] | None = None,
    entries: Mapping[str, str] | None = None,
) -> bytes:
    """A presentation of PowerPoint, whose files are not in the order of the slides.

    slides: kinds of placeholders with their texts: {"title": "Harbours", "body": "They have walls."}
    notes:  by the number of the slide, from 1
    """

    def slide(shapes: Mapping[str, str]) -> str:
        drawn = "".join(
            f'<p:sp><p:nvSpPr><p:nvPr><p:ph type="{kind}"/></p:nvPr></p:nvSpPr><p:txBody><a:p><a:r><a:t>{text}</a:t></a:r>'
            "</a:p></p:txBody></p:sp>"
            for kind, text in shapes.items()
        )
        return f"<p:sld {A}><p:cSld><p:spTree>{drawn}</p:spTree></p:cSld></p:sld>"

    def relations(*found: tuple[int, str, str]) -> str:
        listed = "".join(
            f'<Relationship Id="rId{i}" Type="{RELATIONS}/{kind}" Target="{to}"/>' for i, kind, to in found
        )
        return f"<Relationships {PACKAGE}>{listed}</Relationships>"

    files = range(len(slides), 0, -1)
    listed = "".join(f'<p:sldId id="{255 + i}" r:id="rId{file}"/>' for i, file in enumerate(files, start=1))
    related = relations(*((file, "slide", f"{'/ppt/' if file > 1 else ''}slides/slide{file}.xml") for file in files))
    content = {
        "ppt/presentation.xml": f"<p:presentation {A}><p:sldIdLst>{listed}</p:sldIdLst></p:presentation>",
        "ppt/_rels/presentation.xml.rels": related,
        **{f"ppt/slides/slide{file}.xml": slide(shapes) for file, shapes in zip(files, slides, strict=True)},
    }
    for number, text in (notes or {}).items():
        file = files[number - 1]
        target = relations((1, "notesSlide", f"../notesSlides/notesSlide{file}.xml"))
        content[f"ppt/slides/_rels/slide{file}.xml.rels"] = target
        content[f"ppt/notesSlides/notesSlide{file}.xml"] = slide({"body": text})
    return zipped({**content, **(entries or {})})


def odt(body: str, entries: Mapping[str, str] | None = None, kind: str = "text") -> bytes:
    """An OpenDocument file; body: what is in it as XML; kind: "text", "presentation" or "spreadsheet"."""
    content = f"<office:body><office:{kind}>{body}</office:{kind}></office:body>"
    return zipped(
        {
            "mimetype": f"application/vnd.oasis.opendocument.{kind}",
            "content.xml": f"<office:document-content {ODF}>{content}</office:document-content>",
            **(entries or {}),
        },
        stored=("mimetype",),
    )


def odp(*slides: str) -> bytes:
    pages = "".join(
        f'<draw:page draw:name="p{i}"><draw:frame><draw:text-box><text:p>{text}</text:p></draw:text-box></draw:frame></draw:page>'
        for i, text in enumerate(slides, start=1)
    )
    return odt(pages, kind="presentation")


def ods(name: str, table: Sequence[Sequence[str]]) -> bytes:
    """A sheet of texts."""

    def cell(text: str) -> str:
        return f'<table:table-cell office:value-type="string"><text:p>{text}</text:p></table:table-cell>'

    rows = "".join(f"<table:table-row>{''.join(map(cell, row))}</table:table-row>" for row in table)
    manifest = '<manifest:manifest xmlns:manifest="urn:oasis:names:tc:opendocument:xmlns:manifest:1.0"/>'
    sheet = f'<table:table table:name="{name}">{rows}</table:table>'
    return odt(sheet, {"META-INF/manifest.xml": manifest}, kind="spreadsheet")


def xlsx(**sheets: list[list[str | float]]) -> bytes:
    """A workbook of Excel."""
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


def epub(pages: Mapping[str, str], entries: Mapping[str, str | bytes] | None = None) -> bytes:
    """A book; pages: their names, which are also in the table of contents, and their bodies."""
    items = "".join(f'<item id="{name}" href="{name}.xhtml" media-type="application/xhtml+xml"/>' for name in pages)
    order = "".join(f'<itemref idref="{name}"/>' for name in pages)
    titles = "".join(f'<li><a href="{name}.xhtml">{name.title()}</a></li>' for name in pages)
    content: dict[str, str | bytes] = {
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
    return zipped({**content, **(entries or {})}, stored=("mimetype",))
