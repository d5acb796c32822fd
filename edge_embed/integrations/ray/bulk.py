"""Files of texts into shards of vectors, on Ray Data: what `edge-embed bulk` does."""

import json
import os
import pickle
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from edge_embed import __version__
from edge_embed.embedder import Embedder, bundle_path
from edge_embed.files.shards import DTYPES, Finished, ShardFacts
from edge_embed.integrations.ray.bundles import packed
from edge_embed.integrations.ray.cluster import EXTRA, START_SECONDS, connected
from edge_embed.integrations.ray.columns import Asked, check_parquet
from edge_embed.integrations.ray.inputs import GRAIN, Counted, File, count, cut, find, rows_for
from edge_embed.integrations.ray.journal import Journal, locked, name_of
from edge_embed.integrations.ray.keys import Keys
from edge_embed.integrations.ray.outcome import Bulked, Progress
from edge_embed.integrations.ray.reading import Piece, check_first
from edge_embed.integrations.ray.worker import EmbedShards, Job, Written
from edge_embed_runtime.bundle.manifest import MANIFEST, read_manifest
from edge_embed_runtime.checks import check_count, check_path, listed, unusable
from edge_embed_runtime.errors import EdgeEmbedError, MemoryBudgetError, SourceError
from edge_embed_runtime.extras import is_installed, missing, require
from edge_embed_runtime.system.cpu import default_threads
from edge_embed_runtime.system.memory import check_limit


@dataclass(frozen=True)
class BulkOptions:
    """How files are embedded; see `embed_files`."""

    bundle: str | None = None
    text_column: str = "text"
    key_column: str | None = None
    role: str | None = "document"
    prompt: str | None = None
    truncate_dim: int | None = None
    dtype: str = "float32"
    adapter: str | None = None
    engine: str | None = None
    workers: int | None = None
    threads: int = 1
    max_rss_mb: float | None = None
    address: str | None = None
    rows_per_shard: int | None = None
    strict: bool = False

    @property
    def asked(self) -> Asked:
        return Asked(self.text_column, self.key_column)

    @property
    def of_embedder(self) -> dict[str, Any]:
        """For the workers; without `engine`, which is the driver's for all of them."""
        return {
            "threads": self.threads,
            "truncate_dim": self.truncate_dim,
            "adapter": self.adapter,
            "max_rss_mb": self.max_rss_mb,
        }


def embed_files(
    inputs: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    *,
    bundle: str | os.PathLike[str] | None = None,
    progress: Callable[[Progress], None] | None = None,
    **options: Any,
) -> Bulked:
    """Embed each row of Parquet and JSONL files on a Ray cluster, and write Parquet shards to the folder `output`.

    inputs:         files (.parquet, .jsonl, .ndjson; the last two also .gz), folders of such files, or patterns
    bundle:         a folder or a name, as `Embedder` takes it; nodes that do not have it get its files
    text_column:    of the texts, each of which becomes one vector; only its first `max_tokens` count
    key_column:     of the keys; None: `key`, `_id` or `id`, the first that is there; without it the keys are FILE:ROW
                    of a Parquet file (from 0) and FILE:LINE of a file of lines (from 1)
    role, prompt:   see `Embedder.encode`
    truncate_dim, adapter, engine: see `Embedder`
    dtype:          of the stored vectors: "float32", or "float16", which takes half the space
    workers:        actors; None: as many as the cluster has room for
    threads:        CPUs of each; one is what gives the most rows a second
    max_rss_mb:     megabytes that each worker may take, see `Embedder`; Ray reserves them, too
    address:        of a cluster, as `ray.init` takes it; None: the one that this process has joined, else one on this
                    machine that ends with the call
    rows_per_shard: what a worker embeds in one go, and does again where it is killed; None: 20,000, fewer for small
                    inputs
    strict:         stop at the first row that cannot be embedded, and store nothing of its shard
    progress:       called after each shard

    Each finished shard is durable. Called again, the run goes on: finished shards are compared with their hashes, and
    what is missing or damaged is made again. Where a part of an input is damaged, all other shards are made before that
    is raised. Input and output are paths that all nodes have.

    Raises InputError where `output` holds another run (other inputs, bundle or columns), IndexLockedError where
    another process writes it, SourceError for inputs that cannot be read, MemoryBudgetError where workers keep dying,
    MissingExtraError without Ray.
    """
    named = None if bundle is None else os.fspath(bundle)
    asked = BulkOptions(bundle=named, **options)
    given = [inputs] if isinstance(inputs, str | os.PathLike) else list(inputs)
    target = check_path(output, "the output")
    if not is_installed("ray"):  # importing it settles who may use a cluster that it starts, see cluster.py
        raise missing("ray", EXTRA)
    facts = _facts(asked)
    files = find(given, target)
    with locked(target):
        journal = Journal(target)
        _plan(journal, asked, facts, files)
        journal.clean()
        return _Run(journal, asked, facts, progress).run()


