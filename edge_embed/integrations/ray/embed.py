"""`EdgeEmbed`, what `map_batches` of Ray Data calls with each batch, and `embed_dataset`, which calls it right."""

import os
from inspect import signature
from typing import Any

import numpy as np

from edge_embed.embedder import Embedder
from edge_embed.files.arrow import EXTRA as ARROW
from edge_embed.files.shards import DTYPES
from edge_embed_runtime.checks import check_count, check_text, listed, shown, unusable
from edge_embed_runtime.errors import InputError
from edge_embed_runtime.extras import require
from edge_embed_runtime.system.memory import check_limit

EXTRA = "ray"
ON_ERROR = ("raise", "null")
# Rows of a batch: enough texts of about one length for the model, 1.5 MB of vectors.
BATCH_ROWS = 1024


class EdgeEmbed:
    """Adds a column of vectors to batches of a dataset of Ray Data: give the class to `map_batches`, or use
    `embed_dataset`.

    bundle:        a folder or a name, as `Embedder` takes it; None is the default. Each node needs it there
    text_column:   of the texts; vector_column: of the vectors, which must be new
    role, prompt:  see `Embedder.encode`
    dtype:         of the vectors, "float32" or "float16"
    on_error:      what to do with a row without a text (null, empty, not a string): "raise", or "null", which gives the
                   row no vector; rows never get lost
    threads:       CPUs of this actor; give `map_batches` the same number as `num_cpus`
    options:       others of Embedder: truncate_dim, max_rss_mb, adapter, engine ...

    A batch is a pyarrow Table (then vectors are lists of fixed size), a dict of numpy arrays, or a pandas DataFrame;
    the result is of the same kind. A text's vector is the one that `Embedder.encode` gives, bit for bit.
    """

    def __init__(
        self,
        bundle: str | os.PathLike[str] | None = None,
        *,
        text_column: str = "text",
        vector_column: str = "vector",
        role: str | None = "document",
        prompt: str | None = None,
        dtype: str = "float32",
        on_error: str = "raise",
        threads: int = 1,
        **options: Any,
    ) -> None:
        for name, value, allowed in (("dtype", dtype, DTYPES), ("on_error", on_error, ON_ERROR)):
            if value not in allowed:
                raise unusable(name, value, f"one of {listed(allowed)}")
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        self._text, self._vector, self._null = text_column, vector_column, on_error == "null"
        self._role, self._prompt, self._dtype = role, prompt, dtype
        self._embedder = Embedder(bundle, threads=threads, **options)

    def __call__(self, batch: Any) -> Any:
        """The batch with its vectors. Raises InputError for a row without a text, and for a column that is missing."""
        names = list(batch.column_names if hasattr(batch, "column_names") else batch)
        if self._text not in names:
            raise InputError(
                f"the dataset has no column {self._text!r}; columns: {listed(names)}", option="text_column"
            )
        if self._vector in names:
            raise InputError(f"the dataset has a column {self._vector!r} already", option="vector_column")
        column = batch[self._text]
        texts = list(column.to_pylist() if hasattr(column, "to_pylist") else column.tolist())
        there = self._usable(texts)
        vectors = np.zeros((len(texts), self._embedder.dim), self._dtype)
        if len(there):
            given = [texts[i] for i in there]
            vectors[there] = self._embedder.encode(given, role=self._role, prompt=self._prompt)
        return self._added(batch, vectors, there)

    def _usable(self, texts: list[Any]) -> list[int]:
        """Places of texts that have a vector."""
        there = []
        for i, text in enumerate(texts):
            try:
                if not isinstance(text, str) or not text.strip():
                    raise InputError(f"row {i} of a batch has no text in {self._text!r}: it is {shown(text)}")
                check_text(text, f"row {i} of a batch: the text")
                there.append(i)
            except InputError as error:
                if not self._null:
                    raise InputError(f'{error}; on_error="null" gives such rows no vector') from None
        return there

    def _added(self, batch: Any, vectors: Any, there: list[int]) -> Any:
        if hasattr(batch, "append_column"):
            return batch.append_column(self._vector, self._column(vectors, there))
        if isinstance(batch, dict):
            if len(there) < len(vectors):
                raise InputError('on_error="null" needs batch_format="pyarrow" or "pandas": numpy has no null')
            return {**batch, self._vector: vectors}
        kept = set(there)
        return batch.assign(**{self._vector: [one if i in kept else None for i, one in enumerate(vectors)]})

    def _column(self, vectors: Any, there: list[int]) -> Any:
        arrow = require("pyarrow", ARROW)
        numbers = arrow.array(vectors.reshape(-1))
        missing = np.ones(len(vectors), bool)
        missing[there] = False
        mask = arrow.array(missing) if missing.any() else None
        return arrow.FixedSizeListArray.from_arrays(numbers, vectors.shape[1], mask=mask)


def embed_dataset(
    dataset: Any,
    bundle: str | os.PathLike[str] | None = None,
    *,
    workers: int | tuple[int, int] | None = None,
    threads: int = 1,
    batch_size: int = BATCH_ROWS,
    **options: Any,
) -> Any:
    """A dataset of Ray Data with a column of vectors, embedded by a pool of actors when it is consumed.

    workers:    actors, or the least and the most; None: from 1 to as many as the cluster has CPUs, as Ray finds room
                beside the tasks that read and write
    threads:    CPUs of each actor
    batch_size: rows that an actor gets at a time
    options:    see `EdgeEmbed`

    Ray reserves `max_rss_mb` for each actor, where it is given. Raises InputError for numbers that cannot be, and
    TypeError for options that do not exist, before an actor starts; of other options the actors say what is wrong.
    """
    data, ray = require("ray.data", EXTRA), require("ray", EXTRA)
    check_count(threads, "threads", 1)
    check_count(batch_size, "batch_size", 1)
    unknown = options.keys() - {*signature(EdgeEmbed).parameters, *signature(Embedder).parameters}
    if unknown:
        raise TypeError(f"embed_dataset() got an unexpected keyword argument {min(unknown)!r}")
    if workers is None:
        workers = 1, max(1, int(ray.cluster_resources().get("CPU", 1)) // threads)
    least, most = workers if isinstance(workers, tuple) else (workers, workers)
    check_count(least, "workers", 1)
    check_count(most, "workers", least)
    limit = check_limit(options.get("max_rss_mb"))
    return dataset.map_batches(
        EdgeEmbed,
        fn_constructor_args=(bundle,),
        fn_constructor_kwargs={"threads": threads, **options},
        batch_size=batch_size,
        batch_format="pyarrow",
        compute=data.ActorPoolStrategy(min_size=least, max_size=most),
        num_cpus=threads,
        memory=limit,
    )
