"""latechunking.py: passages' vectors out of one long pass of their document."""

from pathlib import Path

import numpy as np
import pytest
from builders.bert import Checkpoints
from click.testing import CliRunner

from edge_embed import Document, Embedder, Index
from edge_embed.cli.main import main
from edge_embed.errors import InputError
from edge_embed_export import export_model
from edge_embed_runtime.maintenance.reembed import reembed_index
from edge_embed_runtime.passages.late import check_late, late_passages, late_size, late_vectors

# The sentence about rebuilding does not say what was rebuilt.
STORY = (
    "The old lighthouse of Sandhamn stands on an island in the north of the archipelago. "
    + "Its keepers painted it red and white each spring, so that boats could see it from far away. " * 6
    + "It was rebuilt in 1908 after a storm. "
    + "Visitors come by ferry in summer and drink coffee on the rocks beside the sea. " * 30
)
NOTE = "A short note on coffee."


def vectors_of(embedder: Embedder, texts: list[str]) -> tuple[list[list[tuple[int, int]]], np.ndarray]:
    spans = late_passages(embedder, texts)
    vectors = np.full((sum(map(len, spans)), embedder.dim), np.nan, np.float32)
    for passages, found in late_vectors(embedder, texts, spans):
        assert np.isnan(vectors[passages]).all()
        vectors[passages] = found
    return spans, vectors


def test_passages_are_means_of_their_tokens(embedder: Embedder) -> None:
    """Of a document that the model takes whole: the mean of the passage's tokens in the document, of length 1."""
    text = " ".join(STORY.split()[:150])
    (spans,), vectors = vectors_of(embedder, [text])
    assert len(spans) > 2
    (tokens,) = embedder.encode_tokens([text])
    assert len(tokens.tokens) < embedder.max_tokens
    for (start, stop), vector in zip(spans, vectors, strict=True):
        inside = ~tokens.special & (tokens.offsets[:, 0] >= start) & (tokens.offsets[:, 1] <= stop)
        mean = tokens.vectors[inside].mean(axis=0)
        assert np.abs(vector - mean / np.linalg.norm(mean)).max() < 1e-6


def test_long_documents_go_through_in_windows(embedder: Embedder) -> None:
    """Every passage has one vector, from a window that holds it whole; others in a batch change no bits."""
    spans, vectors = vectors_of(embedder, [STORY, NOTE, STORY[:900]])
    assert [len(parts) for parts in spans][1] == 1
    assert len(embedder.tokenizer.word(STORY)) > 2 * embedder.max_tokens
    assert np.abs(np.linalg.norm(vectors, axis=1) - 1).max() < 1e-6
    # most passages are near those that were embedded alone, and none is the same
    texts = [STORY[start:stop] for start, stop in spans[0]]
    cosines = (vectors[: len(texts)] * embedder.encode_document(texts)).sum(axis=1)
    assert 0.5 < cosines.min() < cosines.max() < 0.9999
    alone = np.concatenate([vectors_of(embedder, [text])[1] for text in (STORY, NOTE, STORY[:900])])
    assert np.array_equal(vectors.view(np.uint32), alone.view(np.uint32))
    assert max(stop - start for start, stop in spans[0]) < 12 * late_size(embedder)


def test_document_of_one_passage_is_as_ever(embedder: Embedder) -> None:
    """Bit for bit what `encode_document` gives."""
    _, vectors = vectors_of(embedder, [NOTE, "x"])
    assert np.array_equal(vectors, embedder.encode_document([NOTE, "x"]))
    assert vectors_of(embedder, [])[1].shape == (0, 384)


def test_text_that_the_tokenizer_hardly_reads(embedder: Embedder) -> None:
    """Pages of white space, words without end, and emoji: each passage has a vector all the same."""
    texts = [("word" + " " * 9000) * 9, "x" * 9_000, "👩‍👩‍👧" * 90, "日本語" * 120, "a\n" * 400]
    _, vectors = vectors_of(embedder, texts)
    assert np.abs(np.linalg.norm(vectors, axis=1) - 1).max() < 1e-6


def test_passage_knows_its_document(embedder: Embedder) -> None:
    """The passage with the year is nearer to the question with the lighthouse's name than when embedded alone."""
    spans, vectors = vectors_of(embedder, [STORY])
    year = STORY.index("1908")
    number = next(i for i, (start, stop) in enumerate(spans[0]) if start <= year < stop)
    (query,) = embedder.encode_query(["When was the lighthouse of Sandhamn rebuilt?"])
    (alone,) = embedder.encode_document([STORY[slice(*spans[0][number])]])
    assert float(vectors[number] @ query) > float(alone @ query)


