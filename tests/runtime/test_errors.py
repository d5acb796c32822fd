"""Errors as programs see them: a code that does not change, and fields beside the message."""

import copy
import errno
import json
import math
import os
import pickle
import shutil
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from edge_embed import Document, Embedder, Index, dump_vectors, errors, load_vectors
from edge_embed_runtime.errors import Code, about

# What programs compare with: a change here is a change of the public contract.
CODES = {
    "EdgeEmbedError": "error",
    "MemoryBudgetError": "memory_budget",
    "InputError": "invalid_input",
    "DocumentError": "invalid_document",
    "MediaError": "bad_media",
    "DuplicateKeyError": "duplicate_key",
    "TruncationError": "text_too_long",
    "FilterError": "invalid_filter",
    "SourceError": "invalid_source",
    "BundleError": "bundle_unusable",
    "BundleFormatError": "bundle_format",
    "BundleDamagedError": "bundle_damaged",
    "DeadlineError": "deadline",
    "GoldenError": "golden_mismatch",
    "IndexFileError": "index_unusable",
    "IndexFormatError": "index_format",
    "IndexDamagedError": "index_damaged",
    "IndexLockedError": "index_locked",
    "IndexReadOnlyError": "index_read_only",
    "IndexClosedError": "index_closed",
    "BundleMismatchError": "bundle_mismatch",
    "StorageError": "storage_failed",
    "ExportError": "export_failed",
    "FidelityError": "low_fidelity",
    "UnsupportedModelError": "unsupported_model",
    "MissingExtraError": "missing_extra",
}
# Codes that say more than the class.
FINER = {
    "bad_audio", "bad_image", "disk_full", "forked", "index_busy", "index_incomplete", "index_missing", "index_moved",
    "key_not_found", "network_unreachable", "output_exists", "source_missing", "unknown_name",
}  # fmt: skip
FIELDS: dict[str, dict[str, Any]] = {
    "MemoryBudgetError": {"needed_mb": 110, "limit_mb": 40.5},
    "InputError": {"option": "mode", "value": "'fast'"},
    "FilterError": {"field": "year"},
    "TruncationError": {"texts": (1, 4)},
    "SourceError": {"line": 7, "row": 6},
    "BundleDamagedError": {"files": ("model.onnx",)},
    "DeadlineError": {"limit_seconds": 60.0},
    "GoldenError": {"cosine": 0.9, "floor": 0.999},
    "IndexLockedError": {"pid": 4711},
    "BundleMismatchError": {"bundle": "minilm"},
    "StorageError": {"needed_bytes": 200, "free_bytes": 100},
    "ExportError": {"name": "pooler.dense.weight"},
    "FidelityError": {"cosine": 0.9, "floor": 0.995},
    "UnsupportedModelError": {"architecture": "gpt2"},
    "MissingExtraError": {"package": "onnx", "extra": "export"},
}


def raised(call: Any, *arguments: Any, **options: Any) -> errors.EdgeEmbedError:
    with pytest.raises(errors.EdgeEmbedError) as caught:
        call(*arguments, **options)
    return caught.value


def test_codes() -> None:
    """Every class has its own code, no code is that of two classes, and the type `Code` lists exactly these."""
    assert {name: getattr(errors, name)("m").code for name in dir(errors) if name.endswith("Error")} == CODES
    assert sorted(get_args(Code)) == sorted([*CODES.values(), *FINER])


@pytest.mark.parametrize("name", CODES)
def test_fields(name: str) -> None:
    """They are attributes, come through pickling and copying, and are what `as_dict` gives for JSON."""
    known = {"path": "a.db", "keys": ("k1", "k2"), **FIELDS.get(name, {})}
    error = getattr(errors, name)("what was wrong", **{**known, "path": Path("a.db")})
    assert {"message": "what was wrong", **known}.items() <= error.as_dict().items()
    for found in (error, pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):  # noqa: S301 - our own
        assert type(found) is type(error)
        assert found.as_dict() == error.as_dict()
        assert json.loads(json.dumps(found.as_dict()))["keys"] == ["k1", "k2"]
        assert {field: getattr(found, field) for field in known} == known


def test_what_is_not_known_is_left_out() -> None:
    """None, nothing, and NaN, which JSON lacks; no field is made up, and none is taken that the class lacks."""
    error = errors.FidelityError("m", cosine=math.nan, floor=0.995)
    assert error.as_dict() == {"code": "low_fidelity", "message": "m", "floor": 0.995}
    assert (error.path, error.keys, error.name) == (None, (), None)
    error.add_note("seen twice")
    assert "__notes__" not in error.as_dict()
    with pytest.raises(TypeError, match="cosine"):
        errors.ExportError("m", cosine=1.0)  # type: ignore[call-arg]


def test_full_disks() -> None:
    """What the system said tells a full disk from a failed one."""
    assert errors.StorageError("m", cause=OSError(errno.ENOSPC, "full")).code == "disk_full"
    assert errors.StorageError("m", cause=OSError(errno.EIO, "failed")).code == "storage_failed"
    assert errors.StorageError("m", needed_bytes=2, free_bytes=1).code == "disk_full"


def test_about() -> None:
    """A path for errors that name none, of the kinds that are about it."""
    for error, path in (
        (errors.BundleFormatError("m"), "b"),
        (errors.BundleError("m", path="c"), "c"),
        (errors.InputError("m"), None),
    ):
        with pytest.raises(type(error)) as caught, about(Path("b"), errors.BundleError):
            raise error
        assert caught.value.path == path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """An index of two documents with given vectors."""
    path = tmp_path / "a.db"
    with Index.create(path, space="s", dim=2) as index:
        index.add_vectors([Document("a", "one", {"year": 1}), Document("b", "two")], [[1, 0], [0, 1]])
    return path


