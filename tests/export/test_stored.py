"""stored.py: tensors that stay in their file, and numbers that are float32 whatever the file has."""

import mmap
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from edge_embed.errors import ExportError
from edge_embed_export.files.stored import Stored
from edge_embed_export.files.tensors import map_tensors

RANDOM = np.random.default_rng(0).standard_normal((6, 8))


@pytest.fixture(params=["float16", "float32", "float64"])
def both(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Any, Any]:
    """A tensor in a file, and what it is in memory."""
    values = RANDOM.astype(request.param)
    save_file({"x": values}, tmp_path / "x.safetensors")
    return map_tensors(tmp_path / "x.safetensors")["x"], values.astype(np.float32)


@pytest.mark.parametrize(
    "see",
    [
        lambda x: x.T,
        lambda x: x[2:4],
        lambda x: x[[5, 0, 0]],
        lambda x: x[:, None, 3:],
        lambda x: x.reshape(-1, 4).swapaxes(0, 1),
        lambda x: x.T.reshape(2, 24),
        lambda x: np.split(x, 3)[1].T,
        lambda x: np.split(x, 2, axis=1)[1],
        lambda x: x.T * np.float32(0.1),
        lambda x: (x * np.float32(0.3))[1:] * np.float32(0.7),
        lambda x: 2.5 * x,
        lambda x: next(iter(x)),
    ],
)
def test_views_read_nothing_and_are_the_same_numbers(both: tuple[Any, Any], see: Any, monkeypatch: Any) -> None:
    """Bit for bit what numpy gives for the float32 array, contiguous, when it is asked for."""
    stored, array = both
    read = Stored._read
    monkeypatch.setattr(Stored, "_read", lambda _: pytest.fail("it was read"))
    try:
        found = see(stored)
    except pytest.fail.Exception:  # a second factor is not put off
        monkeypatch.setattr(Stored, "_read", read)
        found = see(stored)
    monkeypatch.setattr(Stored, "_read", read)
    expected = see(array)
    assert found.shape == expected.shape
    assert np.asarray(found).dtype == np.float32
    assert np.array_equal(np.asarray(found), expected)
    assert np.ascontiguousarray(found).flags.c_contiguous


@pytest.mark.parametrize(
    "compute",
    [
        lambda x: x + x,
        lambda x: x @ x.T,
        lambda x: x * np.arange(8, dtype=np.float32),
        lambda x: (x - x.mean(axis=1, keepdims=True)) / 3,
        lambda x: np.concatenate([x, x.reshape(6, 8)]),
        lambda x: np.abs(x).max(),
        lambda x: np.sqrt(x**2),
        lambda x: x.astype(np.float64),
        lambda x: x[1, 2],
        lambda x: x.max(axis=0),
    ],
)
def test_arithmetic_is_in_float32(both: tuple[Any, Any], compute: Any) -> None:
    """Never in the sixteen bits of the file."""
    stored, array = both
    found, expected = compute(stored), compute(array)
    assert np.asarray(found).dtype == expected.dtype
    assert np.array_equal(found, expected)


def test_in_place_arithmetic_gives_another_value(both: tuple[Any, Any]) -> None:
    """The file is not written to."""
    stored, array = both
    changed = stored
    changed *= np.arange(8, dtype=np.float32)
    assert np.array_equal(changed, array * np.arange(8, dtype=np.float32))
    assert np.array_equal(np.asarray(stored), array)


def test_steps_wait_until_numbers_are_asked_for(both: tuple[Any, Any]) -> None:
    """As those of an adapter; views of the result know their shape."""
    stored, array = both
    calls: list[int] = []
    changed = stored.then(lambda x: calls.append(1) or x + np.float32(1))
    part = changed.T[:3]
    assert (calls, part.shape) == ([], (3, 6))
    assert np.array_equal(np.asarray(part), (array + 1).T[:3])


def test_numbers_that_are_not_finite_are_named(tmp_path: Path) -> None:
    """When they are read; a file of other tensors is still read."""
    path = tmp_path / "x.safetensors"
    save_file({"good": np.ones(3), "bad": np.array([1, np.inf], np.float16)}, path)
    tensors = map_tensors(path)
    assert np.asarray(tensors["good"]).tolist() == [1, 1, 1]
    with pytest.raises(ExportError, match=re.escape(f"{path}: tensor 'bad' holds NaN or infinity")):
        np.asarray(tensors["bad"])


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="the system does not tell what is in memory")
def test_what_was_read_is_let_go_of(tmp_path: Path) -> None:
    """A file that was read part by part is in memory no more."""
    path = tmp_path / "x.safetensors"
    save_file({"x": np.ones((64, 2**17), np.float32)}, path)
    table = map_tensors(path)["x"]
    for start in range(0, 64, 8):
        assert np.asarray(table[start : start + 8]).sum() == 2**20
    lines = Path("/proc/self/smaps").read_text().splitlines()
    at = next(i for i, line in enumerate(lines) if line.endswith(str(path)))
    resident = next(int(line.split()[1]) for line in lines[at:] if line.startswith("Rss:"))
    assert resident * 1024 < 2**23 + 16 * mmap.PAGESIZE


def test_a_tensor_twice_in_shards_is_named(tmp_path: Path) -> None:
    """One of the two would be taken without a word."""
    import json

    from edge_embed_export.files.tensors import read_weights

    for part in ("a", "b"):
        save_file({"x": np.ones(2), part: np.ones(1)}, tmp_path / f"{part}.safetensors")
    index = {"weight_map": {"a": "a.safetensors", "b": "b.safetensors", "x": "a.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ExportError, match=r"b\.safetensors: the tensor 'x' is one that .* says is in a\.safetensors"):
        read_weights(tmp_path)
