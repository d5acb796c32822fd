"""Every error that edge_embed raises on purpose.

EdgeEmbedError
├── MemoryBudgetError     max_rss_mb cannot be kept; the message says what can
├── InputError            a text, key, number or option that cannot be used (also a ValueError)
│   ├── DocumentError     a document that cannot be stored: empty text, bad key, metadata that is not JSON
│   ├── DuplicateKeyError a key that is already there, or twice in one call
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

A message says what was wrong with which input, and what to do.
"""

__all__ = [
    "BundleDamagedError",
    "BundleError",
    "BundleFormatError",
    "BundleMismatchError",
    "DeadlineError",
    "DocumentError",
    "DuplicateKeyError",
    "EdgeEmbedError",
    "ExportError",
    "FidelityError",
    "FilterError",
    "GoldenError",
    "IndexClosedError",
    "IndexDamagedError",
    "IndexFileError",
    "IndexFormatError",
    "IndexLockedError",
    "IndexReadOnlyError",
    "InputError",
    "MemoryBudgetError",
    "MissingExtraError",
    "SourceError",
    "StorageError",
    "UnsupportedModelError",
]


class EdgeEmbedError(Exception):
    """Base of every error raised on purpose by edge_embed."""


class InputError(EdgeEmbedError, ValueError):
    """A text, key, number or option that cannot be used."""


class MemoryBudgetError(EdgeEmbedError):
    """A limit of memory that cannot be kept. The message says what the least is, and where it goes."""


class DocumentError(InputError):
    """A document that cannot be stored."""


class DuplicateKeyError(InputError):
    """A key that is already in the index, or twice in one call."""


class FilterError(InputError):
    """A `where` that names an unknown field or holds an unsupported value."""


class SourceError(EdgeEmbedError):
    """A file or folder given to read that is missing or malformed."""


class BundleError(EdgeEmbedError):
    """A bundle that cannot be used."""


class BundleFormatError(BundleError):
    """Not a bundle, or a bundle of a schema version that this release does not read."""


class BundleDamagedError(BundleError):
    """A file of the bundle is missing, extra, a link, or differs from what the manifest says."""


class DeadlineError(BundleError):
    """Loading the model, or one batch of texts, took longer than any model for such machines does."""


class GoldenError(BundleError):
    """This machine does not reproduce the bundle's golden vectors."""


class IndexFileError(EdgeEmbedError):
    """An index file that cannot be used."""


class IndexFormatError(IndexFileError):
    """Not an edge_embed index, empty, or of another schema version."""


class IndexDamagedError(IndexFileError):
    """The index file is cut off or corrupt."""


class IndexLockedError(IndexFileError):
    """Another process or object is writing to the index."""


class IndexReadOnlyError(IndexFileError):
    """A write to an index that was opened for reading, or that lies on read-only storage."""


class IndexClosedError(IndexFileError):
    """The index was used after close()."""


class BundleMismatchError(IndexFileError):
    """The index holds vectors of another bundle."""


class StorageError(EdgeEmbedError):
    """The disk is full or failed. What was committed before is still there."""


class ExportError(EdgeEmbedError):
    """A checkpoint that cannot become a bundle."""


class FidelityError(ExportError):
    """The quantized model is further from the float model than the floor allows."""


class UnsupportedModelError(ExportError):
    """An architecture that the exporter does not know."""


class MissingExtraError(EdgeEmbedError, ImportError):
    """A package of an optional extra is not installed."""
