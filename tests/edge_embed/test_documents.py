import json
from pathlib import Path

import pytest

from edge_embed.files.documents import read_documents
from edge_embed.files.finding import find_files
from edge_embed_runtime.errors import SourceError
from edge_embed_runtime.storage.documents import Document


def read(folder: Path, name: str, content: str | bytes) -> list[tuple[str, str, dict[str, object]]]:
    """(key, text, metadata) of the documents of a file; FILE stands for its path."""
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return [
        (d.key.replace(path.as_posix(), "FILE"), d.text, {k: v for k, v in d.metadata.items() if k != "source"})
        for d in read_documents(path)
    ]


@pytest.mark.parametrize("name", ["a.txt", "a.md", "A.TXT"])
def test_a_text_file_is_one_document(name: str, tmp_path: Path) -> None:
    """The path is the key and the source; a byte order mark is left out, newlines stay."""
    path = tmp_path / name
    path.write_bytes(b"\xef\xbb\xbf# Caf\xc3\xa9\r\n\r\ntext\n")
    places = ((0, "Café"),) if name == "a.md" else ()
    assert list(read_documents(path)) == [
        Document(path.as_posix(), "# Café\r\n\r\ntext\n", {"source": path.as_posix()}, places)
    ]


@pytest.mark.parametrize("name", ["a.txt", "a.md", "a.jsonl", "a.csv"])
@pytest.mark.parametrize("content", ["", "\n", "\ufeff", "\r\n\r\n"])
def test_empty_files_hold_no_documents(name: str, content: str, tmp_path: Path) -> None:
    """A file without text is no error."""
    assert read(tmp_path, name, content) == []


@pytest.mark.parametrize(
    ("row", "document"),
    [
        ({"text": "a"}, ("FILE:1", "a", {})),
        ({"text": "a", "title": "T"}, ("FILE:1", "T a", {})),
        ({"text": "", "title": "T"}, ("FILE:1", "T", {})),
        ({"text": "a", "title": None}, ("FILE:1", "a", {})),
        ({"text": "a", "id": "i", "_id": "u", "key": "k"}, ("FILE#k", "a", {"id": "i", "_id": "u"})),
        ({"text": "a", "id": "i", "_id": "u"}, ("FILE#u", "a", {"id": "i"})),
        ({"text": "a", "id": 0, "_id": "", "key": None}, ("FILE#0", "a", {"_id": "", "key": None})),
        ({"text": "a", "lang": "en", "n": [1, {"b": None}]}, ("FILE:1", "a", {"lang": "en", "n": [1, {"b": None}]})),
    ],
)
def test_a_jsonl_row_is_a_document(row: object, document: tuple[object, ...], tmp_path: Path) -> None:
    """Title and text make the text, the first of key, _id and id is the key, and the rest is metadata."""
    assert read(tmp_path, "a.jsonl", json.dumps(row)) == [document]


def test_rows_have_their_file_as_source(tmp_path: Path) -> None:
    """The source of a document is its file, whatever its key, in `source_file` where the row has its own."""
    read(tmp_path, "a.jsonl", '{"id": "k", "text": "a"}\n{"id": "l", "text": "a", "source": "web"}')
    first, second = read_documents(tmp_path / "a.jsonl")
    assert first.metadata == {"source": (tmp_path / "a.jsonl").as_posix()}
    assert second.metadata == {"source_file": (tmp_path / "a.jsonl").as_posix(), "source": "web"}


def test_jsonl_lines(tmp_path: Path) -> None:
    """Blank lines and rows without text are left out, and still count as lines; U+2028 ends no line."""
    content = '\ufeff{"text": "a"}\r\n\r\n  \n{"text": " "}\n{"text": "b\u2028c"}'
    assert read(tmp_path, "a.jsonl", content) == [("FILE:1", "a", {}), ("FILE:5", "b\u2028c", {})]


def test_csv_rows(tmp_path: Path) -> None:
    """Columns are fields by the names of the first line; quoted fields hold commas, quotes and newlines."""
    content = '\ufeffid,title,text,lang\r\n1,T,"a, ""b""\r\nc",en\r\n\r\n,,d,\r\n3,,,de\r\n'
    assert read(tmp_path, "a.csv", content) == [
        ("FILE#1", 'T a, "b"\r\nc', {"lang": "en"}),
        ("FILE:5", "d", {"id": "", "lang": ""}),
    ]


