"""One bad file among many good ones: `edge-embed add` lists it, stores everything else, and ends with 1."""

import json
import os
from itertools import product
from pathlib import Path

from children import HangError, in_child
from limits import Command
from workload import NAME, Bench, Row

from edge_embed import Index
from edge_embed_runtime.maintenance.verify import verify_index

FEW, MANY = 60, 999  # good files beside the bad one, in the quick and in the full run

TEXTS = {
    "Latin-1 and UTF-8": b"caf\xe9 caf\xc3\xa9",
    "cut off in a character": "the caf\u00e9".encode()[:-1],
    "UTF-16 without a mark": "the cat".encode("utf-16-le"),
    "UTF-16 of half a character": b"\xff\xfet\x00h",
    "UTF-16 with a lone surrogate": b"\xff\xfe\x00\xd8t\x00",
    "a surrogate in UTF-8": b"the \xed\xa0\x80 cat",
    "an overlong slash": b"the \xc0\xaf cat",
    "beyond Unicode": b"the \xf4\x90\x80\x80 cat",
    "NUL": b"the\x00cat",
    "an image": b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR",
    "an archive": b"PK\x03\x04\x14\x00\x00\x00\x08\x00\xff\xfe",
}
# Rows that are bad, each between two that are good.
OBJECTS = {
    "no JSON": b"the cat",
    "cut off": b'{"text": "the cat"',
    "two objects": b'{"text": "the"} {"text": "cat"}',
    "a list": b'["the cat"]',
    "a text": b'"the cat"',
    "a number": b"5",
    "null": b"null",
    "text null": b'{"text": null}',
    "text a number": b'{"text": 5}',
    "text a list": b'{"text": ["the", "cat"]}',
    "no text": b'{"body": "the cat"}',
    "title a number": b'{"text": "the cat", "title": 5}',
    "a lone surrogate": b'{"text": "\\ud800"}',
    "a lone surrogate as a name": b'{"text": "the cat", "\\udfff": 1}',
    "NaN": b'{"text": "the cat", "n": NaN}',
    "infinity": b'{"text": "the cat", "n": -Infinity}',
    "NUL in a key": b'{"text": "the cat", "id": "a\\u0000b"}',
    "NUL in a name": b'{"text": "the cat", "a\\u0000b": 1}',
    "a key that is an object": b'{"text": "the cat", "id": {}}',
    "a key that is a fraction": b'{"text": "the cat", "id": 1.5}',
    "a key that is true": b'{"text": "the cat", "id": true}',
    "a long key": b'{"text": "the cat", "id": "' + b"k" * 4000 + b'"}',
    "a key that comes twice": b'{"text": "the cat", "id": "first"}',
    "nested deep": b'{"text": "the cat", "n": ' + b"[" * 100 + b"]" * 100 + b"}",
    "nested very deep": b'{"text": "the cat", "n": ' + b"[" * 100_000,
    "a number of 5,000 digits": b'{"text": "the cat", "n": ' + b"1" * 5000 + b"}",
    "Latin-1 and UTF-8": b'{"text": "caf\xe9\xc3\xa9"}',
    "a control character": b'{"text": "the \x01 cat"}',
}
CELLS = {
    "too few": b"one",
    "too many": b"one\tthe cat\tand\tmore",
    "a loose quote": b'"one" or\tthe cat',
    "a quote that is not closed": b'"one\tthe cat',
    "Latin-1 and UTF-8": b"one\tcaf\xe9\xc3\xa9",
    "Latin-1 and UTF-8 in a quoted line": b'one\t"the\ncaf\xe9\xc3\xa9\ncat"',
    "NUL in a key": b"o\x00ne\tthe cat",
    "a long key": b"k" * 4000 + b"\tthe cat",
    "a key that comes twice": b"first\tthe cat",
    "a surrogate": b"one\tthe \xed\xa0\x80 cat",
    "a carriage return": b"one\tthe\rcat",
}
HEADERS = {
    "no text": b"id\tbody\none\tthe cat\n",
    "two columns of one name": b"id\ttext\tid\none\tthe cat\t1\n",
    "a header in Latin-1": b"id\tte\xe9xt\none\t\xc3\xa9\n",
    "UTF-16 without a mark": "id\ttext\none\tthe cat\n".encode("utf-16-be"),
}


