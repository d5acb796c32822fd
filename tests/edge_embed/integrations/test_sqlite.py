"""docs/sqlite.md: an index as SQLite, Datasette, sqlite-utils, DuckDB and Polars read it."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from builders.docpages import run_whole_page

from edge_embed import Document, Embedder, Index, IndexFormatError, verify_index

pytestmark = pytest.mark.frameworks
for package in ("datasette", "duckdb", "polars", "pyarrow", "sqlite_utils"):
    pytest.importorskip(package)

import datasette.app


def test_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every block runs as it stands there."""
    printed = run_whole_page("sqlite.md", tmp_path, monkeypatch)
    documents, found = (json.loads(line) for line in printed[-1].splitlines())
    assert [one["key"] for one in documents] == ["cat.md", "chat.md", "ferry.md"]
    assert documents[0]["passages"] == 1
    assert found == [{"key": "ferry.md", "text": "The ferry to the island leaves at nine."}]
    assert verify_index(tmp_path / "notes.db").whole


async def test_datasette_beside_a_writer(tmp_path: Path) -> None:
    """Its client sees what was committed, as soon as it is; the index is whole afterwards."""
    path = tmp_path / "notes.db"
    with Index.open(path, Embedder("static")) as index:
        index.add([Document("a", "The ferry leaves at nine.", {"lang": "en"})])
        site = datasette.app.Datasette([str(path)])
        query = "/notes.json?sql=select+key,json_extract(metadata,'$.lang')+as+lang+from+doc+order+by+key&_shape=array"
        assert (await site.client.get(query)).json() == [{"key": "a", "lang": "en"}]
        index.add([Document("b", "Le chat dort.", {"lang": "fr"})])
        assert [one["key"] for one in (await site.client.get(query)).json()] == ["a", "b"]
        page = await site.client.get("/notes/doc")
        assert "The ferry leaves at nine." in page.text
        for name in site.databases:
            site.databases[name].close()
    assert verify_index(path).whole


def test_a_view_in_the_file_is_refused_until_it_is_dropped(tmp_path: Path) -> None:
    """As the page says: so views are temporary ones."""
    path = tmp_path / "notes.db"
    with Index.open(path, Embedder("static")) as index:
        index.add([Document("a", "The ferry leaves at nine.")])
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE VIEW documents AS SELECT key FROM doc")
        db.commit()
    with pytest.raises(IndexFormatError, match="its tables are not ours"):
        Index.open(path)
    with closing(sqlite3.connect(path)) as db:
        db.execute("DROP VIEW documents")
        db.commit()
    assert verify_index(path).whole
