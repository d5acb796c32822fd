"""examples/classifier: from names, from examples, and what it refuses."""

import json
import re
from pathlib import Path

import pytest
from builders.examples import example

from edge_embed.corpus import demo_documents

classifier = example("classifier")


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    """One question of each of 77 topics to learn from, and another one to test."""
    rows = [f"{document.metadata['topic']}\t{document.text}" for document in demo_documents()]
    rows.sort(key=lambda row: row.partition("\t")[0])
    for name, part in (("train.tsv", rows[0::2]), ("test.tsv", rows[1::2])):
        (tmp_path / name).write_text("\n".join(part))
    return str(tmp_path / "train.tsv"), str(tmp_path / "test.tsv")


def test_names_and_examples(files: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    """77 labels: names alone tell more than half of the questions, an example of each some more."""
    assert classifier.main([files[0], "--test", files[1], "--shots", "0,1,all", "--seeds", "1"]) == 0
    none, one, every = map(float, re.findall(r"accuracy (\S+)", capsys.readouterr().out))
    assert 0.5 < none < one
    assert one == every  # there is one example of each


def test_text(files: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    """The likeliest labels with their probabilities."""
    assert classifier.main([files[0], "--text", "My card was stolen!"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert next(iter(found)) == "lost_or_stolen_card"
    assert list(found.values()) == sorted(found.values(), reverse=True)


def test_refuses(files: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Lines without a tab, labels that nothing teaches, a file that is not there: one line."""
    bad, foreign = tmp_path / "bad.tsv", tmp_path / "foreign.tsv"
    bad.write_text("no tab here\n")
    foreign.write_text("weather\tIs it raining?\n")
    for arguments, said in (
        ([str(bad), "--text", "x"], "expected lines of LABEL <tab> TEXT"),
        ([files[0], "--test", str(foreign)], "labels without a training text: weather"),
        ([str(tmp_path / "none.tsv"), "--text", "x"], "No such file"),
    ):
        assert classifier.main(arguments) == 2
        error = capsys.readouterr().err
        assert said in error
        assert error.count("\n") == 1
    for options, said in (
        ([], "give --text, --test or both"),
        (["--text", "x", "--shots", "1,two"], "1,two: expected numbers, or all"),
        (["--text", "x", "--shots", "-1"], "-1: expected numbers"),
        (["--text", "x", "--seeds", "0"], "--seeds: expected 1 or more"),
    ):
        with pytest.raises(SystemExit):
            classifier.main([files[0], *options])
        assert said in capsys.readouterr().err
