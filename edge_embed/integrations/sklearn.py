"""scikit-learn: texts to vectors, as a step of a Pipeline."""

import functools
import os
from collections.abc import Iterable, Mapping, Set
from typing import Any, Self

from edge_embed.embedder import Embedder
from edge_embed_runtime.embed.texts import Truncation
from edge_embed_runtime.errors import BundleMismatchError, InputError
from edge_embed_runtime.extras import require
from edge_embed_runtime.vectors.types import Vectors

require("sklearn", "sklearn")

from sklearn import get_config
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted

# Bundles that are loaded at a time, for all vectorizers of a process: a grid search clones them often.
LOADED = 2


@functools.lru_cache(LOADED)
def _loaded(_process: int, bundle: str | None, options: tuple[tuple[str, Any], ...]) -> Embedder:
    """_process: an Embedder is for the process that made it"""
    return Embedder(bundle, **dict(options))


class EdgeVectorizer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Texts to the vectors of a bundle, float32 [n, dim], each of length 1. Nothing is learned.

    bundle:        a name ("minilm", the default; "static") or a bundle's folder
    role:          whose prompt is put before each text ("query", "document"); None means that of the bundle's default
    prompt:        put this before each text instead; "" means none
    truncate_dim:  keep only so many numbers of each vector, of length 1 again
    on_truncation: what to do where a text is longer than the model reads: "warn", "ignore" or "error"
    adapter, threads, engine, max_rss_mb: see `edge_embed.Embedder`; with `n_jobs` give each worker threads=1
    batch_tokens:  see `edge_embed.Embedder.encode`

    A vectorizer that was fitted remembers the fingerprint of its bundle, also pickled or saved by joblib; the bundle
    itself stays where it is. Raises BundleMismatchError where there is another one when it transforms.

    Attributes: n_features_out_ (numbers in a vector), fingerprint_.
    """

    def __init__(
        self,
        bundle: str | os.PathLike[str] | None = None,
        *,
        role: str | None = None,
        prompt: str | None = None,
        truncate_dim: int | None = None,
        on_truncation: Truncation = "warn",
        adapter: str | None = None,
        threads: int | None = None,
        engine: str | None = None,
        max_rss_mb: float | None = None,
        batch_tokens: int | None = None,
    ) -> None:
        self.bundle = bundle
        self.role = role
        self.prompt = prompt
        self.truncate_dim = truncate_dim
        self.on_truncation = on_truncation
        self.adapter = adapter
        self.threads = threads
        self.engine = engine
        self.max_rss_mb = max_rss_mb
        self.batch_tokens = batch_tokens

    def fit(self, X: Iterable[str], y: object = None) -> Self:  # noqa: ARG002 - what scikit-learn gives
        """Load the bundle and check the texts. Raises InputError for what is no list of texts, BundleError."""
        texts_of(X)
        embedder = self._embedder()
        self.n_features_out_ = self._encode(embedder, []).shape[1]
        self.fingerprint_ = embedder.fingerprint
        return self

    def fit_transform(self, X: Iterable[str], y: object = None) -> Any:
        """`fit` and `transform` of texts that are read once."""
        texts = texts_of(X)
        return self.fit(texts, y)._output(texts, X)

    def transform(self, X: Iterable[str]) -> Any:
        """The vectors of n texts: float32 [n, n_features_out_], or what `set_output` asks for."""
        check_is_fitted(self)
        return self._output(texts_of(X), X)

    def _output(self, texts: list[str], given: object) -> Any:
        """The vectors of texts. A frame of pandas has the index of the texts where they are a Series: scikit-learn
        copies that of frames alone, and a ColumnTransformer joins its parts by it."""
        embedder = self._embedder()
        if embedder.fingerprint != self.fingerprint_:
            raise BundleMismatchError(
                f"this {type(self).__name__} was fitted with the bundle {self.fingerprint_[:8]}; "
                f"{embedder.path} holds {embedder.fingerprint[:8]}: fit it, and what follows it, again",
                path=embedder.path,
                bundle=embedder.name,
            )
        vectors = self._encode(embedder, texts)
        asked = getattr(self, "_sklearn_output_config", {}).get("transform") or get_config()["transform_output"]
        if asked != "pandas":
            return vectors
        pandas = require("pandas", "sklearn")
        return pandas.DataFrame(vectors, index=given.index if isinstance(given, pandas.Series) else None)

    @property
    def _n_features_out(self) -> int:
        """For the names of features, which scikit-learn makes."""
        return self.n_features_out_

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.one_d_array = True
        tags.input_tags.two_d_array = False
        tags.transformer_tags.preserves_dtype = []
        return tags

    def _embedder(self) -> Embedder:
        options = {
            "adapter": self.adapter,
            "engine": self.engine,
            "max_rss_mb": self.max_rss_mb,
            "threads": self.threads,
        }
        bundle = None if self.bundle is None else os.fspath(self.bundle)
        return _loaded(os.getpid(), bundle, tuple(options.items()))

    def _encode(self, embedder: Embedder, texts: list[str]) -> Vectors:
        return embedder.encode(
            texts,
            role=self.role,
            prompt=self.prompt,
            truncate_dim=self.truncate_dim,
            on_truncation=self.on_truncation,
            batch_tokens=self.batch_tokens,
        )


def texts_of(given: Any) -> list[str]:
    """A list of texts: of a list, an array [n], or one column of a frame. Raises InputError for anything else."""
    shape = getattr(given, "shape", None)
    if isinstance(given, str | bytes | Set | Mapping) or not isinstance(given, Iterable):  # a set has no order
        raise InputError(f"expected a list of texts, got {type(given).__name__}: write [text]", option="X")
    if shape is not None and len(shape) != 1:
        raise InputError(f"expected a list of texts, got {type(given).__name__} of shape {shape}: give one column")
    texts = list(given)
    for i, text in enumerate(texts):
        if not isinstance(text, str):
            raise InputError(f"text {i} is {type(text).__name__}, expected str", option="X")
    return [str.__str__(text) for text in texts]
