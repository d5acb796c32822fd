"""Pictures and sounds to vectors: what an Embedder does with the towers of its bundle."""

import os
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from typing import TYPE_CHECKING, NoReturn, Protocol

import numpy as np

from edge_embed_runtime.bundle.bundle import Bundle
from edge_embed_runtime.checks import listed, unusable
from edge_embed_runtime.errors import InputError, MediaError, MissingExtraError
from edge_embed_runtime.model.options import RunOptions
from edge_embed_runtime.progress import progress_bar
from edge_embed_runtime.system.headroom import embedding
from edge_embed_runtime.vectors.kinds import DENSE, MULTI, Kind

if TYPE_CHECKING:
    from edge_embed_runtime.model.tower import TowerModel
    from edge_embed_runtime.vectors.types import Vectors

# What one call is given, by modality, for errors.
CALLS = {"image": ("encode_image", "pictures", "[picture]"), "audio": ("encode_audio", "sounds", "[sound]")}


class Owner(Protocol):
    """The Embedder whose towers they are."""

    threads: int

    @property
    def dim(self) -> int: ...

    @property
    def predicted_peak(self) -> int: ...

    def check_process(self) -> None: ...


class Towers:
    """The towers of a bundle, each loaded when it is first asked for; threads may ask at the same time."""

    def __init__(self, bundle: Bundle, options: RunOptions) -> None:
        self._bundle, self._options = bundle, options
        self._lock = threading.Lock()
        self._loaded: dict[str, TowerModel] = {}

    @property
    def peak(self) -> int:
        """Bytes that the process was predicted to take at most, or 0 without a limit."""
        return max((model.loaded.peak for model in self._all()), default=0)

    @property
    def golden_cosine(self) -> float:
        """The lowest of those that are loaded."""
        return min((model.loaded.golden_cosine for model in self._all()), default=1.0)

    def _all(self) -> "list[TowerModel]":
        """Those that are loaded now; another thread may be loading one."""
        return list(self._loaded.values())

    def get(self, modality: str, owner: Owner) -> "TowerModel":
        """The tower of a modality. Raises InputError where the bundle has none, or it was not asked for."""
        found = self._loaded.get(modality)
        if found is None:
            self._check(modality)
            with self._lock:
                found = self._loaded.get(modality) or self._load(modality, owner.predicted_peak)
                self._loaded[modality] = found
        found.threads = min(owner.threads, found.most_threads)
        return found

    def _check(self, modality: str) -> None:
        manifest, asked = self._bundle.manifest, self._options.towers
        if modality not in manifest.towers:
            raise InputError(
                f"bundle {self._bundle.path} has no model for {CALLS[modality][1]}: it has one for "
                f"{listed(manifest.modalities)}",
                path=self._bundle.path,
            )
        if asked is not None and modality not in asked:
            raise InputError(
                f"bundle {self._bundle.path} was loaded without its model for {CALLS[modality][1]}: towers said "
                f"{asked}",
                option="towers",
                path=self._bundle.path,
            )

    def _load(self, modality: str, peak: int) -> "TowerModel":
        try:
            from edge_embed_runtime.model.tower import TowerModel  # imports onnxruntime
        except MissingExtraError:
            raise
        except ImportError as error:
            from edge_embed_runtime.extras import without_onnxruntime

            raise without_onnxruntime(f"bundle {self._bundle.path}", error) from error
        return TowerModel(self._bundle, modality, self._options, peak=peak)

    def each(self, owner: Owner, modality: str, inputs: object) -> "Iterator[tuple[int, Vectors | MediaError]]":
        """See `Embedder.each_input`."""
        if modality not in CALLS:
            raise unusable("modality", modality, f"one of {tuple(CALLS)}")
        given = check_inputs(inputs, modality)
        owner.check_process()
        return self._run(owner, self.get(modality, owner), given)

    def _run(
        self, owner: Owner, model: "TowerModel", given: Sequence[object]
    ) -> "Iterator[tuple[int, Vectors | MediaError]]":
        with embedding(self._options.limit, owner.predicted_peak):
            yield from model.encode(given)

    def dense(self, owner: Owner, modality: str, inputs: object, show: bool) -> "Vectors":
        """A vector for each input, [n, dim]. Raises the MediaError of the first that cannot be read."""
        given = self._of_kind(modality, inputs, DENSE)
        vectors = np.empty((len(given), owner.dim), np.float32)
        for place, found in self._shown(owner, modality, given, show):
            vectors[place] = found[0]
        return vectors

    def multi(self, owner: Owner, modality: str, inputs: object, show: bool) -> "list[Vectors]":
        """Several vectors for each input, each [n, dim]. Raises what `dense` raises."""
        given = self._of_kind(modality, inputs, MULTI)
        return [found[0] for _, found in self._shown(owner, modality, given, show)]

    def _of_kind(self, modality: str, inputs: object, kind: Kind) -> Sequence[object]:
        self._check(modality)
        own = self._bundle.manifest.towers[modality].output
        if own is not kind:
            method = CALLS[modality][0] + ("_multi" if own is MULTI else "")
            raise InputError(
                f"bundle {self._bundle.path}: the {modality} tower is of kind {own.name!r}: call {method}",
                path=self._bundle.path,
            )
        return check_inputs(inputs, modality)

    def _shown(
        self, owner: Owner, modality: str, given: Sequence[object], show: bool
    ) -> "Iterator[tuple[int, Vectors]]":
        with progress_bar(len(given), show) as advance:
            for place, found in self.each(owner, modality, given):
                if isinstance(found, MediaError):
                    raise _placed(modality, place, found) if len(given) > 1 else found
                yield place, found
                advance(1)


def check_inputs(given: object, modality: str) -> Sequence[object]:
    """Raise InputError for anything but a list of inputs; for a file of its own that looks like one, too."""
    call, what, example = CALLS[modality]

    def refuse(found: str) -> NoReturn:
        raise InputError(f"{call} takes a list of {what}, got {found}: write {call}({example})")

    if isinstance(given, np.ndarray):
        if modality == "image" and given.ndim == 4:
            return list(given)
        refuse(f"an array {given.shape}")
    if isinstance(given, tuple) and len(given) == 2 and isinstance(given[0], np.ndarray) and np.ndim(given[1]) == 0:
        refuse("the samples and rate of one")
    if isinstance(given, str | bytes | bytearray | memoryview | os.PathLike | Mapping | Set):
        refuse(type(given).__name__)
    if not isinstance(given, Iterable):
        refuse(type(given).__name__)
    return list(given)


def _placed(modality: str, place: int, error: MediaError) -> MediaError:
    """The error of one input, with its place among the others."""
    error.args = (f"{modality} {place}: {error}", *error.args[1:])
    return error
