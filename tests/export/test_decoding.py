"""`decode`: large JPEGs decoded at a fraction of their size, with a receipt of what that changes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders.pictures import photo, saved
from builders.towers import write_tower
from PIL import Image

from edge_embed import Embedder
from edge_embed.errors import InputError
from edge_embed_export import TowerOptions, export_model
from edge_embed_export.calibration import pictures
from edge_embed_export.towers.decoding import decoded


def export(tmp_path: Path, **towers: Any) -> Any:
    source = write_tower(tmp_path / "source", "clip")
    chosen = TowerOptions(only=["image"], **towers)
    return export_model(source, tmp_path / "bundle", precision="fp32", towers=chosen)


def test_scaled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The manifest says so, the receipt has the cosines, and a large JPEG is read with fewer pixels."""
    monkeypatch.setattr(pictures, "LARGE", (360, 480))
    manifest = export(tmp_path, decode="scaled")
    tower = manifest.towers["image"]
    assert tower.front["decode"] == "scaled"
    found = tower.receipt["decode"]["cosine_to_full"]
    assert 0.5 < found["min"] <= found["mean"] <= 1
    embedder = Embedder(tmp_path / "bundle", threads=1)
    content = saved(Image.fromarray(photo(480, 640)), quality=60)
    scaled, whole = embedder.encode_image([content]), embedder.encode_image([np.asarray(opened(content))])
    assert not np.array_equal(scaled, whole)
    assert float(scaled[0] @ whole[0]) > 0.5


def opened(content: bytes) -> Image.Image:
    from io import BytesIO

    return Image.open(BytesIO(content))


def test_full(tmp_path: Path) -> None:
    """What is usual has no receipt of its own."""
    tower = export(tmp_path).towers["image"]
    assert tower.front["decode"] == "full"
    assert "decode" not in tower.receipt


def test_refused() -> None:
    with pytest.raises(InputError, match="decode is 'half', expected one of"):
        TowerOptions(decode="half")
    with pytest.raises(InputError, match="this model reads none"):
        decoded({"rate": 16_000}, "audio", "scaled")
    front = {"decode": "scaled"}
    assert decoded(front, "image", None) is front
