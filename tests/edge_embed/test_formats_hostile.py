"""Files that are damaged or made to harm: each is one clear problem, in bounded time and memory."""

import random
import re
import threading
import zipfile
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from builders.filetypes import FILES, docx, epub, pptx, xlsx

from bench.smallfiles import ODF, pdf, zipped
from edge_embed.files.documents import read_rows
from edge_embed.files.formats import archive, processes
from edge_embed.files.problems import Problem
from edge_embed.files.rows import Reading

BIG_SHEET = (
    b'<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><sheetData><row r="1"><c r="A1"><v>1'
    b'</v></c></row><row r="1048576"><c r="XFD1048576"><v>2</v></c></row></sheetData></worksheet>'
)
ENTITIES = '<!DOCTYPE a [<!ENTITY b "bbbbbbbb"><!ENTITY c "&b;&b;&b;&b;">]><a>&c;</a>'
EXTERNAL = '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/hostname">]><a>&b;</a>'


def changed(content: bytes, name: str, entry: bytes) -> bytes:
    """A zip file with another entry of this name."""
    with zipfile.ZipFile(BytesIO(content)) as source:
        return zipped({**{n: source.read(n) for n in source.namelist()}, name: entry})


def repeated(rows: int, columns: int) -> bytes:
    """A sheet that says of one cell that it comes many times."""
    cell = f'<table:table-cell table:number-columns-repeated="{columns}" office:value-type="float" office:value="1">'
    cell += "<text:p>1</text:p></table:table-cell>"
    row = f'<table:table-row table:number-rows-repeated="{rows}">{cell}</table:table-row>'
    sheet = f"<office:spreadsheet><table:table table:name='a'>{row}</table:table></office:spreadsheet>"
    content = f"<office:document-content {ODF}><office:body>{sheet}</office:body></office:document-content>"
    return changed(FILES["f.ods"](), "content.xml", content.encode())


def paragraphs(count: int) -> str:
    return "<w:p><w:r><w:t>word</w:t></w:r></w:p>" * count


def locked_pdf() -> bytes:
    """A PDF whose passwords nobody knows."""
    secret = f"/Filter /Standard /V 1 /R 2 /O <{'61' * 32}> /U <{'62' * 32}> /P -4"
    return pdf("x").replace(b"/Root 1 0 R", f"/Root 1 0 R /Encrypt << {secret} >> /ID [<00> <00>]".encode())


def locked_zip(content: bytes) -> bytes:
    """A zip file that says of each of its entries that it is encrypted."""
    found = bytearray(content)
    for mark, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = found.find(mark)
        while at >= 0:
            found[at + flags] |= 1
            at = found.find(mark, at + 1)
    return bytes(found)


