"""Every error that edge_embed raises on purpose.

EdgeEmbedError
├── MemoryBudgetError     max_rss_mb cannot be kept; the message says what can
├── InputError            a text, key, number or option that cannot be used (also a ValueError)
│   ├── DocumentError     a document that cannot be stored: empty text, bad key, metadata that is not JSON
│   ├── MediaError        a picture or a sound that cannot be read, or is not one
│   ├── DuplicateKeyError a key that is already there, or twice in one call
│   ├── TruncationError   texts whose end the model does not read, where `on_truncation` is "error"
│   └── FilterError       a `where` that names an unknown field or an unsupported value
├── SourceError           a file or folder given to read that is missing or malformed (line number in the message)
├── BundleError           a bundle that cannot be used
│   ├── BundleFormatError not a bundle, or a bundle of another schema version
│   ├── BundleDamagedError a file that is missing, extra, a link, or not what the manifest says
│   ├── DeadlineError     its model takes longer than any model for such machines does
│   └── GoldenError       this machine does not reproduce the bundle's golden vectors
├── IndexFileError        an index file that cannot be used
│   ├── IndexFormatError  not an edge_embed index, empty, or of another schema version
│   ├── IndexDamagedError cut off or corrupt
│   ├── IndexLockedError  another process or object is writing to it
│   ├── IndexReadOnlyError a write to an index that was opened for reading, or that lies on read-only storage
│   ├── IndexClosedError  used after close
│   └── BundleMismatchError the index holds vectors of another bundle
├── StorageError          the disk is full or failed; what was committed is still there
├── ExportError           a checkpoint that cannot become a bundle
│   ├── FidelityError     an int8 or int4 model too far from the float model
│   └── UnsupportedModelError an architecture that the exporter does not know
└── MissingExtraError     a package of an optional extra is not installed (also an ImportError)

A message says what was wrong with which input, and what to do; its words may change. For programs there are `code`,
which does not change, `path`, `keys` and the fields of each class, as far as they are known: None or empty where not.
`as_dict` gives them for JSON. Errors can be pickled and copied.
"""

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, TypedDict, Unpack

__all__ = [
    "BundleDamagedError", "BundleError", "BundleFormatError", "BundleMismatchError", "DeadlineError",
    "DocumentError", "DuplicateKeyError", "EdgeEmbedError", "ExportError", "FidelityError", "FilterError",
    "GoldenError", "IndexClosedError", "IndexDamagedError", "IndexFileError", "IndexFormatError",
    "IndexLockedError", "IndexReadOnlyError", "InputError", "MediaError", "MemoryBudgetError", "MissingExtraError",
    "SourceError", "StorageError", "TruncationError", "UnsupportedModelError",
]  # fmt: skip

# Each class has its own; the last ones say more than their class, where a program may act on it.
Code = Literal[
    "error", "memory_budget", "invalid_input", "bad_media", "invalid_document", "duplicate_key", "invalid_filter",
    "invalid_source", "bundle_unusable", "bundle_format", "bundle_damaged", "deadline", "golden_mismatch",
    "index_unusable", "index_format", "index_damaged", "index_locked", "index_read_only", "index_closed",
    "bundle_mismatch", "storage_failed", "export_failed", "low_fidelity", "unsupported_model", "missing_extra",
    "forked",  # an object of the parent process: make a new one in the child
    "network_unreachable",  # the package index: try again later
    "output_exists",  # allow to replace it, or give another path
    "text_too_long",
    "key_not_found",
    "source_missing",
    "index_missing",
    "index_moved",  # moved, replaced or deleted while it was open
    "index_incomplete",  # lacks commits, as a copy made in the middle of a write: `repair` takes it as it is
    "index_busy",  # for a moment: try again
    "disk_full",
    "bad_image",  # a picture that cannot be read, or is not one
    "bad_audio",  # a sound that cannot be read, or is not one
    "unknown_name",  # of a tensor or key of the model: `ignore` leaves it out of account
]  # fmt: skip

AnyPath = str | os.PathLike[str]
Names = list[str] | tuple[str, ...]
FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))


class Common(TypedDict, total=False):
    """The fields of every error, see EdgeEmbedError."""

    code: Code | None
    path: AnyPath | None
    keys: Names


