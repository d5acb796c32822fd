"""The bundle: a folder with files of fixed names, written atomically and verified before any parser sees it."""

import errno
import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from edge_embed_runtime.bundle.manifest import (
    MANIFEST,
    TEXT,
    TOKENIZER,
    TOWER_FILES,
    FileRecord,
    Manifest,
    by_modality,
    read_manifest,
)
from edge_embed_runtime.checks import check_path, listed
from edge_embed_runtime.errors import BundleDamagedError, BundleFormatError, InputError, StorageError, about
from edge_embed_runtime.system.files import check_regular, open_regular

if TYPE_CHECKING:
    from edge_embed_runtime.inputs.tokenizer import Tokenizer
# What a file of a bundle not yet written holds: bytes, or a file of a temporary folder, which is moved.
Content = bytes | Path
# Bytes of a file that are read and hashed at a time.
HASHED_BYTES = 2**20


class Copied(NamedTuple):
    """What a file of a bundle not yet written holds, too: a copy of another bundle's."""

    path: Path


@dataclass(frozen=True)
class Bundle:
    """A bundle. `model` is the file whose hash `verify` checks, or the bytes of a bundle not yet written.

    onnxruntime needs less memory at its peak for a file than for bytes: 27 MB less for MiniLM-L6.

    model:     of texts; b"" where there is none
    tokenizer: b"" where there is none, or where it was not asked for
    stamp:     of the model's files (see `stamp_of`)
    parsed:    the Tokenizer of `tokenizer`, where there is one already: of 250,000 tokens it takes 300 MB
    towers:    the model of each other modality, as `model`; `stamps` are theirs
    """

    path: Path
    manifest: Manifest
    model: Path | bytes
    tokenizer: bytes
    stamp: tuple[int, ...] = ()
    parsed: "Tokenizer | None" = None
    towers: Mapping[str, Path | bytes] = field(default_factory=dict)
    stamps: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def model_of(self, modality: str) -> Path | bytes:
        """The model of a modality that the bundle has."""
        return self.model if modality == TEXT else self.towers[modality]

    def verify(self, modality: str = TEXT) -> None:
        """Raise BundleDamagedError where the model of a modality, or its weights, is not what the manifest says."""
        with about(self.path, BundleDamagedError):
            for name in self.manifest.large_files(modality) if isinstance(self.model_of(modality), Path) else ():
                _verify(self.path, name, self.manifest.files[name])

    def check_unchanged(self, modality: str = TEXT) -> None:
        """Raise BundleDamagedError when such a file was replaced or written to since it was verified."""
        model = self.model_of(modality)
        stamp = self.stamp if modality == TEXT else self.stamps.get(modality, ())
        if isinstance(model, Path) and stamp_of(model.parent, self.manifest, modality) != stamp:
            names = listed(self.manifest.large_files(modality))
            raise BundleDamagedError(
                f"bundle {self.path}: {names} was changed while it was being loaded", path=self.path
            )


def stamp_of(folder: Path, manifest: Manifest, modality: str = TEXT) -> tuple[int, ...]:
    """What changes where a file with weights is replaced or written to."""
    try:
        found = [(folder / name).lstat() for name in manifest.large_files(modality)]
    except OSError as error:
        raise BundleDamagedError(f"bundle {folder}: {error.strerror}: {error.filename}") from error
    return tuple(x for s in found for x in (s.st_dev, s.st_ino, s.st_size, s.st_mtime_ns))


def read_bundle(path: str | os.PathLike[str]) -> Bundle:
    """Read and verify a bundle folder. Raises what `open_bundle` and `Bundle.verify` raise."""
    bundle = open_bundle(path)
    for modality in bundle.manifest.modalities:
        bundle.verify(modality)
    return bundle


def open_bundle(path: str | os.PathLike[str], *, text: bool = True) -> Bundle:
    """Read a bundle folder and verify everything but the models, which the caller does with `Bundle.verify`: of those
    of a bundle with towers the sizes are checked here.

    text: whether its tokenizer is wanted, where it has one

    Raises BundleFormatError when the folder is no bundle, BundleDamagedError when a file is missing, extra, a link,
    or not what the manifest says.
    """
    folder = check_path(path, "the bundle")
    with about(folder, BundleFormatError, BundleDamagedError):
        return _opened(folder, text=text)


def _opened(folder: Path, *, text: bool) -> Bundle:
    if not folder.is_dir():
        what = "does not exist" if not folder.exists() else "is a file"
        raise BundleFormatError(f"{folder} {what}; a bundle is a folder with {MANIFEST}, made by edge-embed export")
    found = _names(folder)
    if MANIFEST not in found:
        raise BundleFormatError(f"{folder} is not a bundle: it has no {MANIFEST}; make one with edge-embed export")
    manifest = read_manifest(folder / MANIFEST)
    expected = sorted([MANIFEST, *manifest.files])
    missing, extra = sorted(set(expected) - set(found)), sorted(set(found) - set(expected))
    if missing:
        raise BundleDamagedError(f"bundle {folder}: {listed(missing)} missing. Copy or export it again", files=missing)
    if extra:
        raise BundleDamagedError(
            f"bundle {folder}: {listed(extra)} not part of it. Remove what is not part of it", files=extra
        )
    tokenizer = _tokenizer(folder, manifest.files[TOKENIZER]) if text and manifest.has_text else b""
    model = folder / manifest.model_file if manifest.has_text else b""
    stamp = stamp_of(folder, manifest)
    if not manifest.towers:
        return Bundle(folder, manifest, model, tokenizer, stamp)
    for name, record in manifest.files.items():
        _check_size(folder, name, record, check_regular(folder / name, follow=False, error=BundleDamagedError).st_size)
    towers = {modality: folder / TOWER_FILES[modality][0] for modality in manifest.towers}
    stamps = {modality: stamp_of(folder, manifest, modality) for modality in towers}
    return Bundle(folder, manifest, model, tokenizer, stamp, towers=towers, stamps=stamps)