# name -> the file, and what its one problem says
REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "no.pdf": (lambda: b"%PDF-1.4\nnothing", "is no PDF, or damaged"),
    "scan.pdf": (lambda: pdf("", "", stream="1 0 0 RG 10 10 50 50 re S"), r"has no text \(pages: 2\): scanned\?"),
    "loop.pdf": (lambda: pdf("x").replace(b"/Kids [5 0 R]", b"/Kids [2 0 R]"), "none of its pages can be read"),
    "cut.pdf": (lambda: FILES["f.pdf"]()[:300], "is no PDF, or damaged"),
    "locked.pdf": (locked_pdf, "is encrypted: it needs a password"),
    "locked.docx": (lambda: locked_zip(docx()), "is encrypted: it needs a password"),
    "locked.xlsx": (lambda: locked_zip(xlsx()), "is encrypted: it needs a password"),
    "cut.docx": (lambda: docx()[:500], "is no Word document, or damaged"),
    "ole.docx": (lambda: b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(4000), "is encrypted with a password, or no Word"),
    "other.docx": (pptx, "is no Word document: it holds no word/document.xml"),
    "entities.docx": (lambda: docx(**{"word/document.xml": ENTITIES}), "has XML entities in word/document.xml"),
    "external.docx": (lambda: docx(**{"word/document.xml": EXTERNAL}), "has XML entities in word/document.xml"),
    "deep.docx": (lambda: docx("<w:p>" * 2000), "nested more than 1,000 deep"),
    "broken.docx": (lambda: docx("<w:p></w:r>"), "has broken XML in word/document.xml"),
    "nested.docx": (lambda: zipped({"word/document.xml": docx()}), "has broken XML in word/document.xml"),
    "bomb.docx": (
        lambda: docx(f"<w:p><w:r><w:t>{'a ' * 9_000_000}</w:t></w:r></w:p>"), "when it is unpacked, which is refused",
    ),
    "bomb.xlsx": (lambda: changed(xlsx(), "x.bin", bytes(40_000_000)), "when it is unpacked, which is refused"),
    "cells.ods": (lambda: repeated(10**6, 16_000), "Cell limit exceeded"),
    "drm.epub": (
        lambda: epub(**{"META-INF/encryption.xml": '<e><EncryptionMethod Algorithm="aes"/></e>'}),
        r"is encrypted \(DRM\)",
    ),
    "list.epub": (lambda: epub(**{"META-INF/container.xml": "<a/>"}), "holds no list of its pages"),
    "no.eml": (lambda: b"only a text\n", "is no mail: it has no headers"),
    "parts.eml": (
        lambda: b"Subject: x\nContent-Type: multipart/mixed; boundary=b\n\n" + b"--b\n\nx\n" * 2000,
        "has more than 1,000 parts",
    ),
    "nested.eml": (
        lambda: b"".join(b"Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n" % (i, i) for i in range(1500)),
        "nested too deep",
    ),
    "no.mbox": (lambda: b"Subject: x\n\ntext\n", "is no mailbox"),
    "deep.html": (lambda: b"<div>" * 200_000, "nested more than 10,000 deep"),
    "closed.html": (lambda: b"<DIV class=a><p>x" * 20_000 + b"</div>" * 20_000, "nested more than 10,000 deep"),
    "binary.html": (lambda: bytes(range(128, 256)) * 10, "not UTF-8 text"),
    "nul.py": (lambda: b"a\x00b", "holds NUL"),
    "nul.srt": (lambda: b"a\x00b", "holds NUL"),
}  # fmt: skip


def read(path: Path, **reading: Any) -> tuple[list[str], list[Problem]]:
    """The texts of a file, and its problems."""
    problems: list[Problem] = []
    return [row.document.text for row in read_rows(path, "k", Reading(**reading), problems.append)], problems


@pytest.mark.parametrize("name", REFUSED)
def test_one_clear_problem(name: str, tmp_path: Path) -> None:
    """The problem says what is wrong; nothing of the file is stored."""
    make, reason = REFUSED[name]
    path = tmp_path / name
    path.write_bytes(make())
    texts, problems = read(path)
    assert texts == []
    (problem,) = problems
    assert re.search(reason, problem.reason), problem
    assert len(problem.reason) < 300


def test_a_crash_is_one_problem(tmp_path: Path) -> None:
    """A sheet of 10^10 claimed cells makes native code abort for want of memory; the next file is read by a new
    process."""
    cells = tmp_path / "cells.xlsx"
    cells.write_bytes(changed(xlsx(), "xl/worksheets/sheet1.xml", BIG_SHEET))
    good = tmp_path / "good.xlsx"
    good.write_bytes(xlsx())
    texts, (problem,) = read(cells)
    assert texts == []
    assert "needs more than 1024 MB of memory" in problem.reason
    assert read(good) == (["Name | Built\nAnna | 1908\nBerta | 1910.5"], [])


