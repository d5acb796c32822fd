"""PDF files, written by hand."""

# ruff: noqa: E501 - markup that is broken into lines is hard to read


def pdf(*pages: str, info: str = "/Title (Ferries) /Author (Ann)", stream: str | None = None) -> bytes:
    """A PDF with a line of text on each page, in one of the fonts that every reader has.

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
        drawn = stream if stream is not None else f"BT /F1 12 Tf 72 700 Td ({page}) Tj ET"
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
