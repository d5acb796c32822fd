"""A tower of a bundle in onnxruntime: pictures, or sounds, to vectors.

Every input runs alone, on one core, and several side by side on threads: so an input has the same vector in any
company, whatever the graph is made of, and what is in memory at a time does not grow with the number of inputs.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from edge_embed_runtime.bundle.bundle import Bundle
from edge_embed_runtime.bundle.manifest import ONNXRUNTIME, TOWER_FILES, WITHIN_LIMIT
from edge_embed_runtime.bundle.towers import Tower
from edge_embed_runtime.errors import DeadlineError, EdgeEmbedError, GoldenError, MediaError
from edge_embed_runtime.inputs.base import FrontEnd, read_front
from edge_embed_runtime.model import deadline, session
from edge_embed_runtime.model.golden import GOLDEN_COSINE, golden_stamp
from edge_embed_runtime.model.options import MAX_THREADS, Loaded, RunOptions
from edge_embed_runtime.model.towerbudget import Asked, Share, choose_share
from edge_embed_runtime.onnxfile.allowed import Sidecar, check_model
from edge_embed_runtime.onnxfile.mapped import weights_of
from edge_embed_runtime.system.background import Background
from edge_embed_runtime.system.memory import give_back, trim_heap
from edge_embed_runtime.system.stamps import Passed, passed, remember
from edge_embed_runtime.system.workers import spread
from edge_embed_runtime.vectors.kinds import DENSE
from edge_embed_runtime.vectors.normalize import cut, normalize
from edge_embed_runtime.vectors.types import Vectors

# Numbers of an input for which a run has the watchdog's time once: a picture of 224 x 224.
NUMBERS = 3 * 224 * 224
# The length of a mean over windows whose vectors cancel each other: the first one's is taken.
CANCELLED = 1e-6


class TowerModel:
    """The tower of one modality of a bundle, loaded; its files are verified meanwhile.

    threads: cores that are used; may be set, to at most `most_threads` under a limit of memory
    peak:    bytes that the process is predicted to take with the models that it has already

    Raises BundleError where this machine cannot use it, MemoryBudgetError where it cannot keep `max_rss_mb`,
    MissingExtraError where what reads golden inputs is not installed.
    """

    def __init__(self, bundle: Bundle, modality: str, options: RunOptions, *, peak: int = 0) -> None:
        self.bundle, self.modality, self._peak = bundle, modality, peak
        self.tower: Tower = bundle.manifest.towers[modality]
        self.threads: int = options.most_cores
        self.most_threads: int = MAX_THREADS
        self._background, self._dim = options.background, options.dim(bundle.manifest.dim)
        self._what = f"bundle {bundle.path}: the {modality} tower"
        verified = Background(partial(bundle.verify, modality))
        verified.begin()
        self.front: FrontEnd = read_front(modality, self.tower.front)
        model, name = bundle.model_of(modality), TOWER_FILES[modality][1]
        weights = bundle.manifest.files.get(name)
        verified.result()
        check_model(model, self._what, None if weights is None else Sidecar(name, weights.size))
        stamp = self._stamp(options)
        known = passed(stamp)
        if known is None:
            self._load(options, self._forms(options.exact))
            if stamp:
                remember(stamp, Passed(self.loaded.golden_cosine, self.loaded.exact))
        else:
            self._load(options, (known.exact,), known.cosine)

    def _stamp(self, options: RunOptions) -> str:
        if not options.asks_stamps:
            return ""
        readers = [_file_of(module) for module in self.front.modules]
        return golden_stamp(self.bundle, *session.engine_file(), self._dim, self.modality, readers)

    def _forms(self, asked: bool | None) -> tuple[bool, ...]:
        """See `session.forms_to_try`; weights that cannot saturate have one form."""
        said = self.tower.quantization
        if said.get("pairs") == WITHIN_LIMIT or said.get("activations") == "float32":
            return (False,)
        return session.forms_to_try(asked)

    def _load(self, options: RunOptions, forms: Sequence[bool], known: float | None = None) -> None:
        """The first form that gives the golden vectors. known: how near they were in an earlier process"""
        give_back()
        front = self.front
        for exact in forms:
            share = self._share(options.limit, exact=exact)
            if share is not None:
                self.threads = self.most_threads = share.threads
            prepacked = share is None or share.prepacked
            self._session = session.load_tower(self.bundle, self.modality, exact=exact, prepacked=prepacked)
            self.front = front if share is None else front.within(share.reading)
            trim_heap()
            self.loaded: Loaded = Loaded(1.0, 0 if share is None else share.total, 1, exact, ONNXRUNTIME)
            found = {} if known is not None else self._golden()
            cosine = min(found.values(), default=1.0) if known is None else known
            if cosine >= GOLDEN_COSINE:
                break
        else:
            raise self._differs(found, cosine)
        give_back()
        self.loaded = self.loaded._replace(golden_cosine=cosine)

    def _share(self, limit: int | None, *, exact: bool) -> Share | None:
        """What each thread may take under a limit of bytes; None without one."""
        if limit is None:
            return None
        weights = weights_of(self.bundle.model_of(self.modality))
        asked = Asked(limit, self.bundle.manifest.name, self._peak, self.threads, exact)
        return choose_share(asked, self.tower, weights, self.front)

    def _golden(self) -> dict[str, float]:
        """The cosine of each golden input's vector to the exporter's, by its name."""
        found = {}
        for golden in self.tower.golden:
            expected = np.array([golden.vector], np.float32)
            vectors = self._whole(golden.content).reshape(1, -1)
            same = vectors.shape == expected.shape
            found[golden.name] = self.tower.output.agreement([expected], [vectors]) if same else 0.0
        return found

    def _differs(self, found: dict[str, float], cosine: float) -> GoldenError:
        each = ", ".join(f"{name} {one:.4f}" for name, one in found.items())
        reads = "the decoder" if self.modality == "image" else "the decoder or resampler"
        return GoldenError(
            f"{self._what} does not give the golden vectors on this machine: cosine {each}, expected at least "
            f"{GOLDEN_COSINE}. Either {reads} here ({self.front.library}) differs from the exporter's, where only some "
            f"formats are wrong, or onnxruntime {onnxruntime.__version__} does not support this CPU, where all are",
            path=self.bundle.path,
            cosine=cosine,
            floor=GOLDEN_COSINE,
        )

    def encode(self, inputs: Sequence[object]) -> Iterator[tuple[int, Vectors | MediaError]]:
        """Place by place, each input's vector [1, dim], or of kind "multi" its vectors [1, n, dim], each of length 1;
        or the error of one that cannot be read.

        Inputs are read when it is their turn, and are gone when they have their vectors.
        """
        found = spread(self._tried, inputs, self.threads, background=self._background)
        yield from enumerate(found)

    def _tried(self, given: object) -> Vectors | MediaError:
        try:
            return self.one(given)
        except MediaError as error:
            return error

    def one(self, given: object) -> Vectors:
        """The vector [1, dim] of one input, or of kind "multi" its vectors [1, n, dim]."""
        vectors = self._whole(given)
        return cut(vectors, self._dim) if self._dim != vectors.shape[-1] else vectors

    def _whole(self, given: object) -> Vectors:
        """In all dims: of a sound the mean over its windows, of kind "multi" one window's behind the other's."""
        found = map(self.run, self.front.feeds(given))
        first = next(found, None)
        if first is None:
            raise EdgeEmbedError(f"{self._what}: the front end makes nothing of an input", path=self.bundle.path)
        if self.tower.output is not DENSE:
            return np.concatenate([first, *found], axis=1)
        total, windows = first.astype(np.float64), 1
        for vectors in found:
            total += vectors
            windows += 1
        if windows == 1 or not np.linalg.norm(total) > CANCELLED * windows:
            return first
        return normalize((total / windows).astype(np.float32))

    def run(self, feed: NDArray[np.float32]) -> Vectors:
        """What the model gives for one input's numbers [1, ...]."""
        try:
            times = max(1.0, feed.size / NUMBERS)
            (vectors,) = deadline.run(self._session, {self._session.get_inputs()[0].name: feed}, times)
        except Exception as error:
            kind = DeadlineError if isinstance(error, DeadlineError) else EdgeEmbedError
            raise kind(f"{self._what} failed on {feed.shape} numbers: {error}", path=self.bundle.path) from error
        dim = self.bundle.manifest.dim
        dense = self.tower.output is DENSE
        fits = vectors.shape == (1, dim) if dense else vectors.ndim == 3 and vectors.shape[::2] == (1, dim)
        # a model that is damaged or was made to harm may give anything
        if vectors.dtype != np.float32 or not fits or not vectors.size or not np.isfinite(vectors).all():
            raise EdgeEmbedError(
                f"{self._what} gave {vectors.dtype} numbers {vectors.shape}, expected finite float32 "
                f"{(1, dim) if dense else (1, 'n', dim)}. Export it again",
                path=self.bundle.path,
            )
        found: Vectors = vectors
        return found


def _file_of(module: str) -> list[object]:
    """What changes where another release of a package lies in the place of this one; [] where there is none."""
    try:
        spec = find_spec(module)
        status = Path(spec.origin or "").stat() if spec is not None else None
    except (ImportError, ValueError, OSError):
        return []
    return [module] if status is None else [module, status.st_ino, status.st_size, status.st_mtime_ns]