@pytest.mark.slow
def test_a_bomb_in_a_pdf(tmp_path: Path) -> None:
    """A page of 3 GB when it is unpacked ends the process that reads it, within its limit of memory."""
    squeeze = zlib.compressobj(9)
    stream = b"".join(squeeze.compress(b" " * 2**20) for _ in range(3000)) + squeeze.flush()
    plain = pdf("x")
    start, stop = plain.index(b"<< /Length"), plain.index(b"endstream")
    head = b"<< /Length %d /Filter /FlateDecode >>\nstream\n" % len(stream)
    path = tmp_path / "bomb.pdf"
    path.write_bytes(plain[:start] + head + stream + b"\n" + plain[stop:])
    texts, (problem,) = read(path)
    assert texts == []
    assert "needs more than 1024 MB of memory" in problem.reason


def test_time_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page on which each paragraph is sought in 200,000 elements takes its parser for ever: the process is ended."""
    monkeypatch.setattr(processes, "QUIET_SECONDS", 1.0)
    path = tmp_path / "deep.html"
    path.write_bytes(b"<span>" * 200_000 + b"<p></p>" * 200_000)
    assert [p.reason for p in read(path)[1]] == ["cannot be read: it takes more than 1 seconds"]


def test_memory_is_bounded(tmp_path: Path) -> None:
    """Reading takes no more than a budget leaves; the text of a file neither."""
    page = tmp_path / "a.html"
    page.write_bytes(b"<p>hello <b>world</b></p>\n" * 700_000)
    assert ["memory" in problem.reason for problem in read(page, max_bytes=2**21)[1]] == [True]
    book = tmp_path / "a.docx"
    book.write_bytes(docx(paragraphs(2000)))
    assert [p.reason for p in read(book, max_bytes=4000)[1]] == ["has more than 1,000 characters of text"]


def test_limits_are_counted_while_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a zip file claims of the size of an entry is not believed."""
    content = bytearray(docx(paragraphs(20_000)))
    with zipfile.ZipFile(BytesIO(content)) as found:
        size = found.getinfo("word/document.xml").file_size
    content = content.replace(size.to_bytes(4, "little"), (10).to_bytes(4, "little"))
    path = tmp_path / "a.docx"
    path.write_bytes(content)
    texts, problems = read(path)
    assert texts == []
    assert len(problems) == 1
    monkeypatch.setattr(archive, "SMALL", 100)
    monkeypatch.setattr(archive, "MAX_RATIO", 2)
    with pytest.raises(archive.UnreadableError, match="unpacked"):
        archive.Archive(BytesIO(docx(paragraphs(2000))), "x").check()


def test_names_in_a_zip_file_lead_nowhere(tmp_path: Path) -> None:
    """Nothing is written, whatever entries are called."""
    path = tmp_path / "in" / "a.epub"
    path.parent.mkdir()
    path.write_bytes(epub(**{"../evil": "x", f"{tmp_path}/evil": "x", "OPS/../../evil": "x"}))
    texts, problems = read(path)
    assert (len(texts), problems) == (1, [])
    assert [p.name for p in tmp_path.rglob("*")] == ["in", "a.epub"]


def test_many_pages(tmp_path: Path) -> None:
    """A PDF of 3,000 pages has as many places."""
    path = tmp_path / "a.pdf"
    path.write_bytes(pdf(*(f"Page {i}" for i in range(3000))))
    (row,) = read_rows(path, "k", Reading(), lambda _: None)
    assert len(row.document.places) == 3000
    assert row.document.places[-1][1] == "page 3000"


@pytest.mark.parametrize(
    "headers",
    [
        b"From: =?utf-8?q?=\xff\xfe?= <\nSubject: =?x-unknown?b?????=\nDate: yesterday\nTo\n: x\n",
        b'Subject: a\nContent-Type: text/plain; charset="\xff"; =\nContent-Transfer-Encoding: base64\nDate: \x00\n',
        b"Subject: a\nDate: Fri, 99 Xxx 99999 99:99:99 +9999999\nContent-Disposition: attachment; filename*=x''%ff\n",
        b"Subject: a\nContent-Type: multipart/mixed\n",
        b"Subject: " + b"x" * 100_000 + b"\n",
    ],
)
def test_broken_headers(headers: bytes, tmp_path: Path) -> None:
    """A mail whose headers are broken has a text all the same."""
    path = tmp_path / "a.eml"
    path.write_bytes(headers + b"\nThe body \xff\xfe here.\n")
    texts, problems = read(path)
    assert problems == []
    assert len(texts) == 1


