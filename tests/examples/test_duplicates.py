"""examples/duplicates: exact and near ones, in folders and in files of rows."""

import json
from pathlib import Path

import numpy as np
import pytest
from builders.examples import example

from edge_embed import Document, Index

duplicates = example("duplicates")
TEXTS = {
    "a": "How do I activate my new card?",
    "b": "how do  I activate MY new card?",
    "c": "How do I activate my card?",
    "d": "The ferry to the island leaves at nine.",
}


def test_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """Texts that differ in case and blanks, and those near enough, are one group; a second run embeds nothing."""
    monkeypatch.chdir(tmp_path)
    rows = [json.dumps({"id": key, "text": text}) for key, text in TEXTS.items()]
    Path("rows.jsonl").write_text("\n".join(rows))
    assert duplicates.main(["rows.jsonl", "--threshold", "0.9", "--json"]) == 0
    said = capfd.readouterr()
    ((first, second, third),) = json.loads(said.out)
    assert [found["key"] for found in (first, second, third)] == [f"rows.jsonl#{key}" for key in "abc"]
    assert first["cosine"] == pytest.approx(1, abs=1e-6)
    assert second["cosine"] == first["cosine"]
    assert 0.9 < third["cosine"] < 0.99
    assert duplicates.main(["rows.jsonl", "--threshold", "0.999"]) == 0
    said = capfd.readouterr()
    assert "0 stored, 4 unchanged" in said.err
    assert said.out.splitlines()[0] == "2 documents"
    assert "  1.000  rows.jsonl#b  how do I activate MY new card?" in said.out


def test_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """A folder without duplicates prints nothing; one that is not there is an error, in words."""
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    for key in "ad":
        Path(f"folder/{key}.txt").write_text(TEXTS[key])
    assert duplicates.main(["folder", "--bundle", "static"]) == 0
    said = capfd.readouterr()
    assert (said.out, said.err.splitlines()[-1]) == ("", "0 groups")
    Path("b").mkdir()
    Path("b/other.txt").write_text(TEXTS["a"])  # has an index of its own
    assert duplicates.main(["b", "--bundle", "static"]) == 0
    assert capfd.readouterr().out == ""
    assert sorted(path.name for path in tmp_path.glob("*.db")) == ["b.duplicates.db", "folder.duplicates.db"]
    assert duplicates.main(["nowhere", "--bundle", "static", "--index", "other.db"]) > 0
    assert "nowhere" in capfd.readouterr().err
    Path("empty").mkdir()
    assert duplicates.main(["empty"]) == 2
    assert "duplicates: empty has nothing that can be read" in capfd.readouterr().err
    assert (
        duplicates.main(["folder", "--bundle", "minilm"]) == 2
    )  # never by the vectors of another bundle than asked for
    assert "holds vectors of the bundle 'static-minilm-l6-v2'" in capfd.readouterr().err
    for wrong in ("0", "1.5", "nan"):
        with pytest.raises(SystemExit):
            duplicates.main(["folder", "--threshold", wrong])


def test_without_texts(tmp_path: Path) -> None:
    """Documents without a text, as pictures, are compared by their vectors alone."""
    with Index.create(tmp_path / "a.db", space="test", dim=2) as index:
        index.add_vectors([Document(key) for key in ("up", "right", "right again")], np.eye(2)[[0, 1, 1]])
        assert duplicates.find_groups(index, 0.9) == [[("right", 1.0), ("right again", 1.0)]]


def test_groups_of_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All members are near to the first of their group, as comparing one by one finds them, over several blocks."""
    monkeypatch.setattr(duplicates, "ROWS", 7)
    random = np.random.default_rng(0)
    centres = random.standard_normal((12, 16))
    vectors = np.repeat(centres, 5, axis=0) + 0.3 * random.standard_normal((60, 16))
    with Index.create(tmp_path / "a.db", space="test", dim=16) as index:
        index.add_vectors([Document(f"{i:02}", f"text {i}") for i in range(60)], vectors)
        stored = {key: rows[0] for key, rows in index.vectors(index.keys()).items()}
        found = duplicates.find_groups(index, 0.9)
    expected: list[list[str]] = []
    for key, vector in stored.items():
        group = next((group for group in expected if stored[group[0]] @ vector >= 0.9), None)
        expected.append([key]) if group is None else group.append(key)
    groups = [[key for key, _ in group] for group in found]
    assert sorted(groups) == sorted(group for group in expected if len(group) > 1)
    assert len(groups) > 5
    assert [len(group) for group in groups] == sorted(map(len, groups), reverse=True)
