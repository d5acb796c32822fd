"""regular.py, replacing.py: regular files of a size that can be, read; whole files, never through a link, written."""

import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from builders.bert import Checkpoints
from builders.commands import run

from edge_embed import Document, Index
from edge_embed.errors import BundleDamagedError, EdgeEmbedError, InputError, SourceError, StorageError
from edge_embed.files.arrays import read_vector
from edge_embed.files.load import load_vectors
from edge_embed.measuring.judged import read_judged_set
from edge_embed_export import export_model
from edge_embed_runtime.system.files import check_regular, open_regular, read_lines, read_regular
from edge_embed_runtime.system.writing import replacing

if os.name == "nt":
    pytest.skip("pipes, sockets and links of POSIX", allow_module_level=True)


def _sparse(path: Path) -> None:
    """10 GB that take no room."""
    with path.open("wb") as file:
        file.truncate(10 * 2**30)


def _socket(path: Path) -> None:
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(f"/proc/self/fd/{folder}/{path.name}")  # a socket's path may only be short
    finally:
        os.close(folder)


NOT_FILES: dict[str, Callable[[Path], object]] = {
    "pipe": os.mkfifo,
    "folder": Path.mkdir,
    "socket": _socket,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "nowhere": lambda path: path.symlink_to("nowhere"),
}
if not Path("/proc/self/fd").exists():
    del NOT_FILES["socket"]
kinds = pytest.mark.parametrize("kind", NOT_FILES)


@kinds
def test_only_regular_files_are_opened(tmp_path: Path, kind: str) -> None:
    """All else is refused by name, without waiting for a writer."""
    path = tmp_path / "x"
    NOT_FILES[kind](path)
    for read in (check_regular, open_regular, lambda p: read_regular(p, 10), read_lines, read_vector):
        with pytest.raises(SourceError, match=f"{path} (is|cannot be read|does not exist)"):
            read(path)  # type: ignore[operator]


def test_links_are_followed_or_not(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    (tmp_path / "link").symlink_to("file")
    assert read_regular(tmp_path / "link", 3) == b"abc"
    with pytest.raises(BundleDamagedError, match="is a symbolic link"):
        read_regular(tmp_path / "link", 3, follow=False, error=BundleDamagedError)


def test_what_is_too_large_is_not_read(tmp_path: Path) -> None:
    _sparse(tmp_path / "large")
    with pytest.raises(SourceError, match="10,737,418,240 bytes; such a file has at most 100"):
        read_regular(tmp_path / "large", 100)


def test_files_without_a_size(tmp_path: Path) -> None:
    """Files of /proc say that they are empty: what they hold counts, and what cannot be read is an error."""
    if not Path("/proc/self/mem").exists():
        pytest.skip("needs /proc")
    with pytest.raises(SourceError, match="such a file has at most 10"):
        read_regular("/proc/self/maps", 10)
    with pytest.raises(SourceError, match="/proc/self/mem cannot be read"):
        read_regular("/proc/self/mem", 10)
    with pytest.raises(SourceError, match="cannot be read"):
        read_regular("a\0b", 10)
    (tmp_path / "latin").write_bytes(b"a\xe9")
    with pytest.raises(SourceError, match=r"not UTF-8 text .* at byte 1"):
        read_lines(tmp_path / "latin")


def _write_half(target: Path, error: Exception) -> None:
    with replacing(target) as file:
        file.write(b"half")
        raise error


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    """An error on the way leaves the old file and nothing else; texts are for their owner."""
    target = tmp_path / "x"
    target.write_bytes(b"old")
    for error, expected in ((KeyError(), KeyError), (OSError(28, "No space left on device"), StorageError)):
        with pytest.raises(expected, match=r"No space left|^$"):
            _write_half(target, error)
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("x", b"old")]
    with replacing(target) as file:
        file.write(b"new")
    assert target.read_bytes() == b"new"
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    with pytest.raises(StorageError, match="could not be written"), replacing(tmp_path / "none" / "x"):
        pass


@kinds
def test_nothing_is_written_over_what_is_no_file(tmp_path: Path, kind: str) -> None:
    """Neither through a link, nor in place of a device or a pipe."""
    target = tmp_path / "x"
    NOT_FILES[kind](target)
    with pytest.raises(InputError, match="give another name"), replacing(target):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
    assert not target.is_file()


FILES = ("config.json", "tokenizer.json", "model.safetensors", "modules.json", "1_Pooling/config.json",
         "sentence_bert_config.json", "tokenizer_config.json", "config_sentence_transformers.json",
         "adapter_config.json")  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_export_reads_only_regular_files(checkpoint: Checkpoints, tmp_path: Path, name: str) -> None:
    """What lies under a name that counts is read or refused by that name, never passed over, never waited for."""
    for kind, make in {**NOT_FILES, "large": _sparse}.items():
        folder = checkpoint(f"{kind}")
        (folder / name).unlink(missing_ok=True)
        make(folder / name)
        with pytest.raises(EdgeEmbedError, match=name.rpartition("/")[2].replace(".", r"\.")):
            export_model(folder, tmp_path / "out")
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["corpus.jsonl", "queries.jsonl", "qrels.tsv"])
@kinds
def test_judged_sets_are_regular_files(tmp_path: Path, name: str, kind: str) -> None:
    for other in ("corpus.jsonl", "queries.jsonl"):
        (tmp_path / other).write_text('{"_id": "a", "text": "b"}\n')
    (tmp_path / "qrels.tsv").write_text("a\ta\t1\n")
    (tmp_path / name).unlink()
    NOT_FILES[kind](tmp_path / name)
    with pytest.raises(SourceError):
        read_judged_set(tmp_path)