def test_a_process_that_was_ended_is_started_again(tmp_path: Path) -> None:
    """Between two files it may end, or be killed."""
    path = tmp_path / "a.pdf"
    path.write_bytes(pdf("Text"))
    reader = processes.Reader()
    for _ in range(2):
        (found,) = reader.read(path, job(path), 2**28)
        assert found["text"]["text"] == "Text"
        reader.close()


def test_a_file_that_is_not_read_on_holds_up_no_other(tmp_path: Path) -> None:
    """Whoever stops in the middle of a file, as after an error, can read others, and its process is ended."""
    path = tmp_path / "a.mbox"
    path.write_bytes(FILES["f.mbox"]())
    reader = processes.Reader()
    first = reader.read(path, {**job(path), "suffix": ".mbox"}, 2**28)
    assert "text" in next(first)
    assert len(list(reader.read(path, {**job(path), "suffix": ".mbox"}, 2**28))) == 2
    reader.close()


def test_time_that_storing_takes_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what the process takes itself is bounded."""
    path = tmp_path / "a.mbox"
    path.write_bytes(FILES["f.mbox"]() * 500)
    reader = processes.Reader()
    found = reader.read(path, {**job(path), "suffix": ".mbox"}, 2**28)
    next(found)
    monkeypatch.setattr(processes, "QUIET_SECONDS", 0.5)
    threading.Event().wait(1.2)
    assert len(list(found)) == 999
    reader.close()


def test_threads_read_at_the_same_time(tmp_path: Path) -> None:
    """A service may take several files at once."""
    path = tmp_path / "a.pdf"
    path.write_bytes(pdf("Text"))
    found: list[Any] = []
    threads = [threading.Thread(target=lambda: found.append(read(path))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [(["Text"], [])] * 3


def job(path: Path) -> dict[str, Any]:
    status = path.stat()
    file = [status.st_dev, status.st_ino]
    return {"suffix": ".pdf", "limit": 10_000, "encoding": None, "columns": ["text"], "file": file}


def damaged(content: bytes, seed: int) -> bytes:
    """Some bytes changed, some left out, or the end cut off."""
    chance = random.Random(seed)  # noqa: S311 - no secret
    found = bytearray(content)
    for _ in range(chance.choice((1, 3, 20))):
        at = chance.randrange(len(found))
        match chance.randrange(4):
            case 0:
                found[at] = chance.randrange(256)
            case 1:
                found[at] ^= 1 << chance.randrange(8)
            case 2:
                del found[at : at + chance.randrange(1, 30)]
            case _:
                found[at:at] = found[at : at + chance.randrange(1, 30)]
        if not found:
            return b"x"
    return bytes(found[: chance.randrange(1, len(found) + 1)] if chance.random() < 0.2 else found)


def check_damaged(name: str, seeds: range, folder: Path) -> None:
    """Every damaged file gives texts or problems, and the process that reads them lives on."""
    for seed in seeds:
        path = folder / name
        path.write_bytes(damaged(FILES[name](), seed))
        texts, problems = read(path)
        for problem in problems:
            assert "the program that reads it stopped" not in problem.reason, (seed, problem)
            assert "more than 60 seconds" not in problem.reason, (seed, problem)
        assert all(isinstance(text, str) for text in texts)


@pytest.mark.parametrize("name", FILES)
def test_damaged_files(name: str, tmp_path: Path) -> None:
    check_damaged(name, range(12), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_many_damaged_files(name: str, tmp_path: Path) -> None:
    check_damaged(name, range(100, 400), tmp_path)