def _facts(options: BulkOptions) -> ShardFacts:
    """What the vectors will be. Raises InputError and BundleError for options that the bundle does not have."""
    if options.dtype not in DTYPES:
        raise unusable("dtype", options.dtype, f"one of {listed(DTYPES)}")
    check_count(options.threads, "threads", 1)
    check_limit(options.max_rss_mb)
    if options.rows_per_shard is not None:
        check_count(options.rows_per_shard, "rows_per_shard", 1)
    model = {**options.of_embedder, "max_rss_mb": None, "engine": options.engine}
    embedder = Embedder(options.bundle, **model)
    embedder.encode(["a text"], role=options.role, prompt=options.prompt)
    return ShardFacts(
        bundle=embedder.name,
        fingerprint=embedder.fingerprint,
        space=embedder.space,
        engine=embedder.engine,
        dim=embedder.dim,
        dtype=options.dtype,
        role=options.role,
        prompt=options.prompt,
        adapter=options.adapter,
        version=__version__,
    )


def _plan(journal: Journal, options: BulkOptions, facts: ShardFacts, files: Sequence[File]) -> None:
    """The plan of a new run, or a check that this one is the run that the folder holds."""
    columns = asdict(options.asked)
    if journal.plan:
        journal.check(facts, columns, files, options.rows_per_shard)
        return
    grain = options.rows_per_shard or GRAIN
    counted = [_counted(file, grain, options.asked) for file in files]
    total = sum(one.rows for one in counted)
    workers = options.workers or default_threads()
    rows = options.rows_per_shard or rows_for(total, workers)
    journal.begin(facts, columns, counted, list(cut(counted, rows, grain)))


def _counted(file: File, grain: int, asked: Asked) -> Counted:
    counted = count(file, grain)
    if file.is_parquet:
        check_parquet(file.path, require("pyarrow.parquet", "arrow").read_schema(file.path), asked)
    else:
        check_first(file.path, asked)
    return counted