def test_csv_fields_are_as_long_as_documents(tmp_path: Path) -> None:
    """A field may be longer than the 131,072 characters that the csv module takes by itself."""
    assert read(tmp_path, "a.csv", f"id,text\n1,{'x' * 200_000}\n") == [("FILE#1", "x" * 200_000, {})]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", '{"text": "a"}\n\n{"text": \n', "line 3: not valid JSON"),
        ("a.jsonl", '{"text": "a"}\r\n["a"]\r\n', "line 2: expected an object, got list"),
        ("a.jsonl", '{"txt": "a", "id": 1}\n', "line 1: no field 'text'; fields: txt, id"),
        ("a.jsonl", "{}\n", "line 1: no field 'text'; fields: none"),
        ("a.jsonl", '{"text": 5}\n', "line 1: 'text' and 'title' must be strings"),
        ("a.jsonl", '{"text": "a", "title": ["T"]}\n', "line 1: 'text' and 'title' must be strings"),
        ("a.jsonl", '{"text": ' + "[" * 100_000, "line 1: not valid JSON"),
        ("a.csv", 'id,text\n1,"a\nb"\n2\n', "line 4: expected 2 fields"),
        ("a.csv", "id,text\n1,a\n2,b,c\n", "line 3: expected 2 fields"),
        ("a.csv", "id,body\n1,a\n", "line 1: no field 'text'; fields: id, body; --text"),
        ("a.csv", 'id,text\n1,"a"b\n', "line 2: not valid CSV"),
        ("a.csv", 'id,text\n1,"a\n2,b\n', "line 2: not valid CSV"),
        ("a.csv", "\n\nid,text\n1\n", "line 4: expected 2 fields"),
        ("a.csv", "id,text,id\n1,a,2\n", "line 1: a field has the name of another"),
        ("a.jsonl", '{"text": "a", "id": {"a": 1}}\n', "line 1: the key 'id' is dict"),
        ("a.jsonl", b'{"text": "a"}\n' * 5000 + b"\xe9", "line 5001: not UTF-8 text"),
        ("a.txt", b"caf\xe9\xc3\xa9 au lait", "line 1: not UTF-8 text"),
        ("a.jsonl", b'{"text": "caf\xe9\xc3\xa9"}\n', "line 1: not UTF-8 text"),
        ("a.csv", b"id,text\n1,caf\xe9\xc3\xa9\n", "line 2: not UTF-8 text"),
    ],
)
def test_malformed_files_are_refused(name: str, content: str | bytes, message: str, tmp_path: Path) -> None:
    """The message names the file, the line and what is wrong with it."""
    with pytest.raises(SourceError, match=rf"{name}.*{message}"):
        read(tmp_path, name, content)


@pytest.mark.parametrize("name", ["gone.txt", "gone.jsonl", "gone.csv"])
def test_a_file_that_cannot_be_read(name: str, tmp_path: Path) -> None:
    """A file that vanished after it was found is an error that names it."""
    with pytest.raises(SourceError, match=f"{name}.* does not exist"):
        list(read_documents(tmp_path / name))


def test_rows_before_a_bad_one_are_given(tmp_path: Path) -> None:
    """Files are read row by row."""
    (tmp_path / "a.jsonl").write_text('{"text": "a"}\nnot JSON\n')
    documents = read_documents(tmp_path / "a.jsonl")
    assert next(documents).text == "a"
    with pytest.raises(SourceError, match="line 2"):
        next(documents)


def tree(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("text")


def test_folders_are_searched_in_order(tmp_path: Path) -> None:
    """Readable files of a folder and of those inside it, by name; hidden ones and other types are left out."""
    tree(tmp_path, "b.md", "a.csv", "c/z.JSONL", "c/a.txt", "c/d/e.txt", ".h.txt", ".git/a.txt", "c/.d/a.txt", "x.exe")
    (tmp_path / "folder.txt").mkdir()
    found = [path.relative_to(tmp_path).as_posix() for path in find_files([str(tmp_path)])]
    assert found == ["a.csv", "b.md", "c/a.txt", "c/d/e.txt", "c/z.JSONL"]


def test_paths_keep_their_order(tmp_path: Path) -> None:
    """Paths are read as given, each file once, also when hidden or inside a hidden folder that was named."""
    tree(tmp_path, "b.txt", "c/a.txt", ".h.txt", ".hidden/a.txt")
    given = ["b.txt", ".h.txt", "c/", "c/../b.txt", "c/a.txt", ".hidden"]
    found = find_files([f"{tmp_path}/{name}" for name in given])
    assert found == [tmp_path / name for name in ("b.txt", ".h.txt", "c/a.txt", ".hidden/a.txt")]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("missing.txt", "missing.txt does not exist"),
        (
            "a.exe",
            "a.exe is not a folder or a file of a known type; expected .txt, .md, .pdf, .html, .docx, .csv or another",
        ),
        ("Makefile", "Makefile is not a folder or a file of a known type"),
        ("empty", r"empty holds no file of a known type; expected .txt, .md, .pdf, .html, .docx, .csv or another"),
    ],
)
def test_paths_that_hold_nothing_readable(given: str, message: str, tmp_path: Path) -> None:
    """A path that leads to no readable file is an error, not an empty list."""
    tree(tmp_path, "a.txt", "a.exe", "Makefile", "empty/.h.txt", "empty/a.exe")
    with pytest.raises(SourceError, match=message):
        find_files([str(tmp_path / "a.txt"), str(tmp_path / given)])
