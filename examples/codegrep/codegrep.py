"""Grep by meaning: python codegrep.py QUESTION [FOLDER] prints PATH:LINE: LINE for what fits best

A function, method or class of Python is one document; other languages are cut where an unindented line follows a blank
one. The index is FOLDER/.codegrep.db; a second run embeds only files whose content has changed.
Exit status as of grep: 0 found, 1 nothing there, 2 an error.
"""

import argparse
import ast
import json
import os
import sys
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

from edge_embed import Document, EdgeEmbedError, Embedder, Index

SUFFIXES = {
    *(".py", ".pyi", ".c", ".h", ".cc", ".cpp", ".hpp", ".cs", ".go", ".java", ".js", ".jsx", ".kt", ".lua", ".php"),
    *(".pl", ".rb", ".rs", ".scala", ".sh", ".sql", ".swift", ".ts", ".tsx", ".zig"),
}
PASSED_OVER = {"node_modules", "__pycache__", "build", "dist", "target", "vendor", "venv", "site-packages"}
MAX_BYTES = 1_000_000  # of a file: larger ones are generated
MAX_LINES = 60  # of a block in other languages

Block = tuple[int, str]  # its first line, counted from 1, and its text


def source_files(folder: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name not in PASSED_OVER and not name.startswith("."))
        for path in (Path(parent) / name for name in sorted(names)):
            if path.suffix in SUFFIXES and path.is_file() and path.stat().st_size <= MAX_BYTES:
                yield path


def python_blocks(text: str) -> Iterator[Block]:
    """Functions and methods; of a class what stands before its first method. Raises SyntaxError."""
    lines = text.split("\n")
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            inner = [part.lineno for part in node.body if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef)]
            is_class = isinstance(node, ast.ClassDef) and inner
            last = min(inner) - 1 if is_class else node.end_lineno
            yield first, "\n".join(lines[first - 1 : last])


def other_blocks(text: str) -> Iterator[Block]:
    """Cut before unindented lines that follow a blank one, and after MAX_LINES."""
    lines = text.split("\n")
    start = 0
    for i, line in enumerate(lines):
        begins = line[:1] not in ("", " ", "\t", "}", ")", "]") and i > 0 and not lines[i - 1].strip()
        if begins or i - start >= MAX_LINES:
            yield start + 1, "\n".join(lines[start:i])
            start = i
    yield start + 1, "\n".join(lines[start:])


def documents(path: Path, name: str, content: bytes, version: str) -> Iterator[Document]:
    """The blocks of a file; name: its path in the folder."""
    text = content.decode("utf-8-sig", errors="replace").replace("\r\n", "\n").replace("\r", "\n")
    try:
        blocks = list((python_blocks if path.suffix in (".py", ".pyi") else other_blocks)(text))
    except (SyntaxError, ValueError, RecursionError):  # of another Python, or unfinished
        blocks = list(other_blocks(text))
    for line, block in blocks:
        if block.strip():
            yield Document(f"{name}:{line}", block, {"file": name, "line": line, "version": version})


def update(index: Index, folder: Path) -> tuple[int, int]:
    """Bring the index up to date. Returns how many files were read again, and how many have left."""
    known: dict[str, set[str]] = {}  # versions of each file: two of one whose update was interrupted
    for document in index:
        known.setdefault(document.metadata["file"], set()).add(document.metadata["version"])
    read, there = 0, set()
    for path in source_files(folder):
        name = path.relative_to(folder).as_posix()
        there.add(name)
        try:
            content = path.read_bytes()
        except OSError as error:
            print(f"codegrep: {error}", file=sys.stderr)  # what was there before stays
            continue
        version = sha256(content).hexdigest()
        if known.get(name) != {version}:
            found = {document.key: document for document in documents(path, name, content, version)}
            index.upsert(found.values())
            index.delete({d.key for d in index.find({"file": name})} - {*found} if name in known else ())
            read += bool(found)
            if sys.stderr.isatty():
                print(f"files read: {read}", end="\r", file=sys.stderr, flush=True)
    gone = [name for name in known if name not in there]
    for name in gone:
        index.delete(where={"file": name})
    return read, len(gone)


def search(index: Index, question: str, k: int, folder: Path) -> Iterator[dict[str, str | int | float]]:
    """Hits with the line of the file in which the passage that fits begins; decorators are passed over."""
    hits = index.search(question, k=k)
    for hit, document in zip(hits, index.get_many(hit.key for hit in hits), strict=True):
        if document is None:  # deleted by another program
            continue
        lines, line = document.text.split("\n"), document.text.count("\n", 0, hit.start)
        while line < len(lines) - 1 and (not lines[line].strip() or lines[line].lstrip().startswith("@")):
            line += 1
        where = {"path": str(folder / hit.metadata["file"]), "line": hit.metadata["line"] + line}
        yield {**where, "text": lines[line], "key": hit.key, "score": round(hit.score, 4)}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("question")
    parser.add_argument("folder", nargs="?", type=Path, default=Path())
    parser.add_argument("-k", type=int, default=10, help="hits [%(default)s]")
    parser.add_argument("--bundle", default="minilm", help="[%(default)s]")
    parser.add_argument("--json", action="store_true", help="print each hit as an object")
    options = parser.parse_args(arguments)
    try:
        if not options.folder.is_dir():
            raise NotADirectoryError(f"{options.folder} is not a folder")
        with Index.open(options.folder / ".codegrep.db", Embedder(options.bundle), fields=["file"]) as index:
            read, gone = update(index, options.folder)
            print(f"files read: {read}, gone: {gone}; functions and blocks: {len(index)}", file=sys.stderr)
            results = list(search(index, options.question, options.k, options.folder))
    except (EdgeEmbedError, OSError) as error:
        print(f"codegrep: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:  # what was embedded is kept
        return 130
    for found in results:
        print(json.dumps(found) if options.json else f"{found['path']}:{found['line']}: {str(found['text']).strip()}")
    return 0 if results else 1


if __name__ == "__main__":
    sys.exit(main())
