"""What a bulk run says while it runs and at its end."""

from dataclasses import asdict, dataclass, field
from typing import Any

# Of what may be as long as the input, so many are kept in memory; the journal of the run has all.
KEPT = 1000


@dataclass(frozen=True)
class Progress:
    """rows: embedded so far, those of earlier runs included, of `total`; speed: rows a second of this run."""

    rows: int
    total: int
    shards: int
    of_shards: int
    speed: float

    @property
    def seconds_left(self) -> float | None:
        return (self.total - self.rows) / self.speed if self.speed else None


@dataclass
class Bulked:
    """What `embed_files` did.

    rows:        with a vector, in all shards; of them `embedded` by this run
    problems:    rows without one: `file`, `row` (from 0) or `line` (from 1) and `reason`; the first KEPT, and how many
    duplicates:  keys that several rows have, as `key` and `shards`; the first KEPT, and how many. All have their rows
    shards:      of them `made` by this run, `repaired` of these were there, but not as they had been written
    """

    output: str
    bundle: str
    fingerprint: str
    dim: int
    dtype: str
    workers: int = 0
    rows: int = 0
    embedded: int = 0
    blank: int = 0
    shards: int = 0
    made: int = 0
    repaired: int = 0
    problem_count: int = 0
    problems: list[dict[str, Any]] = field(default_factory=list)
    duplicate_count: int = 0
    duplicates: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def rows_per_second(self) -> float:
        return self.embedded / self.seconds if self.seconds else 0.0

    def note(self, problems: list[dict[str, Any]]) -> None:
        self.problem_count += len(problems)
        self.problems += problems[: KEPT - len(self.problems)]

    def as_json(self) -> dict[str, Any]:
        said = {"seconds": round(self.seconds, 3), "rows_per_second": round(self.rows_per_second, 1)}
        return {**asdict(self), **said}
