"""options.py and detect.py: what is asked is checked once, and each source is taken in one way."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from builders.bert import Checkpoints

from edge_embed.errors import InputError
from edge_embed_export import GraphOptions, export_model
from edge_embed_export.detect import SOURCES
from edge_embed_export.files import reading
from edge_embed_export.modules.folder import Folder
from edge_embed_export.options import ExportOptions
from edge_embed_export.request import Request


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"precision": "int2"}, "precision is 'int2', expected one of"),
        ({"table": "fp32"}, "table is 'fp32', expected one of"),
        ({"side": "left"}, "side is 'left', expected one of"),
        ({"attention": "both"}, "attention is 'both', expected one of"),
        ({"kind": "hybrid"}, "kind is 'hybrid', expected one of"),
        ({"verify": "always"}, "verify is 'always', expected one of"),
        ({"similarity": "dot"}, "expected 'cosine'"),
        ({"precision": "fp32", "search": True}, "quantizes nothing"),
        ({"precision": "fp32", "table": "int4"}, "quantizes nothing"),
        ({"search": True, "recipes": "bundle"}, "choose one"),
        ({"graph": GraphOptions(convert=True, file="model.onnx")}, "choose one"),
        ({"max_tokens": 2}, "max_tokens"),
        ({"prompts": {"query": 3}}, "the prompt of 'query'"),
        ({"ignore": [3]}, "a name to ignore"),
    ],
)
def test_values_that_cannot_be_meant(options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        ExportOptions(**options)


def test_what_says_something() -> None:
    """Values that are what an option is without being given say nothing."""
    options = ExportOptions(table="int4", adapters={}, task="x", graph=GraphOptions(), precision="int4")
    assert options.given("table", "adapters", "task", "graph", "search", "int4") == ["table", "task", "int4"]


def _way(source: Path, **options: Any) -> str:
    asked = ExportOptions(**options)
    request = Request(source, Folder.of(source, asked.side), Path("out"), asked)
    return next(type(way).__name__ for way in SOURCES if way.fits(request))


def test_each_source_has_one_way(checkpoint: Checkpoints, tmp_path: Path) -> None:
    plain, both, unknown = checkpoint("plain"), checkpoint("both"), checkpoint("unknown", model_type="other")
    for folder in (both, unknown):
        (folder / "model.onnx").touch()
    assert _way(plain) == _way(both) == "CheckpointFolder"
    assert (
        _way(unknown) == _way(both / "model.onnx") == _way(both, graph=GraphOptions(file="model.onnx")) == "OnnxGraph"
    )
    assert _way(plain, graph=GraphOptions(convert=True)) == "Converted"
    table = tmp_path / "table"
    table.mkdir()
    (table / "config.json").write_text(json.dumps({"model_type": "model2vec"}))
    assert _way(table) == _way(table, graph=GraphOptions(convert=True)) == "StaticFolder"
    words = tmp_path / "glove.txt"
    words.touch()
    assert _way(words) == "WordVectorFile"
    elmo = tmp_path / "elmo"
    elmo.mkdir()
    (elmo / "x_options.json").write_text(json.dumps({"char_cnn": {}}))
    assert _way(elmo) == "ElmoFolder"
    assert _way(tmp_path / "nothing") == "CheckpointFolder"


@pytest.mark.usefixtures("short_receipt")
def test_configs_of_a_folder_are_read_once(
    checkpoint: Checkpoints, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, read, opened = checkpoint(), reading.read_limited, Counter[str]()
    settings = source / "config_sentence_transformers.json"
    settings.write_text(json.dumps({"prompts": {"query": "a "}, "default_prompt_name": "query"}))

    def counted(path: Path, limit: int) -> bytes:
        opened[path.relative_to(source).as_posix()] += 1
        return read(path, limit)

    monkeypatch.setattr(reading, "read_limited", counted)
    manifest = export_model(source, tmp_path / "out", precision="fp32")
    assert manifest.prompts["query"] == "a "
    assert [opened[name] for name in ("config.json", "modules.json", settings.name)] == [1, 1, 1]
