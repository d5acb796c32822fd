"""Texts to vectors."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edge_embed_runtime.budget import Profile, check_limit, check_static, choose_profile
from edge_embed_runtime.bundle import ROLES, Bundle, Manifest, read_bundle
from edge_embed_runtime.checks import check_count, check_text
from edge_embed_runtime.errors import BundleFormatError, DeadlineError, EdgeEmbedError, GoldenError, InputError
from edge_embed_runtime.frame import Frame
from edge_embed_runtime.machine import default_threads, give_way
from edge_embed_runtime.mapped import weights_of
from edge_embed_runtime.memory import give_back
from edge_embed_runtime.modelcheck import check_model
from edge_embed_runtime.progress import progress_bar
from edge_embed_runtime.tokenizer import TokenIds, Tokenizer
from edge_embed_runtime.verdict import recall

if TYPE_CHECKING:
    from edge_embed_runtime.static import StaticModel

    Vectors = NDArray[np.float32]

# Padded tokens in one run of the model. More is slower, because activations then leave the L2 cache: for MiniLM-L6
# 2,048 tokens halve the speed of 256, and take 60 MB more.
BATCH_TOKENS = 512
# What one run of the model costs besides its tokens, in tokens (0.16 ms of 0.04 ms a token on x86, and some slack).
RUN_TOKENS = 8
# Threads share the budget of a batch, down to so many tokens each: fewer are slower.
LEAST_RUN_TOKENS = 128
# Texts that are tokenized and sorted together: bounds what is held besides texts and vectors.
WINDOW = 1024
# More is a mistake: no machine this is for has as many cores.
MAX_THREADS = 1024
# Golden vectors of another CPU agree to about 0.9997; a kernel that saturates gives 0.995.
GOLDEN_COSINE = 0.999


def batches(lengths: Sequence[int], batch_tokens: int) -> Iterator[list[int]]:
    """Positions grouped by length so that texts x longest text <= batch_tokens (a batch has at least one text).

    The groups are those with the least work, counting padded tokens and RUN_TOKENS for each run of the model.

    lengths=[3, 9, 4], batch_tokens=12 -> [1], [2, 0]
    """
    by_length: dict[int, list[int]] = {}
    for position in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        by_length.setdefault(lengths[position], []).append(position)
    distinct = list(by_length)
    counts = [len(by_length[length]) for length in distinct]
    # least[i]: the work for the texts from the i-th distinct length on; ends[i]: where the first of their groups ends
    least, ends = [0] * (len(distinct) + 1), [0] * len(distinct)
    for i in reversed(range(len(distinct))):
        longest, texts, works = distinct[i], 0, []
        for j in range(i, len(distinct)):
            if counts[j] * (longest - distinct[j]) > RUN_TOKENS:
                break  # a run of their own costs less than this padding
            texts += counts[j]
            runs = -(-texts // max(1, batch_tokens // longest))
            works.append((texts * longest + runs * RUN_TOKENS + least[j + 1], j + 1))
        least[i], ends[i] = min(works)
    start = 0
    while start < len(distinct):
        group = [position for length in distinct[start : ends[start]] for position in by_length[length]]
        size = max(1, batch_tokens // distinct[start])
        yield from (group[i : i + size] for i in range(0, len(group), size))
        start = ends[start]


def pad(rows: Sequence[TokenIds]) -> dict[str, NDArray[np.int64]]:
    """The model's inputs for a batch: `input_ids` and `attention_mask`, both [len(rows), longest row]."""
    ids = np.zeros((len(rows), max(map(len, rows))), np.int64)
    mask = np.zeros_like(ids)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = row
        mask[i, : len(row)] = 1
    return {"input_ids": ids, "attention_mask": mask}


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
        self._static: StaticModel | None = None
        if self.manifest.is_static:
            from edge_embed_runtime import static

            table = self.manifest.files[self.manifest.model_file].size
            self._peak: int = check_static(limit, self.manifest.name, table)
            self._static = static.StaticModel(loaded, self.tokenizer)
            self.exact: bool = False
            self.golden_cosine: float = self._measure_golden()
            if self.golden_cosine < GOLDEN_COSINE:
                raise GoldenError(
                    f"bundle {self.path}: this machine does not reproduce the golden vectors: "
                    f"cosine {self.golden_cosine:.4f}, expected at least {GOLDEN_COSINE}"
                )
            return
        if not any(self.tokenizer.around):
            raise BundleFormatError(
                f"bundle {self.path}: tokenizer.json puts no special tokens around a text: an empty one would have none"
            )
        import onnxruntime  # static bundles do without

        from edge_embed_runtime import session

        tuned = recall(self.manifest.fingerprint, onnxruntime.__version__) if exact is None else None
        if tuned is not None and tuned.threads is not None and threads is None:
            self.threads = min(self.threads, tuned.threads)
        first = exact if exact is not None else session.products_saturate() if tuned is None else tuned.exact
        check_model(loaded.model, f"bundle {self.path}: the model")
        give_back()  # what importing took is not there when loading takes most
        for form in (first, not first) if exact is None else (first,):
            self.exact = form
            self._choose_profile(loaded, limit)
            self._session = session.load_session(loaded, exact=form, prepacked=self._profile.prepacked)
            self.golden_cosine = self._measure_golden()
            if self.golden_cosine >= GOLDEN_COSINE:
                break
        else:
            raise GoldenError(
                f"bundle {self.path}: this machine does not reproduce the golden vectors: "
                f"cosine {self.golden_cosine:.4f}, expected at least {GOLDEN_COSINE}. "
                f"onnxruntime {onnxruntime.__version__} may not support this CPU"
            )
        give_back()

    def _choose_profile(self, bundle: Bundle, limit: int | None) -> None:
        """Threads and batches, and what the process will take with them."""
        self._profile: Profile = Profile(self.threads, BATCH_TOKENS)
        self._peak = 0
        if limit is not None:
            weights = weights_of(bundle.model)
            prediction = choose_profile(limit, weights, self.manifest, self.exact, self.threads, BATCH_TOKENS)
            self._profile, self._peak = prediction.profile, prediction.total
            self.threads = self._profile.threads

    @property
    def dim(self) -> int:
        """Numbers in a vector."""
        return self._dim

    @property
    def predicted_peak(self) -> int:
        """Bytes that the process was predicted to take at most, or 0 without `max_rss_mb`."""
        return self._peak

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
        most = BATCH_TOKENS if self._static is not None else self._profile.batch_tokens
        batch_tokens = most if batch_tokens is None else check_count(batch_tokens, "batch_tokens", 1)
        if self._peak:
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
                if self._static is not None:
                    window = [prompt + text for text in texts[start : start + WINDOW]]
                    vectors[start : start + len(window)] = self._static.encode(window, self.dim)
                    advance(len(window))
                    continue
                ids = [self.tokenizer.encode(prompt + text) for text in texts[start : start + WINDOW]]
                for batch, found in self._run_all(ids, batch_tokens):
                    vectors[[start + i for i in batch]] = found
                    advance(len(batch))
        return vectors

    def _run_all(self, ids: list[TokenIds], batch_tokens: int) -> "Iterator[tuple[list[int], Vectors]]":
        """Positions of texts and their vectors, batch by batch: several at a time, each on one core.

        That is faster than all cores on one batch: short texts have too little work to share.
        """
        lengths = [len(row) for row in ids]
        share = -(-sum(lengths) // self.threads)
        fair = max(batch_tokens // self.threads, LEAST_RUN_TOKENS)  # together they need the memory of one batch
        runs = list(batches(lengths, min(batch_tokens, share, fair)))
        if not self.background and (self.threads == 1 or len(runs) < 2):
            for batch in runs:
                yield batch, self._run([ids[i] for i in batch])
            return
        from concurrent.futures import ThreadPoolExecutor  # a query needs none of it

        with ThreadPoolExecutor(
            min(self.threads, len(runs)), "edge_embed", initializer=give_way if self.background else None
        ) as pool:
            try:
                yield from zip(runs, pool.map(lambda batch: self._run([ids[i] for i in batch]), runs), strict=True)
            finally:
                pool.shutdown(cancel_futures=True)

    def _run(self, rows: list[TokenIds]) -> "Vectors":
        from edge_embed_runtime import deadline

        feed = pad(rows)
        try:
            (output,) = deadline.run(self._session, feed)
        except Exception as error:
            shape = feed["input_ids"].shape
            kind = DeadlineError if isinstance(error, DeadlineError) else EdgeEmbedError
            raise kind(f"bundle {self.path}: the model failed on {shape} tokens: {error}") from error
        # a model that is damaged or was made to harm may give anything
        expected = np.dtype(np.float32), (len(rows), self.manifest.dim)
        if (output.dtype, output.shape) != expected or not np.isfinite(output).all():
            finite = "some not finite, " if (output.dtype, output.shape) == expected else ""
            raise EdgeEmbedError(
                f"bundle {self.path}: the model gave {output.dtype} numbers {output.shape}, {finite}for {len(rows)} "
                f"texts, expected finite float32 {expected[1]}. Export it again"
            )
        vectors: Vectors = output[:, : self.dim]
        if self.dim < self.manifest.dim:
            vectors = _normalize(vectors)
        return vectors

    def _measure_golden(self) -> float:
        """The lowest cosine of a golden text's vector to the exporter's; 1 where the bundle has no golden texts."""
        golden = self.manifest.golden
        if not golden:
            return 1.0
        expected = _normalize(np.array([g.vector[: self.dim] for g in golden], np.float32))
        # one by one: together they would need more memory than the query that most processes start with
        if self._static is not None:
            found = [self._static.encode([g.text], self.dim) for g in golden]
        else:
            found = [self._run([self.tokenizer.encode(g.text)]) for g in golden]
        return float((np.concatenate(found) * expected).sum(axis=1).min())


def _normalize(vectors: "Vectors") -> "Vectors":
    """Rows [n, d] brought to length 1."""
    normalized: Vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return normalized
