"""`edge-embed eval` on sets of pictures and sounds."""

import json
import wave
from pathlib import Path

import numpy as np
import pytest
from builders.colours import COLOURS, RATE, SIDE, colour_bundle
from click.testing import CliRunner
from PIL import Image

from edge_embed import Embedder
from edge_embed.cli.main import main
from edge_embed.measuring.judged import Chosen, File, read_judged_set
from edge_embed.measuring.quality import evaluate
from edge_embed_runtime.errors import InputError, MediaError, SourceError


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Texts, pictures of colours, and sounds in one space."""
    return colour_bundle(tmp_path_factory.mktemp("colours") / "bundle")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Pictures of two colours each twice, a hum and a note; German queries, two kinds of judgements."""
    folder = tmp_path / "set"
    (folder / "qrels").mkdir(parents=True)
    rows: list[dict[str, object]] = [{"_id": "note", "text": "all about red", "metadata": {"split": "b"}}]
    for split in ("a", "b"):
        for name in ("red", "blue"):
            Image.new("RGB", (SIDE, SIDE), COLOURS[name]).save(folder / f"{name}-{split}.png")
            rows.append({"_id": f"{name}/{split}", "image": f"{name}-{split}.png", "metadata": {"split": split}})
    hum = (0.3 * np.sign(np.sin(2 * np.pi * 80 * np.arange(RATE) / RATE)) * 2**15).astype("<i2")
    with wave.open(str(folder / "hum.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(hum.tobytes())
    rows.append({"_id": "hum", "title": "", "text": "", "audio": "hum.wav"})
    _write(folder / "corpus.jsonl", rows)
    said = [("red", "name"), ("blue", "name"), ("a deep hum", "sound")]
    _write(folder / "queries.jsonl", [{"_id": t, "text": t, "metadata": {"kind": kind}} for t, kind in said])
    _write(folder / "queries.de.jsonl", [{"_id": "red", "text": "rot"}])
    pairs = [(name, f"{name}/{split}") for name in ("red", "blue") for split in ("a", "b")]
    lines = ["query-id\tcorpus-id\tscore", *(f"{q}\t{d}\t1" for q, d in pairs)]
    (folder / "qrels" / "test.tsv").write_text("\n".join(lines))
    (folder / "qrels" / "sound.tsv").write_text("query-id\tcorpus-id\tscore\na deep hum\thum\t1\n")
    return folder


def _write(path: Path, rows: list[dict[str, object]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_rows_with_files(data: Path) -> None:
    """A row with `image` or `audio` is a file beside the corpus."""
    judged = read_judged_set(data)
    assert judged.files["red/a"] == File("image", data / "red-a.png")
    assert judged.files["hum"] == File("audio", data / "hum.wav")
    assert judged.documents["note"] == "all about red"
    assert judged.documents["red/a"] == ""
    assert list(judged.queries) == ["red", "blue"]


def test_parts_of_a_set(data: Path) -> None:
    """Documents by kind and metadata, queries of another file, judgements by name; what is left out is not judged."""
    assert list(read_judged_set(data, Chosen(kind="audio", qrels="sound")).documents) == ["hum"]
    part = read_judged_set(data, Chosen(kind="image", documents=(("split", "b"),), asked=(("kind", "name"),)))
    assert list(part.documents) == ["red/b", "blue/b"]
    assert part.judgements == {"red": {"red/b": 1}, "blue": {"blue/b": 1}}
    assert read_judged_set(data, Chosen(queries="queries.de.jsonl")).queries == {"red": "rot"}
    with pytest.raises(SourceError, match=r"has no qrels/none\.tsv"):
        read_judged_set(data, Chosen(qrels="none"))


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"_id": "x", "image": "a.png", "audio": "a.wav"}, 'or "image" or "audio"'),
        ({"_id": "x", "image": 3}, 'or "image" or "audio"'),
        ({"_id": "x"}, 'or "image" or "audio"'),
        ({"_id": "x", "text": "a", "metadata": "b"}, "expected"),
    ],
)
def test_odd_rows(data: Path, row: dict[str, object], said: str) -> None:
    """A row that is no document is named by its line."""
    _write(data / "corpus.jsonl", [row])
    with pytest.raises(SourceError, match=f"line 1.*{said}"):
        read_judged_set(data)


def test_every_tier_finds_what_it_should(bundle: Path, data: Path) -> None:
    """Pictures are found by their colour at every tier, sounds by what they sound like."""
    embedder = Embedder(bundle)
    found = evaluate(read_judged_set(data, Chosen(kind="image")), embedder)
    assert list(found) == ["float", "int8", "binary", "binary+int8"]
    assert {tier: figures["ndcg@10"] for tier, figures in found.items()} == dict.fromkeys(found, 1.0)
    sounds = evaluate(read_judged_set(data, Chosen(kind="audio", qrels="sound")), embedder)
    assert sounds["binary+int8"]["recall@10"] == 1


def test_beside_texts_each_kind_is_ranked_by_itself(bundle: Path, data: Path) -> None:
    """In a set with texts the figures of an index of all are there, too."""
    found = evaluate(read_judged_set(data), Embedder(bundle))
    assert found["kinds"]["recall@10"] == 1
    assert found["kinds"]["bytes_per_vector"] == found["binary+int8"]["bytes_per_vector"]


def test_an_unreadable_file(bundle: Path, data: Path) -> None:
    """A file of a judged set has to be there: figures without it would be of another set."""
    (data / "red-a.png").write_bytes(b"no picture")
    with pytest.raises(MediaError, match="red-a"):
        evaluate(read_judged_set(data), Embedder(bundle))


def test_other_kinds_of_vectors_are_refused(bundle: Path, data: Path) -> None:
    """Weights of tokens are of texts alone."""
    embedder = Embedder(bundle)
    with pytest.raises(InputError, match="leave sparse and multi out"):
        evaluate(read_judged_set(data), embedder, sparse=embedder)


def test_command(bundle: Path, data: Path) -> None:
    """The options choose a part of the set."""
    options = ["--kind", "image", "--where", "split=b", "--queries-where", "kind=name", "--qrels", "test"]
    result = CliRunner().invoke(main, ["eval", str(data), "--bundle", str(bundle), *options])
    assert result.exit_code == 0, result.output
    assert "2 documents, 2 queries" in result.output
    assert "binary+int8" in result.output
    result = CliRunner().invoke(main, ["eval", str(data), "--bundle", str(bundle), "--where", "split"])
    assert result.exit_code == 2
    assert "is not KEY=VALUE" in result.output
