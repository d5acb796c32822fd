"""A bundle with its model in memory: what an Embedder and a Reranker have in common."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from edge_embed_runtime.bundle.bundle import Bundle, open_bundle
from edge_embed_runtime.bundle.manifest import Manifest
from edge_embed_runtime.checks import check_count
from edge_embed_runtime.errors import BundleError, InputError
from edge_embed_runtime.inputs.tokenizer import Tokenizer
from edge_embed_runtime.model.model import Model, load_model
from edge_embed_runtime.model.options import RunOptions, check_threads
from edge_embed_runtime.progress import progress_bar
from edge_embed_runtime.system.headroom import embedding
from edge_embed_runtime.vectors.kinds import Kind

if TYPE_CHECKING:
    from edge_embed_runtime.embed.texts import Texts
    from edge_embed_runtime.embed.towers import Towers
    from edge_embed_runtime.model.network import Network

# Inputs that are tokenized and sorted together: bounds what is held besides inputs and results.
WINDOW = 1024
T = TypeVar("T")


def _load(kind: "type[LoadedBundle]", bundle: str, fingerprint: str, options: dict[str, Any]) -> "LoadedBundle":
    """What was pickled. Raises BundleError where its bundle is gone or has become another."""
    loaded: LoadedBundle = kind(bundle, **options)  # each class takes the options that it has
    found = loaded.manifest.fingerprint
    if found != fingerprint:
        raise BundleError(
            f"the bundle {bundle!r} is another here than the one whose {kind.__name__} was pickled ({found[:8]}, not "
            f"{fingerprint[:8]}): its {loaded.output.label} would be others",
            path=loaded.path,
        )
    return loaded


class LoadedBundle:
    """Base of what runs a bundle. Pickled, it is its path and options: the model is loaded again."""

    calls_at_once = 1  # of those that are awaited: one call already uses all cores

    def __init__(self, bundle: str | os.PathLike[str] | Bundle, options: RunOptions) -> None:
        self._options = options
        self.background: bool = options.background
        loaded = bundle if isinstance(bundle, Bundle) else open_bundle(bundle, text=options.runs_texts)
        self.manifest: Manifest = loaded.manifest
        self.path: Path = loaded.path
        self._check_bundle()
        self._process: int = os.getpid()
        self._model: Model = load_model(loaded, options)
        self._files: Bundle = replace(loaded, model=b"", tokenizer=b"", parsed=None)  # of its towers
        self.exact: bool = self._model.loaded.exact

    def _check_bundle(self) -> None:
        """Refuse a bundle that this class cannot run, before its model is loaded."""

    def __reduce__(self) -> tuple[Any, ...]:
        options = {name: value for name, value in asdict(self._options).items() if value != getattr(RunOptions, name)}
        return _load, (type(self), self._bundle_name(), self.manifest.fingerprint, options)

    def _bundle_name(self) -> str:
        """What finds the bundle again, also in another process with another working directory."""
        return str(self.path.absolute())

    @property
    def name(self) -> str:
        """The bundle's."""
        return self.manifest.name

    @property
    def output(self) -> Kind:
        """What the bundle gives, as the object that knows its shape, and how an index stores it."""
        return self.manifest.output

    @property
    def is_static(self) -> bool:
        """Whether the bundle is a table of token vectors, without a network."""
        return self.manifest.is_static

    @property
    def tokenizer(self) -> Tokenizer:
        """Of texts. Raises InputError where the bundle has no model for them, or it was not loaded."""
        return self._model.tokenizer

    @property
    def threads(self) -> int:
        """Cores that are used; may be set."""
        return self._model.threads

    @threads.setter
    def threads(self, count: int) -> None:
        self._model.threads = check_threads(count)
        if not self.background:
            self._options = replace(self._options, threads=count)

    @property
    def network(self) -> "Network":
        """The model in onnxruntime, which the native engine loads when it is asked for here.

        Raises InputError for a static bundle, which has none, MissingExtraError without onnxruntime.
        """
        return self._model.network

    @property
    def engine(self) -> str:
        """What runs the model here: "native" or "onnxruntime"; "" for a table, which needs none."""
        return self._model.loaded.engine

    @property
    def engine_reason(self) -> str:
        """Why that is not the engine that the bundle was made for; "" where it is."""
        return self._model.loaded.why

    @property
    def predicted_peak(self) -> int:
        """Bytes that the process was predicted to take at most, or 0 without `max_rss_mb`."""
        towers = vars(self).get("_towers")  # where one was asked for
        return max(self._model.loaded.peak, towers.peak if towers else 0)

    @property
    def golden_cosine(self) -> float:
        """How near golden vectors are to those of the machine that made the bundle, of what is loaded; 1 of nothing."""
        towers = vars(self).get("_towers")
        return min(self._model.loaded.golden_cosine, towers.golden_cosine if towers else 1.0)

    @cached_property
    def _towers(self) -> "Towers":
        from edge_embed_runtime.embed.towers import Towers  # most bundles have none

        return Towers(self._files, self._options)

    def _batch_tokens(self, given: int | None) -> int:
        """Padded tokens in the model at a time. Raises InputError."""
        most = self._model.loaded.batch_tokens
        tokens = most if given is None else check_count(given, "batch_tokens", 1)
        return min(tokens, most) if self.predicted_peak else tokens

    def check_process(self) -> None:
        """Raises InputError in a forked child: the model's threads are not there."""
        if os.getpid() != self._process:
            raise InputError(
                f"this {type(self).__name__} was made before a fork: make a new one in the child process", code="forked"
            )

    def _run(
        self,
        count: int,
        run: Callable[[int, int], Iterator[tuple[Sequence[int], T]]],
        keep: Callable[[list[int], T], None],
        show: bool,
    ) -> None:
        """Have `run` work on inputs from one number to another, and `keep` what it makes of those at some places."""
        with progress_bar(count, show) as advance:
            for start in range(0, count, WINDOW):
                with embedding(self._options.limit, self.predicted_peak):
                    for batch, results in run(start, start + WINDOW):
                        keep([start + i for i in batch], results)
                        advance(len(batch))

    def _listed(
        self, given: "Texts", encode: Callable[[list[str]], Iterator[tuple[Sequence[int], list[T]]]], show: bool
    ) -> list[T]:
        """What `encode` makes of each text, in their order."""
        found: dict[int, T] = {}
        self._run(
            len(given),
            lambda start, stop: encode(given.whole(start, stop)),
            lambda places, results: found.update(zip(places, results, strict=True)),
            show,
        )
        return [found[i] for i in range(len(given))]

    def _check_kind(self, kind: Kind) -> None:
        """Refuse a bundle that gives something else for a text."""
        own = self.output
        if own is not kind:
            raise InputError(
                f"bundle {self.path} gives {own.gives}: call {own.method}; {kind.method} is for bundles of "
                f"kind {kind.name!r}",
                path=self.path,
            )
