"""bundle.py: written whole or not at all, verified before any parser sees a byte."""

import contextlib
import errno
import json
import os
import shutil
from pathlib import Path

import pytest

from edge_embed import Embedder
from edge_embed.errors import (
    BundleDamagedError,
    BundleError,
    BundleFormatError,
    GoldenError,
    InputError,
    StorageError,
)
from edge_embed_runtime.bundle.bundle import file_records, read_bundle, write_bundle
from edge_embed_runtime.bundle.manifest import MANIFEST, MODEL, PAYLOAD, TOKENIZER, Manifest, manifest_of


@pytest.fixture
def copy(tiny_bundle: Path) -> Path:
    """A bundle that a test may damage."""
    return tiny_bundle


def edit(folder: Path, **changes: object) -> None:
    """Change fields of the manifest; its hash fits again where that can be."""
    path = folder / MANIFEST
    content = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps(content))
    with contextlib.suppress(KeyError, TypeError, ValueError, AttributeError):
        path.write_bytes(manifest_of(content).to_json())


@pytest.mark.parametrize("name", [*PAYLOAD, MANIFEST])
@pytest.mark.parametrize("place", [0.0, 0.5, 0.999])
def test_flipped_byte_is_refused(copy: Path, name: str, place: float) -> None:
    """One wrong bit anywhere is an error, in the manifest too."""
    data = bytearray((copy / name).read_bytes())
    data[int(place * len(data))] ^= 0x10
    (copy / name).write_bytes(data)
    with pytest.raises(BundleError):
        read_bundle(copy)


@pytest.mark.parametrize("name", PAYLOAD)
def test_wrong_size_is_refused(copy: Path, name: str) -> None:
    """A file that is cut off or longer is named, with the size that is expected."""
    with (copy / name).open("ab") as file:
        file.write(b"x")
    with pytest.raises(BundleDamagedError, match=rf"{name}.*expected"):
        read_bundle(copy)


@pytest.mark.parametrize("name", PAYLOAD)
def test_missing_file_is_named(copy: Path, name: str) -> None:
    """A missing file is named."""
    (copy / name).unlink()
    with pytest.raises(BundleDamagedError, match=f"{name} missing"):
        read_bundle(copy)


def test_extra_file_is_named(copy: Path) -> None:
    """A file that the manifest does not list is refused, whatever it is."""
    (copy / "weights.bin").write_bytes(b"")
    with pytest.raises(BundleDamagedError, match=r"weights\.bin not part of it"):
        read_bundle(copy)


@pytest.mark.parametrize("name", [*PAYLOAD, MANIFEST])
def test_symbolic_link_is_refused(copy: Path, tmp_path: Path, name: str) -> None:
    """A symbolic link is refused even where it leads to the right bytes."""
    (copy / name).rename(tmp_path / "elsewhere")
    (copy / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BundleDamagedError, match="symbolic link"):
        read_bundle(copy)


@pytest.mark.parametrize("name", [*PAYLOAD, MANIFEST])
def test_pipes_and_folders_are_no_files(copy: Path, name: str) -> None:
    """A named pipe or a folder in place of a file is refused at once."""
    (copy / name).unlink()
    os.mkfifo(copy / name)
    with pytest.raises(BundleDamagedError, match="not a regular file"):
        read_bundle(copy)
    (copy / name).unlink()
    (copy / name).mkdir()
    with pytest.raises(BundleDamagedError, match="not a regular file"):
        read_bundle(copy)


def test_what_is_not_a_bundle(tmp_path: Path) -> None:
    """A missing path, a file and a folder without a manifest are told apart."""
    (tmp_path / "file").write_text("x")
    for path, message in [("none", "does not exist"), ("file", "is a file"), (".", "has no manifest.json")]:
        with pytest.raises(BundleFormatError, match=message):
            read_bundle(tmp_path / path)


@pytest.mark.parametrize(
    "raw",
    [b"", b"[]", b"{}", b'{"schema": 2}', b'{"schema": 1}', b"[" * 100_000, b"\xff", b'{"schema": 1, "files": 3}'],
)
def test_malformed_manifest_is_refused(copy: Path, raw: bytes) -> None:
    """Whatever stands in manifest.json, the error is ours."""
    (copy / MANIFEST).write_bytes(raw)
    with pytest.raises(BundleFormatError):
        read_bundle(copy)


