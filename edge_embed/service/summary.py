"""What `GET /index` says: what the index holds, its fields, and what can be asked of it."""

import time
import weakref
from functools import partial
from typing import TYPE_CHECKING, Any

from edge_embed.service.media import modalities
from edge_embed_runtime.system.memory import rss_bytes

if TYPE_CHECKING:
    from edge_embed.service.service import Service
    from edge_embed_runtime.index.index import Index
    from edge_embed_runtime.storage.fieldsummary import FieldSummary

# Of `Index.stats`; the others tell of this machine's folders.
STATS = (
    "documents", "passages", "bytes", "bundle", "dim", "space", "fingerprint", "words", "generation", "sparse", "multi",
    "kinds",
)  # fmt: skip
# Values of a field that are named.
MAX_VALUES = 50
# Fields are read again after a commit, but not sooner than so many times what reading them took.
REST = 20.0


class _Fields:
    """The fields of one index as they were read last."""

    def __init__(self) -> None:
        self._read: list[FieldSummary] = []
        self._generation = -1
        self._next = 0.0

    def of(self, index: "Index", generation: int) -> "list[FieldSummary]":
        started = time.monotonic()
        if generation != self._generation and started >= self._next:
            self._read = index.fields()
            ended = time.monotonic()
            self._generation, self._next = generation, ended + REST * (ended - started)
        return self._read


_fields: "weakref.WeakKeyDictionary[Index, _Fields]" = weakref.WeakKeyDictionary()


async def describe(service: "Service", *, fields: bool) -> dict[str, Any]:
    """fields: with those of the documents, for which all metadata is read. Raises Refusal without an index."""
    held, limits = await service.read(partial(_describe, fields)), service.limits
    read_only = service.index is None or service.index.read_only
    return {
        **held,
        "writable": held["writable"] and not read_only,
        "rerank": bool(service.rerankers) and len(service.reranker().labels) == 1,
        "limits": {"hits": limits.hits, "body_bytes": limits.body_bytes, "upload_bytes": limits.upload_bytes},
        "memory_bytes": rss_bytes(),
    }


def _describe(fields: bool, index: "Index") -> dict[str, Any]:
    stats = index.stats()
    held = {name: stats[name] for name in STATS if name in stats}
    takes = sorted(modalities(index))
    about: dict[str, Any] = {"modes": index.modes, "writable": index.takes_texts or bool(takes), "takes": takes}
    if fields:
        found = _fields.setdefault(index, _Fields()).of(index, stats["generation"])
        about["fields"] = [_field(one) for one in found]
    return {**held, **about}


def _field(found: "FieldSummary") -> dict[str, Any]:
    return {
        "name": found.name,
        "kind": found.kind,
        "documents": found.documents,
        "values": [{"value": value, "documents": count} for value, count in found.values[:MAX_VALUES]],
        "more": found.more or len(found.values) > MAX_VALUES,
        "min": found.least,
        "max": found.most,
    }
