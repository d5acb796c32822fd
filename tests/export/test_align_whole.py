"""`edge-embed align` end to end: colours found by captions that nothing was trained on."""

import json
import sys
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders.colours import colour_bundle
from builders.convtowers import write_conv_tower
from click.testing import CliRunner
from PIL import Image

from edge_embed import Embedder
from edge_embed.cli.main import main
from edge_embed.embedder import bundle_path
from edge_embed_export.align.align import AlignOptions, align_tower
from edge_embed_runtime.bundle.bundle import read_bundle
from edge_embed_runtime.errors import InputError, MissingExtraError

COLOURS = {"red": (210, 30, 30), "green": (30, 150, 40), "blue": (30, 50, 210), "yellow": (230, 210, 40)}
SHAPES = ("square", "stripe", "corner", "frame", "line", "cross", "half", "dot")


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Each colour in each shape, three pictures of one caption, and a file that is no picture."""
    folder = tmp_path_factory.mktemp("pairs")
    rows = []
    for name, colour in COLOURS.items():
        for place, shape in enumerate(SHAPES):
            for number in range(3):
                pixels = np.full((48, 48, 3), 255, np.uint8)
                pixels[place * 3 : 24 + place * 3, number * 5 : 40] = colour
                Image.fromarray(pixels).save(folder / f"{name}-{shape}-{number}.png")
                rows.append({"path": f"{name}-{shape}-{number}.png", "captions": [f"a {name} {shape}", name]})
    (folder / "odd.png").write_bytes(b"no picture")
    rows.append({"path": "odd.png", "caption": "a red square"})
    path = folder / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def tower(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random convolutional network."""
    return write_conv_tower(tmp_path_factory.mktemp("tower") / "conv")


def align(pairs: Path, out: Path, tower: Path, **options: Any) -> Any:
    return align_tower(
        pairs,
        out,
        tower,
        bundle_path("static"),
        AlignOptions("image", held_out=0.2, views=1),
        **options,
    )


def test_colours_are_found_by_captions_never_seen(pairs: Path, tower: Path, tmp_path: Path) -> None:
    """A projection behind a random network tells colours: held-out captions find one of their files better than by
    chance, the bundle holds texts and pictures, and the same seed gives the same files."""
    aligned = align(pairs, tmp_path / "out", tower)
    figures = aligned.figures["held_out"]
    assert figures["found@1"] > 2 * figures["chance@1"]
    assert [Path(str(error.path)).name for error in aligned.unreadable] == ["odd.png"]
    assert aligned.figures["receipt"]["cosine_to_fp32"]["mean"] > 0.99
    embedder = Embedder(tmp_path / "out")
    assert embedder.modalities == ("text", "image")
    assert embedder.space == read_bundle(bundle_path("static")).manifest.fingerprint
    red, blue = embedder.encode_image([pairs.parent / "red-square-0.png", pairs.parent / "blue-square-0.png"])
    asked = embedder.encode_query(["red", "blue"])
    assert red @ asked[0] > red @ asked[1]
    assert blue @ asked[1] > blue @ asked[0]
    again = align(pairs, tmp_path / "again", tower, name="out")
    assert again.manifest.fingerprint == aligned.manifest.fingerprint


def test_a_tower_alone(pairs: Path, tower: Path, tmp_path: Path) -> None:
    """--tower-only leaves the text model out; the space is named."""
    manifest = align(pairs, tmp_path / "out", tower, tower_only=True).manifest
    assert manifest.modalities == ("image",)
    assert manifest.space == read_bundle(bundle_path("static")).manifest.fingerprint
    assert manifest.towers["image"].provenance["aligned"]["pairs"] == 97


def test_command(pairs: Path, tower: Path, tmp_path: Path) -> None:
    """The command writes the bundle, prints its figures, and names what it could not read."""
    options = ["--image-tower", str(tower), "--text-bundle", "static", "--held-out", "0.2", "--views", "2", "--json"]
    cache = ["--cache", str(tmp_path / "cache")]
    result = CliRunner().invoke(main, ["align", str(pairs), str(tmp_path / "out"), *options, *cache])
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    assert {"recall@1", "recall@10", "found@10"} <= said["held_out"].keys()
    assert "skipped: " in result.stderr
    assert "odd.png" in result.stderr


def test_bundles_that_do_not_fit(pairs: Path, tower: Path, tmp_path: Path) -> None:
    """The text bundle has to embed texts."""
    with pytest.raises(InputError, match="no dense vectors of texts"):
        align_tower(pairs, tmp_path / "out", tower, tower, AlignOptions("image"))
    assert not (tmp_path / "out").exists()


def test_without_onnx(pairs: Path, tower: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where onnx is missing, the error has the pip line."""
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'edge-embed\[train\]'"):
        align(pairs, tmp_path / "out", tower)


def test_sounds(tmp_path: Path) -> None:
    """A tower of sounds whose vectors lie in the texts' space already: windows are learnt from, its vector is added."""
    rate, rows = 16_000, []
    for number in range(24):
        tone = np.sin(2 * np.pi * (100 + 60 * number) * np.arange(int(1.5 * rate)) / rate)
        with wave.open(str(tmp_path / f"{number}.wav"), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(rate)
            file.writeframes((tone * 2**14).astype("<i2").tobytes())
        rows.append({"audio": f"{number}.wav", "caption": f"a tone of {100 + 60 * number} hertz"})
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text("".join(json.dumps(row) + "\n" for row in rows))
    tower = colour_bundle(tmp_path / "colours")
    options = AlignOptions("audio", held_out=0.2, precision="fp32")
    aligned = align_tower(pairs, tmp_path / "out", tower, bundle_path("static"), options)
    assert aligned.manifest.modalities == ("text", "audio")
    assert aligned.figures["held_out"]["files"] > 0
    vectors = Embedder(tmp_path / "out").encode_audio([tmp_path / "0.wav"])
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert not np.allclose(vectors, Embedder(tower).encode_audio([tmp_path / "0.wav"]), atol=1e-3)