@pytest.mark.parametrize(
    "changes",
    [
        {"dim": 0},
        {"dim": 10**9},
        {"max_tokens": 1},
        {"max_tokens": "many"},
        {"prompts": {"query": 3}},
        {"golden": [{"text": "a", "vector": [1.0]}]},
        {"files": {}},
        {"files": {"../model.onnx": {"sha256": "", "size": 1}, TOKENIZER: {"sha256": "", "size": 1}}},
    ],
)
def test_impossible_manifest_is_refused(copy: Path, changes: dict[str, object]) -> None:
    """Values out of range and files of other names are refused before any file is read."""
    edit(copy, **changes)
    with pytest.raises(BundleFormatError):
        read_bundle(copy)


def test_manifest_cannot_be_changed_unnoticed(copy: Path) -> None:
    """A manifest edited by hand is refused, even where only white space differs."""
    raw = (copy / MANIFEST).read_bytes()
    for edited in (raw.replace(b"apache-2.0", b"apache-2.1"), raw + b"\n"):
        (copy / MANIFEST).write_bytes(edited)
        with pytest.raises(BundleDamagedError, match="hash does not fit"):
            read_bundle(copy)


def test_golden_vectors_must_be_reproduced(copy: Path) -> None:
    """A machine that gets other vectors than the exporter's is refused, with the cosine seen."""
    golden = json.loads((copy / MANIFEST).read_text())["golden"]
    golden[0]["vector"][:16] = [-x for x in golden[0]["vector"][:16]]
    edit(copy, golden=golden)
    with pytest.raises(GoldenError, match=r"cosine -?0\.\d+"):
        Embedder(copy)


def test_model_replaced_while_loading_is_noticed(copy: Path) -> None:
    """What onnxruntime read is what was hashed."""
    loaded = read_bundle(copy)
    data = (copy / MODEL).read_bytes()
    (copy / MODEL).unlink()
    (copy / MODEL).write_bytes(data)
    with pytest.raises(BundleDamagedError, match="was changed"):
        Embedder(loaded)


def test_model_that_is_no_encoder_is_refused(copy: Path) -> None:
    """A valid ONNX file with other inputs, and bytes that are no ONNX file, are format errors."""
    import onnx

    h = onnx.helper
    value = h.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    graph = h.make_graph([h.make_node("Identity", ["x"], ["y"])], "g", [value], [h.make_tensor_value_info("y", 1, [1])])
    other = h.make_model(graph, ir_version=10, opset_imports=[h.make_opsetid("", 17)]).SerializeToString()
    for model in (other, b"not onnx"):
        (copy / MODEL).write_bytes(model)
        contents = {name: (copy / name).read_bytes() for name in PAYLOAD}
        edit(copy, files={name: vars(record) for name, record in file_records(contents).items()})
        with pytest.raises(BundleFormatError, match=r"encoder|cannot load"):
            Embedder(copy)


def manifest_for(contents: dict[str, bytes]) -> Manifest:
    return Manifest("m", file_records(contents), dim=2, max_tokens=8, pooling="mean", architecture={})


CONTENTS = {MODEL: b"model", TOKENIZER: b"tokenizer"}


def test_write_then_read(tmp_path: Path) -> None:
    """What was written is read back equal, and nothing else lies in the folder."""
    write_bundle(tmp_path / "b", manifest_for(CONTENTS), CONTENTS)
    assert read_bundle(tmp_path / "b").manifest == manifest_for(CONTENTS)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["b"]