def _header(shape: tuple[int, ...], descr: str = "<f4") -> bytes:
    text = repr({"descr": descr, "fortran_order": False, "shape": shape}).encode()
    text += b" " * ((64 - (len(text) + 11) % 64) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


VECTORS = {
    "a million million numbers": _header((10**12,)),
    "numbers without end": _header((2**62, 2**62)),
    "fewer than none": _header((-1,)),
    "junk": b"junk",
    "nothing": b"",
    "cut off in the header": _header((4,))[:40],
    "cut off": _header((4,)) + b"\0" * 12,
    "too long": _header((4,)) + b"\0" * 20,
    "objects": _header((1,), "|O") + b"\x80\x04N.",
    "texts": _header((1,), "<U2") + b"a\0\0\0" * 2,
    "complex": _header((1,), "<c8") + b"\0" * 8,
    "NaN": _header((2,)) + np.array([1, np.nan], "<f4").tobytes(),
    "infinity": _header((2,), "<f8") + np.array([1, 1e300], "<f8").tobytes(),
    "two vectors": _header((2, 2)) + b"\0" * 16,
    "no numbers": _header((0,)),
    "code": b"\x93NUMPY\x01\x00\x40\x00" + b"__import__('os').abort()".ljust(64),
    "deep": b"\x93NUMPY\x02\x00\x00\x00\x01\x00" + b"(" * 65536,
    "pickle": b"\x80\x04cos\nabort\n)R.",
}  # fmt: skip


@pytest.mark.parametrize("kind", VECTORS)
def test_a_vector_that_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """One line that names the file, whatever it holds."""
    monkeypatch.chdir(tmp_path)
    Index.create("a.db", space="s", dim=2).close()
    Path("v.npy").write_bytes(VECTORS[kind])
    result = run("search", "a.db", "--vector", "v.npy")
    assert result.exit_code == 1
    assert result.stderr.startswith("edge-embed: v.npy")
    assert result.stderr.count("\n") == 1
    assert "pickle" not in result.stderr or "not read" in result.stderr
    with pytest.raises((SourceError, InputError)):
        load_vectors("a.db", "v.npy")


def test_a_vector_is_read_in_its_forms(tmp_path: Path) -> None:
    """[dim] and [1, dim], whole and other real numbers."""
    for array in (np.array([1, 2], np.float16), np.array([[1, 2]], np.int64), np.array([1, 2], ">f8")):
        np.save(tmp_path / "v.npy", array)
        assert read_vector(tmp_path / "v.npy").tolist() == [1, 2]
        assert read_vector(tmp_path / "v.npy").dtype == np.float32


@kinds
def test_commands_read_only_regular_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """One line, exit status 1; nothing is written."""
    monkeypatch.chdir(tmp_path)
    Index.create("a.db", space="s", dim=2).close()
    for name in ("x", "x.npy", "x.npz", "x.parquet", "x.arrow", "x.glove", "x.onnx"):
        NOT_FILES[kind](Path(name))
    commands = (
        ["encode", "x", "-o", "v.npy"],
        ["encode", "a.db", "-o", "x.npy"],
        ["search", "a.db", "--vector", "x.npy"],
        *(["load", "a.db", f"x.{suffix}"] for suffix in ("npy", "npz", "parquet", "arrow")),
        ["dump", "a.db", "x.npz", "--force"],
        ["tokens", "a", "-o", "x"],
        ["distill", "minilm", "out", "--texts", "x"],
        ["prune", "minilm", "out", "--texts", "x"],
        ["export", "x.glove", "out"],
        ["export", "x.onnx", "out"],
        ["export", "a.db", "out", "--recipes", "x"],
    )
    for command in commands:
        result = run(*command)
        assert result.exit_code == 1, command
        assert result.stderr.startswith("edge-embed: "), command
        assert result.stderr.count("\n") == 1, command
    assert not Path("out").exists()


def test_nothing_is_written_through_a_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a link leads to stays, of each command that writes a file."""
    monkeypatch.chdir(tmp_path)
    with Index.create("a.db", space="s", dim=2) as index:
        index.add_vectors([Document("a", "b")], np.ones((1, 2), np.float32))
    (tmp_path / "lines").write_text("a")
    for name in ("x.npz", "x.npy"):
        (tmp_path / f"other-{name}").write_bytes(b"untouched")
        (tmp_path / name).symlink_to(f"other-{name}")
    for command in (
        ["dump", "a.db", "x.npz", "--force"],
        ["encode", "lines", "-o", "x.npy", "--bundle", "static"],
        ["tokens", "a", "-o", "x.npz"],
    ):
        result = run(*command)
        assert result.exit_code == 1
        assert "is a symbolic link" in result.stderr
    assert (tmp_path / "other-x.npz").read_bytes() == (tmp_path / "other-x.npy").read_bytes() == b"untouched"