class EdgeEmbedError(Exception):
    """Base of every error raised on purpose by edge_embed.

    code: what happened, a name that does not change
    path: the file or folder that it is about
    keys: the keys of the documents that it is about
    """

    code: Code = "error"
    path: str | None = None

    def __init__(
        self, message: str, *, code: Code | None = None, path: AnyPath | None = None, keys: Names = ()
    ) -> None:
        super().__init__(message)
        self.code = code or self.code
        self.path = None if path is None else os.fspath(path)
        self.keys = tuple(keys)

    def as_dict(self) -> dict[str, Any]:
        """`code`, `message` and the fields that are known, as JSON can hold them."""
        known = {
            name: value
            for name, value in vars(self).items()
            if name[0] != "_" and value not in (None, ()) and str(value) != "nan"  # which JSON lacks
        }
        return {"code": self.code, "message": str(self), **known}


class InputError(EdgeEmbedError, ValueError):
    """A text, key, number or option that cannot be used.

    option: the parameter that cannot be used
    value:  what it was, in 100 characters at most
    """

    code: Code = "invalid_input"

    def __init__(
        self, message: str, *, option: str | None = None, value: str | None = None, **about: Unpack[Common]
    ) -> None:
        super().__init__(message, **about)
        self.option, self.value = option, value


class MemoryBudgetError(EdgeEmbedError):
    """A limit of memory that cannot be kept. The message says what the least is, and where it goes.

    needed_mb: the least that works, in megabytes of 10**6 bytes
    limit_mb:  what was allowed
    """

    code: Code = "memory_budget"

    def __init__(
        self, message: str, *, needed_mb: float | None = None, limit_mb: float | None = None, **about: Unpack[Common]
    ) -> None:
        super().__init__(message, **about)
        self.needed_mb, self.limit_mb = needed_mb, limit_mb


class DocumentError(InputError):
    """A document that cannot be stored."""

    code: Code = "invalid_document"


class TruncationWarning(UserWarning):
    """The end of texts does not count, being longer than the model reads."""


class TruncationError(InputError):
    """Texts that are longer than the model reads.

    texts: their places in the list that was given
    """

    code: Code = "text_too_long"

    def __init__(self, message: str, *, texts: Sequence[int] = (), **about: Unpack[Common]) -> None:
        super().__init__(message, option="texts", **about)
        self.texts = tuple(texts)


class MediaError(InputError):
    """A picture or a sound that cannot be read, or is not one; `path` is its file, where it came from one."""

    code: Code = "bad_media"


class DuplicateKeyError(InputError):
    """A key that is already in the index, or twice in one call."""

    code: Code = "duplicate_key"


class FilterError(InputError):
    """A `where` that names an unknown field or holds an unsupported value.

    field: the field of the metadata, or "$key"
    """

    code: Code = "invalid_filter"

    def __init__(self, message: str, *, field: str | None = None, **about: Unpack[Common]) -> None:
        super().__init__(message, option="where", **about)
        self.field = field


class SourceError(EdgeEmbedError):
    """A file or folder given to read that is missing or malformed.

    line: the line of a text file, from 1
    row:  the row of a file of vectors, from 0
    """

    code: Code = "invalid_source"

    def __init__(
        self, message: str, *, line: int | None = None, row: int | None = None, **about: Unpack[Common]
    ) -> None:
        super().__init__(message, **about)
        self.line, self.row = line, row


class BundleError(EdgeEmbedError):
    """A bundle that cannot be used."""

    code: Code = "bundle_unusable"


class BundleFormatError(BundleError):
    """Not a bundle, or a bundle of a schema version that this release does not read."""

    code: Code = "bundle_format"


class BundleDamagedError(BundleError):
    """A file of the bundle is missing, extra, a link, or differs from what the manifest says.

    files: the names of the files that are not as they should be
    """

    code: Code = "bundle_damaged"

    def __init__(self, message: str, *, files: Names = (), **about: Unpack[Common]) -> None:
        super().__init__(message, **about)
        self.files = tuple(files)


class DeadlineError(BundleError):
    """Loading the model, or one batch of texts, took longer than any model for such machines does.

    limit_seconds: how long it was allowed to take
    """

    code: Code = "deadline"

    def __init__(self, message: str, *, limit_seconds: float | None = None, **about: Unpack[Common]) -> None:
        super().__init__(message, **about)
        self.limit_seconds = limit_seconds