def _tokenizer(folder: Path, record: FileRecord) -> bytes:
    with open_regular(folder / TOKENIZER, follow=False, error=BundleDamagedError) as file:
        tokenizer = file.read(record.size + 1)
    _verify(folder, TOKENIZER, record, tokenizer)
    return tokenizer


def _names(folder: Path) -> list[str]:
    """What lies in a folder, in order. Raises BundleFormatError where that cannot be read."""
    try:
        return sorted(entry.name for entry in os.scandir(folder))
    except OSError as error:
        if error.errno == errno.ENOMEM:
            raise MemoryError(f"{folder} cannot be read: {error.strerror}") from error
        raise BundleFormatError(f"{folder} cannot be read: {error.strerror}", path=folder) from error


def _verify(folder: Path, name: str, record: FileRecord, content: bytes | None = None) -> None:
    """Compare a file, or its content where that was read already, with what the manifest says."""
    if content is None:
        with open_regular(folder / name, follow=False, error=BundleDamagedError) as file:
            size = os.fstat(file.fileno()).st_size
            sha256 = _sha256(file) if size == record.size else ""
    else:
        size, sha256 = len(content), hashlib.sha256(content).hexdigest()
    _check_size(folder, name, record, size)
    if sha256 != record.sha256:
        raise BundleDamagedError(
            f"bundle {folder}: {name} is not what the manifest describes (its sha256 differs). "
            "Copy or export the bundle again",
            files=[name],
        )


def _check_size(folder: Path, name: str, record: FileRecord, size: int) -> None:
    if size != record.size:
        raise BundleDamagedError(
            f"bundle {folder}: {name} is not what the manifest describes ({size} bytes, expected {record.size}). "
            "Copy or export the bundle again",
            files=[name],
        )


def _sha256(file: BufferedReader) -> str:
    """In parts that are larger than those of `hashlib.file_digest`: between two a thread waits for Python's lock, which
    the main thread, importing meanwhile, gives away every 5 ms."""
    digest, buffer = hashlib.sha256(), memoryview(bytearray(HASHED_BYTES))
    while count := file.readinto(buffer):
        digest.update(buffer[:count])
    return digest.hexdigest()


def file_records(contents: Mapping[str, Content]) -> dict[str, FileRecord]:
    return {name: _record(data) for name, data in contents.items()}


def _record(data: Content) -> FileRecord:
    if isinstance(data, bytes):
        return FileRecord(hashlib.sha256(data).hexdigest(), len(data))
    with open_regular(data, follow=False) as file:
        return FileRecord(_sha256(file), file.seek(0, 2))


def write_bundle(
    path: str | os.PathLike[str],
    manifest: Manifest,
    contents: Mapping[str, Content | Copied],
    *,
    overwrite: bool = False,
) -> None:
    """Write a bundle that appears at `path` whole or not at all.

    contents:  files that are given as a path are moved into the bundle; what is copied has to be what the manifest says
    overwrite: replace a bundle that is there. A hard kill in the moment between the two renames leaves the old bundle
               in a hidden folder next to `path`; any other failure leaves it where it was.

    Raises InputError when something is there already that may not be replaced, StorageError when the disk fails,
    BundleDamagedError for a copy that is another file by now.
    """
    import shutil
    import tempfile

    from edge_embed_runtime.system.writing import sync_folder

    target = Path(path).absolute()
    check_replaceable(target, overwrite)
    temporary: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
        new, old = temporary / "new", temporary / "old"
        new.mkdir()
        for name, data in {**contents, MANIFEST: manifest.to_json()}.items():
            if isinstance(data, Path):
                shutil.move(data, new / name)  # where it lies on another disk it is copied
            elif isinstance(data, Copied):
                shutil.copyfile(data.path, new / name)
                _verify(new, name, manifest.files[name])  # it may have changed since it was read
            with (new / name).open("wb" if isinstance(data, bytes) else "r+b") as file:
                file.write(data if isinstance(data, bytes) else b"")
                file.flush()
                os.fsync(file.fileno())
        sync_folder(new)
        try:
            if target.exists():
                target.rename(old)
            new.rename(target)
        finally:
            if old.exists() and not target.exists():
                old.rename(target)
        sync_folder(target.parent)
    except OSError as error:
        raise StorageError(
            f"{target} could not be written: {error.strerror}; nothing was changed", path=target, cause=error
        ) from error
    finally:
        if temporary is not None and (target.exists() or not (temporary / "old").exists()):
            shutil.rmtree(temporary, ignore_errors=True)


def check_replaceable(target: Path, overwrite: bool) -> None:
    """Only a folder that holds a bundle and nothing else is ever replaced. Raises InputError for everything else."""
    if not target.exists() and not target.is_symlink():
        return
    if target.is_symlink() or not target.is_dir() or not _is_bundle(_names(target)):
        raise InputError(f"{target} exists and is not a bundle; choose another path", path=target)
    if not overwrite:
        raise InputError(
            f"{target} exists; choose another path, or replace it with --force (overwrite=True)",
            code="output_exists",
            path=target,
        )


def _is_bundle(names: list[str]) -> bool:
    """Whether a bundle has files of these names, and no others."""
    try:
        return MANIFEST in names and bool(by_modality([name for name in names if name != MANIFEST]))
    except ValueError:
        return False