class _Run:
    """One call: the shards that are missing, embedded by workers and committed here, one after the other."""

    def __init__(
        self,
        journal: Journal,
        options: BulkOptions,
        facts: ShardFacts,
        progress: Callable[[Progress], None] | None,
    ) -> None:
        self._journal, self._options, self._facts, self._progress = journal, options, facts, progress
        self._pieces = {piece.number: piece for piece in journal.pieces()}
        self._total = sum(journal.rows)
        self._keys = Keys(self._total)
        self._unread: list[tuple[SourceError, Piece]] = []
        self._rows = sum(rows for number, rows in enumerate(journal.rows) if number in journal.done)
        self._done = Bulked(str(journal.output), facts.bundle, facts.fingerprint, facts.dim, facts.dtype)

    def run(self) -> Bulked:
        done, journal = self._done, self._journal
        done.shards, done.repaired = len(journal.rows), len(journal.broken)
        for one in journal.done.values():
            done.rows += one.rows
            done.note(one.problems)
            self._keys.add_shard(journal.output / one.name)
        self._begun = time.monotonic()
        if self._pieces:
            with connected(self._options.address, self._options.workers, self._options.threads) as (ray, workers):
                done.workers = workers
                self._begun = time.monotonic()
                for written in self._written(ray, workers):
                    self._commit(written)
        journal.sweep()
        if self._unread:
            raise self._failed(*self._unread[0])
        done.seconds = time.monotonic() - self._begun
        shards = [journal.output / journal.done[number].name for number in sorted(journal.done)]
        done.duplicate_count, done.duplicates = self._keys.twice(shards)
        return done

    def _written(self, ray: Any, workers: int) -> Iterator[Written]:
        """Shards in the order in which workers end them."""
        options = self._options
        job = Job(
            output=str(self._journal.output.absolute()),
            run=os.urandom(4).hex(),
            asked=options.asked,
            facts=self._facts,
            bundle=options.bundle,
            fingerprint=_fingerprint(options.bundle),
            options=options.of_embedder,
            files=ray.put(packed(options.bundle)) if len(ray.nodes()) > 1 else None,
        )
        items = [{"piece": json.dumps(asdict(piece))} for piece in self._pieces.values()]
        dataset = ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
            EmbedShards,
            fn_constructor_args=(job,),
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=min(workers, len(items)), max_tasks_in_flight_per_actor=2),
            num_cpus=options.threads,
            memory=check_limit(options.max_rss_mb),
        )
        try:
            for row in dataset.iter_rows():
                yield pickle.loads(row["written"])  # noqa: S301 - from our own worker
        except ray.exceptions.GetTimeoutError as error:
            what = f"after {START_SECONDS} seconds not all workers ({workers}) had started"
            raise MemoryBudgetError(f"{what}, {self._advice('their nodes')}") from error
        except ray.exceptions.RayError as error:
            said = " ".join(str(error).split())
            raise EdgeEmbedError(f"Ray could not go on: {said[-500:]}; {self._kept()}") from error

    def _kept(self) -> str:
        journal = self._journal
        return f"{len(journal.done)} of {len(journal.rows)} shards are finished: run again to go on"

    def _commit(self, written: Written) -> None:
        piece = self._pieces[written.shard]
        if written.lost:
            what = f"{written.lost} workers were killed while they embedded {self._rows_of(piece)}"
            raise MemoryBudgetError(f"{what}, {self._advice('their node')}")
        if isinstance(written.error, SourceError) and not self._options.strict:
            self._unread.append((written.error, piece))  # raised at the end: all other shards can be made
            return
        if written.error is not None:
            raise self._failed(written.error, piece)
        if written.problems and self._options.strict:
            first = written.problems[0]
            place = f"row {first['row']}" if "row" in first else f"line {first['line']}"
            raise SourceError(f"{first['file']}, {place}: {first['reason']}; {self._kept()}", path=piece.path)
        name = name_of(piece.number)
        one = Finished(piece.number, name, written.rows, written.size, written.sha256, written.problems)
        self._journal.commit(written.temporary, one)
        done = self._done
        done.made += 1
        done.rows += written.rows
        done.embedded += written.rows
        done.blank += written.blank
        done.note(written.problems)
        self._keys.add(written.hashes)
        self._rows += piece.rows
        if self._progress is not None:
            speed = done.embedded / max(time.monotonic() - self._begun, 1e-9)
            finished = len(self._journal.done)
            self._progress(Progress(self._rows, self._total, finished, done.shards, speed))

    def _advice(self, where: str) -> str:
        return (
            f"most likely because the memory of {where} was used up: try fewer workers (--workers), or a limit for "
            f"each (--max-rss); {self._kept()}"
        )

    def _failed(self, error: BaseException, piece: Piece) -> BaseException:
        """The worker's error, with where it was and what is kept."""
        if isinstance(error, EdgeEmbedError):
            error.args = (f"{error}; while {self._rows_of(piece)} were embedded; {self._kept()}",)
        return error

    def _rows_of(self, piece: Piece) -> str:
        first = piece.first if piece.is_parquet else piece.first + 1
        return f"{'rows' if piece.is_parquet else 'lines'} {first} to {first + piece.rows - 1} of {piece.name}"


def _fingerprint(bundle: str | None) -> str:
    """Of the bundle alone, without an adapter."""
    return read_manifest(bundle_path(bundle) / MANIFEST).fingerprint
