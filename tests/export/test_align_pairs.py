"""Pairs of files and captions."""

import json
from pathlib import Path

import pytest

from edge_embed_export.align.pairs import LEAST_GROUPS, read_pairs, split_pairs
from edge_embed_runtime.errors import SourceError


def written(path: Path, count: int = LEAST_GROUPS, **more: object) -> Path:
    """A file of pairs, a row for each of `count` captions."""
    rows = [{"path": f"pictures/{i}.png", "caption": f"thing {i}", **more} for i in range(count)]
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


def test_jsonl(tmp_path: Path) -> None:
    """Files are relative to the file of pairs; several captions are kept in their order, blank ones are not."""
    path = written(tmp_path / "pairs.jsonl")
    row = {"image": "a.png", "captions": [" A cat ", "", "an animal"], "group": "cats"}
    path.write_text(f"{path.read_text()}\n\n{json.dumps(row)}\n")
    pairs = read_pairs(path)
    assert pairs[0].path == tmp_path / "pictures" / "0.png"
    assert pairs[0].captions == ("thing 0",)
    assert pairs[0].group == "thing 0"
    assert pairs[-1].captions == ("A cat", "an animal")
    assert pairs[-1].group == "cats"


def test_csv(tmp_path: Path) -> None:
    """A CSV file has the same columns."""
    path = tmp_path / "pairs.csv"
    path.write_text("file,text\n" + "".join(f'sounds/{i}.wav,"a {i}, or so"\n' for i in range(LEAST_GROUPS)))
    pairs = read_pairs(path)
    assert pairs[3].path == tmp_path / "sounds" / "3.wav"
    assert pairs[3].captions == ("a 3, or so",)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "line 21"),
        ("[1]", "expected an object"),
        ('{"caption": "no file"}', "expected a path and a caption"),
        ('{"path": "a.png"}', "expected a path and a caption"),
        ('{"path": "a.png", "captions": ["one", 2]}', "expected a path and a caption"),
        ('{"path": "a.png", "caption": "  "}', "the caption is empty"),
    ],
)
def test_odd_rows_are_named(tmp_path: Path, line: str, said: str) -> None:
    """What is no pair is refused, with its line."""
    path = written(tmp_path / "pairs.jsonl")
    path.write_text(f"{path.read_text()}\n{line}\n")
    with pytest.raises(SourceError, match=said) as caught:
        read_pairs(path)
    assert caught.value.line == 21


def test_too_few(tmp_path: Path) -> None:
    """Captions that are nearly all the same teach nothing."""
    with pytest.raises(SourceError, match="with 1 different captions"):
        read_pairs(written(tmp_path / "pairs.jsonl", 50, caption="thing"))


def test_no_file(tmp_path: Path) -> None:
    """A file that is not there, or is no text, is named."""
    with pytest.raises(SourceError, match=r"none\.jsonl"):
        read_pairs(tmp_path / "none.jsonl")
    (tmp_path / "odd.jsonl").write_bytes(b"\xff\xfe")
    with pytest.raises(SourceError, match=r"odd\.jsonl"):
        read_pairs(tmp_path / "odd.jsonl")


def test_split_keeps_groups_together(tmp_path: Path) -> None:
    """No caption is both learnt and measured, every pair is in one part, and the seed decides in which."""
    path = written(tmp_path / "pairs.jsonl", 100)
    path.write_text(f"{path.read_text()}\n{path.read_text()}")
    pairs = read_pairs(path)
    parts = split_pairs(pairs, 0.2, seed=1)
    groups = [{pairs[i].group for i in part} for part in parts]
    assert sorted(i for part in parts for i in part) == list(range(200))
    assert not (groups[0] & groups[1])
    assert [len(group) for group in groups] == [80, 20]
    assert split_pairs(pairs, 0.2, seed=1) == parts != split_pairs(pairs, 0.2, seed=2)
    few = split_pairs(pairs[:LEAST_GROUPS], 0.01, seed=1)
    assert [len(part) for part in few] == [LEAST_GROUPS - 1, 1]
