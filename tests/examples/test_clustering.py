"""examples/clustering: groups, their words and their nearest texts."""

import json
from pathlib import Path

import numpy as np
import pytest
from builders.examples import example

from edge_embed import Document, Index
from edge_embed.corpus import demo_documents

clustering = example("clustering")


def test_demo(capsys: pytest.CaptureFixture[str]) -> None:
    """Every question of the demo is in one cluster; words say what one is about: the largest first."""
    assert clustering.main(["--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    texts = {document.key: document.text for document in demo_documents()}
    assert sorted(key for entry in found for key in entry["keys"]) == sorted(texts)
    sizes = [len(entry["keys"]) for entry in found]
    assert (len(sizes), sizes) == (12, sorted(sizes, reverse=True))
    assert all(entry["nearest"] == " ".join(texts[entry["keys"][0]].split()) for entry in found)
    (identity,) = [entry for entry in found if "identity" in entry["words"]]
    assert {key for key in texts if "identity" in key} <= {*identity["keys"]}


def test_finds_what_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Vectors around three directions are three clusters, labelled by the word that only one of them has."""
    random = np.random.default_rng(1)
    names = ["river", "oven", "violin"] * 20
    vectors = np.eye(8)[[names[:3].index(name) for name in names]] + 0.2 * random.standard_normal((60, 8))
    path = tmp_path / "a.db"
    with Index.create(path, space="test", dim=8) as index:
        index.add_vectors([Document(f"{name}{i}", f"about the {name}") for i, name in enumerate(names)], vectors)
        index.add_vectors([Document("none", "without a vector")], [None])
    assert clustering.main([str(path), "--clusters", "3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["20"] * 3
    assert {line.split()[1].strip(",") for line in lines} == {"river", "oven", "violin"}


def test_refuses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No cluster, more clusters than documents, no index."""
    for count in ("0", "155"):
        assert clustering.main(["--clusters", count]) == 2
        assert f"--clusters {count}: expected 1 to 154" in capsys.readouterr().err
    assert clustering.main([str(tmp_path / "none.db")]) == 2
    assert "none.db" in capsys.readouterr().err
    Index.create(tmp_path / "empty.db", space="test", dim=8).close()
    assert clustering.main([str(tmp_path / "empty.db")]) == 2
    assert "the index has no document with a vector" in capsys.readouterr().err


def test_without_texts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Documents that have a vector alone, as pictures do, are shown by their keys."""
    with Index.create(tmp_path / "a.db", space="test", dim=2) as index:
        index.add_vectors([Document("up"), Document("right")], np.eye(2))
    assert clustering.main([str(tmp_path / "a.db"), "--clusters", "2"]) == 0
    assert {line.split()[-1] for line in capsys.readouterr().out.splitlines()} == {"up", "right"}
