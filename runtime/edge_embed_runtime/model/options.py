"""What is asked of a model: when it is loaded, and in each call. One object travels instead of its fields."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from edge_embed_runtime.bundle.manifest import ENGINES, MODALITIES, ONNXRUNTIME, TEXT
from edge_embed_runtime.checks import check_count, shown, unusable
from edge_embed_runtime.errors import InputError
from edge_embed_runtime.system.cpu import default_threads
from edge_embed_runtime.system.memory import check_limit

# More is a mistake: no machine this is for has as many cores.
MAX_THREADS = 1024


@dataclass(frozen=True)
class RunOptions:
    """How a bundle is run: see `Embedder`, which takes the same. Raises InputError for what cannot be."""

    threads: int | None = None
    truncate_dim: int | None = None
    exact: bool | None = None
    max_rss_mb: float | None = None
    background: bool = False
    adapter: str | None = None
    engine: str | None = None
    towers: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.towers is not None and not (
            isinstance(self.towers, tuple) and self.towers and all(name in MODALITIES for name in self.towers)
        ):
            raise unusable("towers", self.towers, f"some of {MODALITIES}, as in ('image',)")
        if self.engine is not None and self.engine not in ENGINES:
            raise unusable("engine", self.engine, f"one of {ENGINES}")
        if self.exact is not None and self.engine not in (None, ONNXRUNTIME):
            raise InputError(
                f"exact names a form of the model in onnxruntime: there is no use for it with engine {self.engine!r}",
                option="exact",
            )
        check_limit(self.max_rss_mb)
        if self.background and self.threads not in (None, 1):
            raise InputError(
                f"threads is {shown(self.threads)}; background means one thread",
                option="threads",
                value=shown(self.threads),
            )
        if self.cores is not None:
            check_threads(self.cores)

    @property
    def runs_texts(self) -> bool:
        """Whether the model for texts is wanted."""
        return self.towers is None or TEXT in self.towers

    @cached_property
    def limit(self) -> int | None:
        """Bytes that the process is to keep to, or None."""
        return check_limit(self.max_rss_mb)

    @property
    def asks_stamps(self) -> bool:
        """Whether what passed in an earlier process counts (see stamps.py): not where a form was asked for, nor under a
        limit, which may have the model run in another way."""
        return self.exact is None and self.limit is None

    @property
    def cores(self) -> int | None:
        """Cores that the caller chose, or None."""
        return 1 if self.background else self.threads

    @cached_property
    def most_cores(self) -> int:
        """Cores to use at most: the chosen ones, or all that affinity and the cgroup allow."""
        return default_threads() if self.cores is None else self.cores

    def dim(self, whole: int) -> int:
        """Numbers that are kept of vectors of so many. Raises InputError where these are fewer."""
        return whole if self.truncate_dim is None else check_count(self.truncate_dim, "truncate_dim", 1, whole)


def asked(towers: Sequence[str] | None) -> tuple[str, ...] | None:
    """What a caller names of modalities, as `RunOptions` takes it; a single name is a mistake that it finds."""
    return tuple(towers) if isinstance(towers, Sequence) and not isinstance(towers, str) else towers  # type: ignore[return-value]


def check_threads(count: object) -> int:
    """Raises InputError."""
    return check_count(count, "threads", 1, MAX_THREADS)


class Call(NamedTuple):
    """What one call of `Model.encode` asks for besides its inputs.

    dim:          numbers of each vector
    batch_tokens: padded tokens in the model at a time
    adapter:      the number of one, counted from 1; 0 is none
    left_out:     tokens at the beginning of each text that pooling leaves out
    """

    dim: int
    batch_tokens: int
    adapter: int = 0
    left_out: int = 0


class Loaded(NamedTuple):
    """What a model turned out to need on this machine.

    golden_cosine: how near the vectors of the golden texts are to those of the machine that made the bundle
    peak:          bytes that the process was predicted to have at most, or 0 without a limit
    batch_tokens:  padded tokens in the model at a time, where a call does not say it
    exact:         whether int8 weights became uint8, because products would saturate on this CPU
    engine:        what runs the model: "native" or "onnxruntime"; "" for a table, which needs none
    why:           why that is not the engine that the bundle was made for; "" where it is
    """

    golden_cosine: float
    peak: int = 0
    batch_tokens: int = 1
    exact: bool = False
    engine: str = ""
    why: str = ""