class GoldenError(BundleError):
    """This machine does not reproduce the bundle's golden vectors.

    cosine: of the golden vectors that were reached
    floor:  the least that is accepted
    """

    code: Code = "golden_mismatch"

    def __init__(
        self, message: str, *, cosine: float | None = None, floor: float | None = None, **about: Unpack[Common]
    ) -> None:
        super().__init__(message, **about)
        self.cosine, self.floor = cosine, floor


class IndexFileError(EdgeEmbedError):
    """An index file that cannot be used."""

    code: Code = "index_unusable"


class IndexFormatError(IndexFileError):
    """Not an edge_embed index, empty, or of another schema version."""

    code: Code = "index_format"


class IndexDamagedError(IndexFileError):
    """The index file is cut off or corrupt."""

    code: Code = "index_damaged"


class IndexLockedError(IndexFileError):
    """Another process or object is writing to the index.

    pid: the process that holds it
    """

    code: Code = "index_locked"

    def __init__(self, message: str, *, pid: int | None = None, **about: Unpack[Common]) -> None:
        super().__init__(message, **about)
        self.pid = pid


class IndexReadOnlyError(IndexFileError):
    """A write to an index that was opened for reading, or that lies on read-only storage."""

    code: Code = "index_read_only"


class IndexClosedError(IndexFileError):
    """The index was used after close()."""

    code: Code = "index_closed"


class BundleMismatchError(IndexFileError):
    """The index holds vectors of another bundle.

    bundle: the name of the bundle whose vectors the index holds
    """

    code: Code = "bundle_mismatch"

    def __init__(self, message: str, *, bundle: str | None = None, **about: Unpack[Common]) -> None:
        super().__init__(message, **about)
        self.bundle = bundle


class StorageError(EdgeEmbedError):
    """The disk is full or failed. What was committed before is still there.

    needed_bytes: the free space that is needed
    free_bytes:   what there is
    cause:        what the system said, which tells whether the code is "disk_full"
    """

    code: Code = "storage_failed"

    def __init__(
        self,
        message: str,
        *,
        needed_bytes: int | None = None,
        free_bytes: int | None = None,
        cause: OSError | None = None,
        **about: Unpack[Common],
    ) -> None:
        super().__init__(message, **about)
        self.needed_bytes, self.free_bytes = needed_bytes, free_bytes
        if needed_bytes is not None or (cause is not None and cause.errno in FULL):
            self.code = "disk_full"


class ExportError(EdgeEmbedError):
    """A checkpoint that cannot become a bundle.

    name: the tensor or key of the model that it is about
    """

    code: Code = "export_failed"

    def __init__(self, message: str, *, name: str | None = None, **about: Unpack[Common]) -> None:
        super().__init__(message, **about)
        self.name = name


class FidelityError(ExportError):
    """The quantized model is further from the float model than the floor allows.

    cosine: the mean cosine to the float model that was reached
    floor:  the least that is accepted
    """

    code: Code = "low_fidelity"

    def __init__(
        self, message: str, *, cosine: float | None = None, floor: float | None = None, **about: Unpack[Common]
    ) -> None:
        super().__init__(message, **about)
        self.cosine, self.floor = cosine, floor


class UnsupportedModelError(ExportError):
    """An architecture that the exporter does not know.

    architecture: the model_type, or the class that the model needs
    """

    code: Code = "unsupported_model"

    def __init__(self, message: str, *, architecture: str | None = None, **about: Unpack[Common]) -> None:
        super().__init__(message, **about)
        self.architecture = architecture


class MissingExtraError(EdgeEmbedError, ImportError):
    """A package of an optional extra is not installed.

    package: the package that cannot be imported
    extra:   the extra of edge-embed that installs it
    """

    code: Code = "missing_extra"

    def __init__(
        self, message: str, *, package: str | None = None, extra: str | None = None, **about: Unpack[Common]
    ) -> None:
        super().__init__(message, **about)
        self.package, self.extra = package, extra


@contextmanager
def about(path: AnyPath, *kinds: type[EdgeEmbedError]) -> Iterator[None]:
    """Errors of these kinds that are raised inside are about this file or folder, unless they name another."""
    try:
        yield
    except kinds as error:
        error.path = error.path or os.fspath(path)
        raise