def facts(error: errors.EdgeEmbedError) -> dict[str, Any]:
    said = error.as_dict()
    assert said.pop("message")
    return said


def test_of_documents(path: Path) -> None:
    """Keys of what is there already, comes twice or cannot be stored."""
    with Index.open(path) as index:
        for documents, code, keys in (
            ([Document("b", ""), Document("c", ""), Document("a", "")], "duplicate_key", ("a", "b")),
            ([Document("c", ""), Document("c", "")], "duplicate_key", ("c",)),
            ([Document("c", "", {"x": {1}})], "invalid_document", ("c",)),
            ([Document("c", "\ud800")], "invalid_document", ("c",)),
            ([Document("c\0", "")], "invalid_document", ("c\0",)),
        ):
            error = raised(index.add_vectors, documents, np.eye(2)[[0] * len(documents)])
            assert (error.code, error.keys) == (code, keys)


def test_of_options(path: Path) -> None:
    """The parameter and what it was."""
    with Index.open(path) as index:
        assert facts(raised(index.search, "one", mode="fast")) == {
            "code": "invalid_input", "option": "mode", "value": "'fast'",
        }  # fmt: skip
        assert raised(index.search, "one", 0, mode="text").option == "k"  # type: ignore[attr-defined]
        assert raised(index.search, vector=[1, 2, 3]).option == "vector"  # type: ignore[attr-defined]
        assert facts(raised(index.search, "one", where={"yaer": 1}, mode="text")) == {
            "code": "invalid_filter", "option": "where", "field": "yaer",
        }  # fmt: skip
        assert facts(raised(index.search, "one", where={"year": {"$gte": None}}, mode="text"))["field"] == "year"
    assert facts(raised(Index.open, path, timeout=-1)) == {
        "code": "invalid_input", "option": "timeout", "value": "-1",
    }  # fmt: skip
    assert facts(raised(Index.create, path, space="s", dim=2)) == {"code": "output_exists", "path": str(path)}


def test_of_an_index(path: Path, tmp_path: Path) -> None:
    """Its path, who holds it, and what it is of."""
    said = {"path": str(path)}
    with Index.open(path) as index, Index.open(path, read_only=True) as reader:
        assert facts(raised(Index.open, path)) == {"code": "index_locked", **said, "pid": os.getpid()}
        assert facts(raised(reader.delete, "a")) == {"code": "index_read_only", **said}
        index.close()
        assert facts(raised(len, index)) == {"code": "index_closed", **said}
    assert facts(raised(Index.open, path, Embedder("static"))) == {"code": "bundle_mismatch", **said, "bundle": "s"}
    missing = tmp_path / "b.db"
    assert facts(raised(Index.open, missing, read_only=True)) == {"code": "index_missing", "path": str(missing)}
    missing.write_text("no index")
    assert facts(raised(Index.open, missing)) == {"code": "index_format", "path": str(missing)}
    for most, code in ((-10, "index_incomplete"), (-4096, "index_damaged")):
        missing.write_bytes(path.read_bytes()[:most])
        assert facts(raised(Index.open, missing)) == {"code": code, "path": str(missing)}


def test_of_a_bundle(tmp_path: Path) -> None:
    """Its folder, and the files that are not as they should be."""
    folder = tmp_path / "bundle"
    shutil.copytree(Embedder("static").path, folder)
    assert facts(raised(Embedder, tmp_path / "none")) == {"code": "bundle_format", "path": str(tmp_path / "none")}
    (folder / "extra").touch()
    assert facts(raised(Embedder, folder)) == {"code": "bundle_damaged", "path": str(folder), "files": ("extra",)}
    (folder / "extra").unlink()
    with (folder / "tokenizer.json").open("ab") as file:
        file.write(b" ")
    assert facts(raised(Embedder, folder))["files"] == ("tokenizer.json",)


@pytest.mark.skipif(not hasattr(os, "sysconf") or not Path("/proc/self/statm").exists(), reason="needs Linux")
def test_of_memory() -> None:
    """The least that works is a number that works: what a program may ask for next."""
    path = str(Embedder("static").path)
    error = raised(Embedder, "static", max_rss_mb=1)
    assert isinstance(error, errors.MemoryBudgetError)
    assert (error.code, error.limit_mb, error.path) == ("memory_budget", 1, path)
    assert error.needed_mb is not None
    assert f"the least is {error.needed_mb} MB" in str(error)
    assert Embedder("static", max_rss_mb=error.needed_mb + 10).encode(["a"]).shape[0] == 1


def test_of_files(tmp_path: Path) -> None:
    """The file, and the row or the line in it."""
    vectors = tmp_path / "v.npy"
    assert facts(raised(load_vectors, tmp_path / "a.db", vectors, space="s")) == {
        "code": "source_missing", "path": str(vectors),
    }  # fmt: skip
    np.save(vectors, np.array([[1, 0], [np.nan, 0]]))
    assert facts(raised(load_vectors, tmp_path / "a.db", vectors, space="s")) == {
        "code": "invalid_source", "path": str(vectors), "row": 1,
    }  # fmt: skip
    vectors.write_bytes(b"no array")
    assert facts(raised(load_vectors, tmp_path / "a.db", vectors, space="s")) == {
        "code": "invalid_source", "path": str(vectors),
    }  # fmt: skip
    error = raised(dump_vectors, tmp_path / "b.db", tmp_path / "out.npz")
    assert facts(error) == {"code": "index_missing", "path": str(tmp_path / "b.db")}