def test_index_remembers(embedder: Embedder, tmp_path: Path) -> None:
    """What an index was made with is used by later opens; another choice is refused; verify and repair fit it."""
    path = tmp_path / "late.db"
    documents = [Document("story", STORY), Document("note", NOTE)]
    with Index.open(path, embedder, late_chunking=True) as index:
        index.add(documents)
        assert index.stats()["late_chunking"] is True
        passages = index.stats()["passages"]
        hit = index.search("When was the lighthouse of Sandhamn rebuilt?", k=1, mode="vector")[0]
        assert hit.key == "story"
        assert STORY[hit.start : hit.end] == hit.text
    with Index.open(path, embedder) as index:
        assert index.upsert([Document("story", STORY)]) == 0
        assert index.upsert([Document("again", STORY)]) == 1
        assert index.stats()["passages"] == 2 * passages - 1
        codes = {hit.key: hit.score for hit in index.search("lighthouse", k=3, mode="vector")}
        assert codes["story"] == codes["again"]
        assert index.verify().whole
    with pytest.raises(InputError, match="was made with late_chunking=True; that can't be changed to False"):
        Index.open(path, embedder, late_chunking=False)
    with Index.open(tmp_path / "plain.db", embedder) as index:
        index.add(documents)
        assert "late_chunking" not in index.stats()
        assert index.stats()["passages"] < passages
    with pytest.raises(InputError, match="was made with late_chunking=False"):
        Index.open(tmp_path / "plain.db", embedder, late_chunking=True)


@pytest.mark.usefixtures("short_receipt")
def test_reembedding_heeds_it(embedder: Embedder, checkpoint: Checkpoints, tmp_path: Path) -> None:
    """Another bundle cuts passages in the same way; one that cannot is refused before anything is changed."""
    path = tmp_path / "late.db"
    with Index.open(path, embedder, late_chunking=True) as index:
        index.add([Document("a", "the cat is in the garden and the dog is in the house " * 3)])
    export_model(checkpoint("mean"), tmp_path / "mean.bundle", precision="fp32")
    export_model(checkpoint("cls", pooling="cls_token"), tmp_path / "cls.bundle", precision="fp32")
    with pytest.raises(InputError, match="has the pooling 'cls'"):
        reembed_index(path, Embedder(tmp_path / "cls.bundle", threads=1))
    other = Embedder(tmp_path / "mean.bundle", threads=1)
    assert reembed_index(path, other).switched
    with Index.open(path, other) as index:
        assert index.stats()["late_chunking"] is True
        spans, _ = vectors_of(other, ["the cat is in the garden and the dog is in the house " * 3])
        assert index.stats()["passages"] == len(spans[0]) > 1


@pytest.mark.usefixtures("short_receipt")
def test_what_cannot_do_it(checkpoint: Checkpoints, tmp_path: Path) -> None:
    """Static bundles, other poolings, and layers behind the pooling: named when the index is made, which is not."""
    export_model(checkpoint("dense", dense="torch.nn.modules.activation.Tanh"), tmp_path / "dense.b", precision="fp32")
    cases = [(Embedder("static"), "runs a network"), (Embedder(tmp_path / "dense.b", threads=1), "follow its pooling")]
    for embedder, message in cases:
        with pytest.raises(InputError, match=message):
            Index.open(tmp_path / "no.db", embedder, late_chunking=True)
        assert not (tmp_path / "no.db").exists()
    with pytest.raises(InputError, match="needs an Embedder"):
        check_late("a bundle")


def test_truncated_dimensions(bundle: Path) -> None:
    """An embedder of fewer dimensions has the first numbers of the means, of length 1."""
    short = Embedder(bundle, threads=1, truncate_dim=64)
    check_late(short)
    _, vectors = vectors_of(short, [STORY])
    _, whole = vectors_of(Embedder(bundle, threads=1), [STORY])
    expected = whole[:, :64] / np.linalg.norm(whole[:, :64], axis=1, keepdims=True)
    assert np.abs(vectors - expected).max() < 1e-6


def test_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`edge-embed add --late-chunking` makes such an index; the next add needs no option."""
    monkeypatch.chdir(tmp_path)
    Path("story.txt").write_text(STORY)

    def run(*arguments: str) -> str:
        result = CliRunner().invoke(main, [*arguments, "--threads=1"] if arguments[0] == "add" else list(arguments))
        assert result.exit_code == 0, result.output
        return result.output

    run("add", "a.db", "story.txt", "--late-chunking")
    assert "late_chunking" in run("info", "a.db")
    Path("note.txt").write_text(NOTE)
    assert "1 stored, 1 unchanged" in run("add", "a.db", "story.txt", "note.txt")