def test_nothing_is_overwritten_unasked(tmp_path: Path) -> None:
    """A folder that is there stays; even with overwrite only a bundle is replaced."""
    (tmp_path / "photos").mkdir()
    for overwrite in (False, True):
        with pytest.raises(InputError, match="not a bundle"):
            write_bundle(tmp_path / "photos", manifest_for(CONTENTS), CONTENTS, overwrite=overwrite)
    write_bundle(tmp_path / "b", manifest_for(CONTENTS), CONTENTS)
    with pytest.raises(InputError, match="--force"):
        write_bundle(tmp_path / "b", manifest_for(CONTENTS), CONTENTS)
    changed = {**CONTENTS, MODEL: b"another"}
    write_bundle(tmp_path / "b", manifest_for(changed), changed, overwrite=True)
    assert (tmp_path / "b" / MODEL).read_bytes() == b"another"


def test_force_never_removes_what_is_not_of_a_bundle(tmp_path: Path) -> None:
    """A folder with any other file in it stays, whatever its manifest.json is; a link stays a link."""
    write_bundle(tmp_path / "b", manifest_for(CONTENTS), CONTENTS)
    (tmp_path / "b" / "notes.txt").write_text("mine")
    (tmp_path / "extension").mkdir()
    (tmp_path / "extension" / MANIFEST).write_text('{"manifest_version": 3}')
    (tmp_path / "link").symlink_to(tmp_path / "b")
    for name in ("b", "extension", "link"):
        with pytest.raises(InputError, match="not a bundle"):
            write_bundle(tmp_path / name, manifest_for(CONTENTS), CONTENTS, overwrite=True)
    assert (tmp_path / "b" / "notes.txt").read_text() == "mine"


def test_interruption_between_the_renames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C at the worst moment leaves the old bundle in its place."""
    write_bundle(tmp_path / "b", manifest_for(CONTENTS), CONTENTS)
    original = Path.rename

    def interrupted(self: Path, target: Path) -> Path:
        if self.name == "new":
            raise KeyboardInterrupt
        return original(self, target)

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_bundle(tmp_path / "b", manifest_for(CONTENTS), CONTENTS, overwrite=True)
    assert read_bundle(tmp_path / "b").manifest == manifest_for(CONTENTS)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["b"]


@pytest.mark.parametrize("call", range(1, 7))
def test_failed_write_leaves_the_old_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: int) -> None:
    """Whichever fsync or rename fails, the old bundle is whole and no litter stays."""
    write_bundle(tmp_path / "b", manifest_for(CONTENTS), CONTENTS)
    calls = 0

    def failing(name: str) -> None:
        original = getattr(os, name) if name == "fsync" else getattr(Path, name)

        def run(*arguments: object) -> object:
            nonlocal calls
            calls += 1
            if calls == call:
                raise OSError(28, "No space left on device")
            return original(*arguments)

        monkeypatch.setattr(os if name == "fsync" else Path, name, run)

    failing("fsync")
    failing("rename")
    changed = {**CONTENTS, MODEL: b"another"}
    with pytest.raises(StorageError, match="No space left"):
        write_bundle(tmp_path / "b", manifest_for(changed), changed, overwrite=True)
    monkeypatch.undo()
    assert read_bundle(tmp_path / "b").manifest == manifest_for(CONTENTS)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["b"]


def test_default_bundle_fits_its_promises(bundle: Path) -> None:
    """The embedded bundle is whole, at most 24 MB, and names its licence and the official weights."""
    manifest = read_bundle(bundle).manifest
    assert sum(path.stat().st_size for path in bundle.iterdir()) <= 24_000_000
    assert manifest.provenance["licence"] == "apache-2.0"
    assert manifest.provenance["weights_sha256"].startswith("53aa51172d142c89d9012cce15ae4d6c")
    assert manifest.receipt["cosine_to_fp32"]["mean"] >= 0.998


def test_hard_linked_copy_loads(bundle: Path, tmp_path: Path) -> None:
    """Installers hard-link files from their cache; such a bundle loads."""
    shutil.copytree(bundle, tmp_path / "linked", copy_function=os.link)
    assert Embedder(tmp_path / "linked").dim == 384


@pytest.mark.parametrize(("number", "kind"), [(errno.EACCES, BundleFormatError), (errno.ENOMEM, MemoryError)])
def test_a_folder_that_cannot_be_read(
    copy: Path, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[Exception]
) -> None:
    """One error that says why, not the system's."""

    def scandir(path: Path) -> None:
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(kind, match="cannot be read"):
        read_bundle(copy)