def kinds() -> dict[str, tuple[str, bytes, int]]:
    """By what is wrong: the file's name, its content, and how many good rows it has."""
    found: dict[str, tuple[str, bytes, int]] = {}
    for suffix, (what, content) in product((".txt", ".md"), TEXTS.items()):
        found[f"{suffix}: {what}"] = (f"bad{suffix}", content, 0)
    for suffix, (what, row) in product((".jsonl", ".ndjson"), OBJECTS.items()):
        good = (json.dumps({"id": name, "text": f"the cat {name}"}).encode() for name in ("first", "last"))
        found[f"{suffix}: {what}"] = (f"bad{suffix}", (b"\n%b\n" % row).join(good), 2)
    for (suffix, mark), (what, row) in product(((".csv", b","), (".csv", b";"), (".tsv", b"\t")), CELLS.items()):
        content = b"id\ttext\nfirst\tthe cat\n%b\nlast\tthe river\n" % row
        found[f"{suffix} {mark!r}: {what}"] = (f"bad{suffix}", content.replace(b"\t", mark), 2)
    for what, content in HEADERS.items():
        found[f".csv: {what}"] = ("bad.csv", content.replace(b"\t", b","), 0)
    if os.name == "posix":
        found["a name that is not UTF-8"] = (os.fsdecode(b"b\xe9d.txt"), b"the cat", 0)
    return found


def one_bad_file(bench: Bench, row: Row, runs: int) -> None:
    """Each kind once, or in the quick run so many from all over the list."""
    chosen = list(kinds().items())
    good = MANY if runs >= len(chosen) else FEW
    chosen = chosen[:: max(1, len(chosen) // runs)]
    for case in bench.cases(len(chosen)):
        what, (name, content, rows) = chosen[case]
        folder = bench.fresh()
        notes = folder / "notes"
        notes.mkdir()
        for i in range(good):
            (notes / f"{i:03}.txt").write_text(f"the cat at the river {i}")
        (notes / name).write_bytes(content)
        arguments = ["add", str(folder / NAME), str(notes), "--bundle", str(bench.bundle), "--threads", "1"]
        try:
            status, said, _ = Command(arguments, folder / "said").ended()
            problem = not_said(status, said) or in_child(lambda: missing(bench, folder, good, rows))  # noqa: B023
            if problem:
                row.fail("wrong" if status == 1 else "crashes", f"case {case} ({what})", problem)
        except HangError:
            row.fail("hangs", f"case {case} ({what})", "no answer")
        row.runs += 1
    row.notes.append(f"{len(chosen)} kinds, each among {good} good files")


def not_said(status: int, said: str) -> str | None:
    """What is wrong with how the command ended."""
    if status != 1 or "Traceback" in said:
        return f"exit status {status}: {said[-300:]}"
    listed = "notes/bad." in said or "notes/b\\udce9d." in said
    return None if listed else f"the bad file is not listed: {said[-300:]}"


def missing(bench: Bench, folder: Path, good: int, rows: int) -> str | None:
    """What is wrong with the index: every good file and good row has to be there, and nothing else."""
    path = folder / NAME
    report = verify_index(path)
    if not report.whole:
        return f"{report.damaged} {report.problems}"
    with Index.open(path, bench.embedder(), read_only=True) as index:
        keys = list(index.keys())
    texts = [key for key in keys if "#" not in key and not key.startswith("notes/b")]
    if len(texts) != good or len(keys) != good + rows:
        return f"{len(texts)} of {good} good files, {len(keys) - len(texts)} of {rows} good rows: {keys[-3:]}"
    return None
