"""PDF, by pypdfium2: the text of each page, whose places are "page 1", "page 2", ..."""

import re
from collections.abc import Iterator
from typing import Any, BinaryIO

from edge_embed.files.formats.content import Content, Request, UnreadableError, Writer, clean
from edge_embed_runtime.extras import require

# What PDFium writes for a hyphen at the end of a line, and the newline that follows it.
SOFT_HYPHEN = re.compile("(?:\ufffe|\x02|\u00ad)(?:\r?\n)?")
# The errors of PDFium by number, as a sentence that begins with the path.
ERRORS = {4: "is encrypted: it needs a password", 5: "is encrypted in a way that PDFium does not know"}
FIELDS = (("Title", "title"), ("Author", "author"))


def read_pdf(file: BinaryIO, request: Request) -> Iterator[Content]:
    pdfium = require("pypdfium2", "files")
    try:
        document = pdfium.PdfDocument(file)
    except pdfium.PdfiumError as error:
        reason = "is no PDF, or damaged" if error.err_code is None else ERRORS.get(error.err_code)
        raise UnreadableError(reason or f"is no PDF, or damaged ({error})") from None
    try:
        yield _content(pdfium, document, request)
    finally:
        document.close()


def _content(pdfium: Any, document: Any, request: Request) -> Content:
    writer, count = Writer(request.limit), len(document)
    empty, damaged = 0, 0
    for number in range(count):
        request.at(f"page {number + 1}")
        try:
            text = _page(document, number)
        except pdfium.PdfiumError:
            damaged += 1
            continue
        if text.strip():
            writer.place(f"page {number + 1}")
            writer.block(text)
        else:
            empty += 1
    if damaged:
        if damaged == count:
            raise UnreadableError(f"is damaged: none of its pages can be read (pages: {count})")
        request.problem(f"has damaged pages, which are left out: {damaged} of {count}")
    if not writer.length and empty:
        raise UnreadableError(f"has no text (pages: {empty}): scanned? Text recognition (OCR) makes it readable")
    if empty:
        request.note("with pages without text (scanned or pictures)")
    found = document.get_metadata_dict(skip_empty=True)
    metadata = {name: value for field, name in FIELDS if (value := clean(found.get(field, "")).strip())}
    return writer.content({**metadata, "pages": count})


def _page(document: Any, number: int) -> str:
    page = document[number]
    try:
        text = page.get_textpage()
        try:
            return clean(SOFT_HYPHEN.sub("", text.get_text_range()).replace("\r\n", "\n").replace("\r", ""))
        finally:
            text.close()
    finally:
        page.close()
