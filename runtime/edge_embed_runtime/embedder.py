"""Texts to vectors."""

import os
from collections.abc import Iterable, Mapping, Sequence, Set
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from edge_embed_runtime.budget import check_limit
from edge_embed_runtime.bundle import ROLES, Bundle, Manifest, read_bundle
from edge_embed_runtime.checks import check_count, check_text
from edge_embed_runtime.errors import BundleFormatError, InputError
from edge_embed_runtime.frame import Frame
from edge_embed_runtime.machine import default_threads
from edge_embed_runtime.progress import progress_bar
from edge_embed_runtime.tokenizer import Tokenizer

if TYPE_CHECKING:
    from edge_embed_runtime.network import Network
    from edge_embed_runtime.static import StaticModel

    Vectors = NDArray[np.float32]

# Texts that are tokenized and sorted together: bounds what is held besides texts and vectors.
WINDOW = 1024
# More is a mistake: no machine this is for has as many cores.
MAX_THREADS = 1024


class Embedder:
    """Embeds texts with one bundle.

    bundle:       a bundle folder, or one that `read_bundle` has read
    threads:      cores to use; None means all that affinity and the cgroup allow. Batches run side by side, each on
                  one core, so one text alone uses one
    truncate_dim: keep only the first numbers of each vector, L2-normalised again (see `Manifest.truncate_dims`)
    exact:        load this form of the model and no other (see `session.make_session`); None means what this CPU needs
    max_rss_mb:   megabytes (1,000,000 bytes) that the resident set of the process is not to exceed, whatever is
                  embedded; what the program itself allocates later is not counted. Smaller batches, fewer threads and
                  weights that are not prepacked are tried. Raises MemoryBudgetError where that is not enough
    background:   give way to everything else that wants the CPU: one thread of the lowest priority (Linux; elsewhere
                  just one thread)

    Where `edge-embed doctor --tune` has left a verdict of this machine, it answers for None of `threads` and `exact`.

    A text has one vector: the same bits alone, in any batch, at any padding and number of threads on one machine.
    `exact` says which form of the model this CPU needed, `golden_cosine` how near the vectors of the golden texts are
    to those of the machine that made the bundle.

    Raises BundleError when the bundle cannot be used on this machine.
    """

    def __init__(
        self,
        bundle: str | os.PathLike[str] | Bundle,
        *,
        threads: int | None = None,
        truncate_dim: int | None = None,
        exact: bool | None = None,
        max_rss_mb: float | None = None,
        background: bool = False,
    ) -> None:
        limit = check_limit(max_rss_mb)
        if background and threads not in (None, 1):
            raise InputError(f"threads is {threads!r}; background means one thread")
        self.background: bool = background
        threads = 1 if background else threads
        self.threads: int = default_threads() if threads is None else check_count(threads, "threads", 1, MAX_THREADS)
        loaded = bundle if isinstance(bundle, Bundle) else read_bundle(bundle)
        self.manifest: Manifest = loaded.manifest
        self.path: Path = loaded.path
        dim = self.manifest.dim
        self._dim: int = dim if truncate_dim is None else check_count(truncate_dim, "truncate_dim", 1, dim)
        self._process: int = os.getpid()
        self.tokenizer: Tokenizer = Tokenizer(loaded.tokenizer, self.manifest.max_tokens)
        self._model: Network | StaticModel
        if self.manifest.is_static:
            from edge_embed_runtime import static

            self._model = static.StaticModel(loaded, self.tokenizer, limit=limit, dim=self._dim)
        else:
            from edge_embed_runtime import network  # imports onnxruntime, which static bundles do without

            most = self.threads
            self._model = network.Network(
                loaded,
                self.tokenizer,
                threads=None if threads is None else most,
                most_threads=most,
                exact=exact,
                limit=limit,
                background=background,
                dim=self._dim,
            )
            self.threads = self._model.threads
        self.exact: bool = self._model.exact
        self.golden_cosine: float = self._model.golden_cosine

    @property
    def dim(self) -> int:
        """Numbers in a vector."""
        return self._dim

    @property
    def network(self) -> "Network":
        """The model as it is run. Raises InputError for a static bundle, which has none."""
        if self.manifest.is_static:
            raise InputError(f"bundle {self.path} is static: a table of token vectors, without a network")
        return cast("Network", self._model)

    @property
    def predicted_peak(self) -> int:
        """Bytes that the process was predicted to take at most, or 0 without `max_rss_mb`."""
        return self._model.peak

    @property
    def max_tokens(self) -> int:
        """Tokens of a text that count, special tokens included; the rest is left out."""
        return self.manifest.max_tokens

    @property
    def fingerprint(self) -> str:
        """Names the bundle's contents: indexes made under another fingerprint are refused."""
        return self.manifest.fingerprint

    @property
    def frame(self) -> Frame:
        """How binary codes are made of the vectors; that of the bundle is for vectors of all its dimensions."""
        stored = self.manifest.codes.get("frame") if self.dim == self.manifest.dim else None
        try:
            return Frame() if stored is None else Frame.from_json(stored, self.dim)
        except ValueError as error:
            raise BundleFormatError(f"bundle {self.path}: {error}") from error

    @property
    def prompts(self) -> dict[str, str]:
        """Text put before the input, by role."""
        return {**dict.fromkeys(ROLES, ""), **self.manifest.prompts}

    def encode_query(self, texts: Sequence[str], **options: Any) -> "Vectors":
        """`encode` with role="query"."""
        return self.encode(texts, role="query", **options)

    def encode_document(self, texts: Sequence[str], **options: Any) -> "Vectors":
        """`encode` with role="document"."""
        return self.encode(texts, role="document", **options)

    def encode(
        self,
        texts: Sequence[str],
        *,
        role: str | None = None,
        prompt: str | None = None,
        batch_tokens: int | None = None,
        show_progress: bool = False,
    ) -> "Vectors":
        """Embed n texts: float32 [n, dim], each row of length 1, in the order of the texts.

        role:          whose prompt is put before each text ("query", "document", ...); None means no prompt
        prompt:        put this before each text, as it stands, in place of the role's: an instruction of your own
        batch_tokens:  padded tokens in the model at a time: bounds the memory, does not change the vectors. None means
                       512, or fewer under `max_rss_mb`
        show_progress: a bar on stderr, where that is a terminal

        The empty text is a text like any other. Raises InputError for anything that is not a list of Unicode texts.
        """
        if isinstance(texts, str | bytes | Mapping | Set) or not isinstance(texts, Iterable):
            raise InputError(f"encode takes a list of texts, got {type(texts).__name__}: write encode([text])")
        most = self._model.batch_tokens
        batch_tokens = most if batch_tokens is None else check_count(batch_tokens, "batch_tokens", 1)
        if self._model.peak:
            batch_tokens = min(batch_tokens, most)
        if role is not None and (not isinstance(role, str) or role not in self.prompts):
            raise InputError(f"role is {role!r}, expected one of {sorted(self.prompts)}")
        if os.getpid() != self._process:
            raise InputError("this Embedder was made before a fork: make a new one in the child process")
        prompt = (self.prompts[role] if role else "") if prompt is None else check_text(prompt, "the prompt")
        try:
            texts = [check_text(text, f"text {i}") for i, text in enumerate(texts)]
        except TypeError as error:  # an array without dimensions says that it can be iterated over
            raise InputError(f"encode takes a list of texts: {error}") from error
        vectors = np.empty((len(texts), self.dim), np.float32)
        with progress_bar(len(texts), show_progress) as advance:
            for start in range(0, len(texts), WINDOW):
                window = [prompt + text for text in texts[start : start + WINDOW]]
                for batch, found in self._model.encode(window, self.dim, batch_tokens):
                    vectors[[start + i for i in batch]] = found
                    advance(len(batch))
        return vectors
