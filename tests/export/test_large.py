"""Bundles whose weights lie in a second file: made, loaded, damaged, replaced."""

import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from builders.bert import Checkpoints
from builders.olderbundles import saturating

from edge_embed import Embedder
from edge_embed.errors import (
    BundleDamagedError,
    BundleFormatError,
    ExportError,
    FidelityError,
    InputError,
    StorageError,
)
from edge_embed_export import export_model
from edge_embed_export.pruning import rows as cut
from edge_embed_export.pruning.rows import cut_model
from edge_embed_export.transformer import builder as graph
from edge_embed_export.transformer import workshop
from edge_embed_runtime.bundle.bundle import read_bundle
from edge_embed_runtime.bundle.manifest import LARGE_PAYLOAD, MANIFEST, MODEL, SCHEMA, WEIGHTS
from edge_embed_runtime.onnxfile.allowed import Sidecar, check_model
from edge_embed_runtime.onnxfile.mapped import weights_of

pytestmark = pytest.mark.usefixtures("short_receipt")

TEXTS = ["the river bank", "a cat", "", "red house in the garden at night of the day to a dog"]
LEAST, LARGEST = 512, 10_000  # bytes: of a weight in the second file, of a model that needs one


@pytest.fixture
def second_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every model is too large for its own file."""
    monkeypatch.setattr(graph, "APART_BYTES", LEAST)
    monkeypatch.setattr(graph, "LARGEST", LARGEST)


@pytest.fixture
def large(checkpoint: Checkpoints, tmp_path: Path, second_file: None) -> Path:
    """An int8 bundle with a second file."""
    export_model(checkpoint("source"), tmp_path / "large")
    return tmp_path / "large"


@pytest.mark.parametrize("precision", ["int8", "int4", "fp32"])
@pytest.mark.slow
def test_the_second_file_changes_no_bit(
    checkpoint: Checkpoints, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    """A model in two files gives the vectors of the model in one: also with saturating products avoided, within a
    memory budget, and of its inner layers."""
    source = checkpoint("source")
    one = export_model(source, tmp_path / "one", precision=precision, floor=0.0)
    monkeypatch.setattr(graph, "APART_BYTES", LEAST)
    monkeypatch.setattr(graph, "LARGEST", LARGEST)
    two = export_model(source, tmp_path / "two", precision=precision, floor=0.0)
    assert tuple(two.files) == LARGE_PAYLOAD
    assert json.loads((tmp_path / "one" / MANIFEST).read_text())["schema"] == SCHEMA
    assert json.loads((tmp_path / "two" / MANIFEST).read_text())["schema"] == 2
    assert one.fingerprint != two.fingerprint
    assert two.receipt["bytes"] == sum(record.size for record in two.files.values())
    for name in ("one", "two"):
        saturating(tmp_path / name)  # so that there is an exact form
    for options in ({}, {"exact": True}, {"max_rss_mb": 4000}):
        first, second = (Embedder(tmp_path / name, threads=1, **options) for name in ("one", "two"))
        assert np.array_equal(first.encode(TEXTS), second.encode(TEXTS))
        inner = [[text.vectors for text in e.encode_tokens(TEXTS, layer=1)] for e in (first, second)]
        assert all(np.array_equal(a, b) for a, b in zip(*inner, strict=True))
    assert sum(w.bytes for w in weights_of(tmp_path / "two" / MODEL)) > (tmp_path / "two" / WEIGHTS).stat().st_size / 4


def test_bundles_that_need_no_second_file_have_none(checkpoint: Checkpoints, tmp_path: Path) -> None:
    """And their manifests are what they were."""
    manifest = export_model(checkpoint("source"), tmp_path / "b")
    assert sorted(entry.name for entry in (tmp_path / "b").iterdir()) == [
        "manifest.json",
        "model.onnx",
        "tokenizer.json",
    ]
    assert json.loads((tmp_path / "b" / MANIFEST).read_text())["schema"] == SCHEMA == manifest.schema


def _tamper(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def _link(path: Path) -> None:
    elsewhere = path.parent.with_name("elsewhere")
    path.rename(elsewhere)
    path.symlink_to(elsewhere)


def _swap(path: Path) -> None:
    path.write_bytes(np.random.default_rng(0).bytes(path.stat().st_size))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_tamper, "its sha256 differs"),
        (_cut, "bytes, expected"),
        (_link, "symbolic link"),
        (_swap, "its sha256 differs"),
        (Path.unlink, "model.weights missing"),
        (lambda path: path.with_name("model.weights2").write_bytes(b"x"), "not part of it"),
    ],
)
@pytest.mark.slow
def test_damage_is_found_before_the_model_is_loaded(large: Path, damage: Any, said: str) -> None:
    """Of the second file as of the others."""
    damage(large / WEIGHTS)
    with pytest.raises(BundleDamagedError, match=said):
        Embedder(large, threads=1)
    with pytest.raises(BundleDamagedError, match=said):
        read_bundle(large)


def test_a_file_that_changes_while_it_is_loaded(large: Path) -> None:
    """It was verified, and is another now."""
    loaded = read_bundle(large)
    os.utime(large / WEIGHTS, ns=(1, 1))
    with pytest.raises(BundleDamagedError, match="was changed while it was being loaded"):
        loaded.check_unchanged()


def test_the_schema_belongs_to_the_files(large: Path) -> None:
    """A manifest that says the first schema and lists a second file was changed."""
    path = large / MANIFEST
    path.write_text(path.read_text().replace('"schema": 2', '"schema": 1'))
    with pytest.raises(BundleDamagedError, match="was changed after the export"):
        read_bundle(large)
    path.write_text(path.read_text().replace('"schema": 1', '"schema": 5'))
    with pytest.raises(BundleFormatError, match="schema version 5; this release reads up to 4"):
        read_bundle(large)


OTHER, WITHIN = "another file than model.weights", "do not lie in model.weights"
# What is done to a tensor (an entry of its external data, or another field), and what the error says.
HOSTILE: dict[str, tuple[str, Any, str]] = {
    "outside": ("location", "../secret", OTHER),
    "absolute": ("location", "/etc/passwd", OTHER),
    "itself": ("location", MODEL, OTHER),
    "beyond": ("offset", "99999999", WITHIN),
    "negative": ("offset", "-4096", "with the offset '-4096'"),
    "short": ("length", "1", WITHIN),
    "no length": ("length", None, "with the length ''"),
    "more": ("checksum", "0", OTHER),
    "not external": ("data_location", 0, "does not say where"),
    "large": ("dims", 2**40, WITHIN),
    "both": ("raw_data", b"1234", "not an ONNX model: field 9"),
}


def edit(tensor: Any, key: str, value: Any) -> None:
    entries = [entry for entry in tensor.external_data if entry.key == key]
    if key == "dims":
        tensor.dims.append(value)
    elif key in ("data_location", "raw_data"):
        setattr(tensor, key, value)
    elif value is None:
        tensor.external_data.remove(entries[0])
    elif entries:
        entries[0].value = value
    else:
        tensor.external_data.add(key=key, value=value)


@pytest.mark.parametrize("change", HOSTILE)
@pytest.mark.slow
def test_weights_must_lie_in_the_second_file(large: Path, change: str) -> None:
    """A model that wants numbers from elsewhere, or from beyond the end, is refused before it is loaded."""
    key, value, said = HOSTILE[change]
    size = (large / WEIGHTS).stat().st_size
    model = onnx.load(str(large / MODEL), load_external_data=False)
    check_model(model.SerializeToString(), "it", Sidecar(WEIGHTS, size))
    tensor = next(tensor for tensor in model.graph.initializer if tensor.external_data)
    edit(tensor, key, value)
    with pytest.raises(BundleFormatError, match=said):
        check_model(model.SerializeToString(), "it", Sidecar(WEIGHTS, size))
    with pytest.raises(BundleFormatError, match="weights in another file"):
        check_model((large / MODEL).read_bytes(), "it")


def test_a_bundle_is_replaced_whole(large: Path, checkpoint: Checkpoints, monkeypatch: pytest.MonkeyPatch) -> None:
    """By one with a second file or without, and only where that was asked for; a copy is the same bundle."""
    other = checkpoint("other", hidden_act="relu")
    with pytest.raises(InputError, match="--force"):
        export_model(other, large)
    shutil.copytree(large, large.with_name("copy"))
    expected = Embedder(large, threads=1).encode(TEXTS)
    assert np.array_equal(Embedder(large.with_name("copy"), threads=1).encode(TEXTS), expected)
    export_model(other, large, overwrite=True)
    assert not np.array_equal(Embedder(large, threads=1).encode(TEXTS), expected)
    monkeypatch.undo()
    export_model(other, large, overwrite=True)
    assert not (large / WEIGHTS).exists()


@pytest.mark.parametrize("kind", ["floor", "full", "interrupt", "forbidden"])
def test_nothing_is_left_of_an_export_that_fails(
    checkpoint: Checkpoints, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, second_file: None, kind: str
) -> None:
    """Neither beside the target nor in it: too far from float32, a disk that is full, Ctrl-C."""
    source = checkpoint("source")
    before = sorted(entry.name for entry in tmp_path.iterdir())
    expected: dict[str, tuple[type[BaseException], str]] = {
        "floor": (FidelityError, "nothing was written"),
        "full": (StorageError, "No space left on device; nothing was changed"),
        "interrupt": (KeyboardInterrupt, ""),
        "forbidden": (StorageError, "Permission denied; nothing was changed"),
    }
    error, said = expected[kind]
    if kind != "floor":
        full = OSError(errno.ENOSPC, "No space left on device")
        forbidden = OSError(errno.EACCES, "Permission denied")
        raised: BaseException = {"interrupt": KeyboardInterrupt(), "full": full, "forbidden": forbidden}[kind]

        def fail(*_: object) -> None:
            raise raised

        if kind == "forbidden":
            monkeypatch.setattr(workshop.tempfile, "mkdtemp", lambda **_: fail())
        else:
            monkeypatch.setattr(workshop.WeightsFile, "_write", fail)
    with pytest.raises(error, match=said or None):
        export_model(source, tmp_path / "deep" / "b", floor=1.0 if kind == "floor" else None)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == before


def test_what_is_there_is_refused_before_work(checkpoint: Checkpoints, tmp_path: Path) -> None:
    """Not after hours of it."""
    (tmp_path / "b").mkdir()
    said: list[str] = []
    with pytest.raises(InputError, match="is not a bundle"):
        export_model(checkpoint("source"), tmp_path / "b", progress=said.append)
    assert not said


def test_a_pruned_model_needs_no_second_file(
    checkpoint: Checkpoints, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where what is left fits into one, it is the pruned model that never had two; else it is refused."""
    source = checkpoint("source")
    export_model(source, tmp_path / "one")
    monkeypatch.setattr(graph, "APART_BYTES", LEAST)
    monkeypatch.setattr(graph, "LARGEST", LARGEST)
    export_model(source, tmp_path / "two")
    kept = np.array([0, 1, 2, 3, 4, 9, 11])
    models = [onnx.load_model_from_string(cut_model(tmp_path / name / MODEL, kept)) for name in ("one", "two")]
    arrays = [{t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer} for model in models]
    assert arrays[0].keys() == arrays[1].keys()
    assert all(np.array_equal(array, arrays[1][name]) for name, array in arrays[0].items())
    assert arrays[1]["embedding.word"].shape == (7, 32)
    monkeypatch.setattr(cut, "LARGEST", 1000)
    with pytest.raises(ExportError, match="more than a file can hold"):
        cut_model(tmp_path / "two" / MODEL, kept)


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="the system does not tell what is in memory")
def test_weights_that_are_kept_take_no_memory(tmp_path: Path) -> None:
    """They lie in the file, are the same numbers, and go from memory when they are let go of."""
    kept = workshop.WeightsFile(tmp_path)
    arrays = [np.random.default_rng(i).integers(-127, 127, (300, 4099), np.int8) for i in range(4)]
    lying = [kept.keep(f"w{i}", array) for i, array in enumerate(arrays)]
    assert all(np.array_equal(a, b) for a, b in zip(lying, arrays, strict=True))
    assert not kept.used
    kept.let_go()
    lines = Path("/proc/self/smaps").read_text().splitlines()
    starts = [i for i, line in enumerate(lines) if line.endswith(str(kept.path))]
    assert sum(int(line.split()[1]) for i in starts for line in lines[i + 1 : i + 6] if line.startswith("Rss:")) < 1000
    place = kept("w2", arrays[2])
    assert kept.path.read_bytes()[int(place["offset"]) :][: int(place["length"])] == arrays[2].tobytes()
    assert int(place["offset"]) % workshop.ALIGNMENT == 0
