"""Every fault that the harness makes, with the number of tries of the quick and the full run."""

import signal
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from badfiles import one_bad_file
from budgets_kept import keep_budgets
from bundles import mutate_bundles
from children import Clock, in_child
from controls import InPlace, LargeInPlace, LargeWhole, Renamed, Whole
from copies import take_copies
from ctrl_c import interrupt_lines, interrupt_randomly
from disk import FAULTS, cut_after_fault, fail_calls, fill_disk
from hostile import open_hostile
from kills import kill_rebuild, kill_repair, kill_store
from limits import interrupt, starve_all
from merged import Merged
from mutate import mutate_all
from pictured import Pictured
from powercut import cut_store
from workload import Bench, Given, Row

DAY = 86_400.0


class Check(NamedTuple):
    """size: tries, or, for calls that fail, every how many calls one fails; 0 for every line of "interrupts"."""

    fault: str
    run: Callable[[Bench, Row, int], None]
    quick: int
    full: int
    control: bool = False
    shim: bool = False

    def __call__(self, bench: Bench, *, full: bool) -> Row:
        """In a child process, so that no check finds what another left in memory."""
        row, clock = Row(self.fault, control=self.control), Clock()
        if self.shim and not bench.shim.loaded:
            row.skipped = "needs Linux and a C compiler"
            return row

        def work() -> Row:
            self.run(bench, row, self.full if full else self.quick)
            return row

        try:
            row = in_child(work, DAY)
        except RuntimeError as error:
            row.fail("crashes", "the check itself", str(error))
        row.seconds = clock()
        return row


CHECKS = [
    Check("kill -9", kill_store, 12, 1000),
    Check("kill -9, vectors given", partial(kill_store, store=Given), 8, 500),
    Check("kill -9, pictures", partial(kill_store, store=Pictured), 8, 500),
    Check("kill -9 in merges", partial(kill_store, store=Merged), 8, 500),
    Check("kill -9 in repair", kill_repair, 4, 200),
    Check("kill -9 in rebuild", kill_rebuild, 4, 100),
    Check("kill -9, saved by rename", partial(kill_store, store=LargeWhole), 5, 200),
    Check("kill -9, saved in place", partial(kill_store, store=LargeInPlace), 20, 200, control=True),
    Check("power cut", cut_store, 150, 10_000, shim=True),
    Check("power cut, vectors given", partial(cut_store, store=Given), 80, 2_000, shim=True),
    Check("power cut, pictures", partial(cut_store, store=Pictured), 60, 2_000, shim=True),
    Check("power cut in merges", partial(cut_store, store=Merged), 60, 2_000, shim=True),
    Check("power cut after a failed call", cut_after_fault, 40, 4_000, shim=True),
    Check("power cut, saved by rename", partial(cut_store, store=Whole), 80, 1_000, shim=True),
    Check("power cut, rename without fsync", partial(cut_store, store=Renamed), 80, 1_000, control=True, shim=True),
    Check("power cut, saved in place", partial(cut_store, store=InPlace), 80, 1_000, control=True, shim=True),
    Check("power cut, fsync ignored", partial(cut_store, syncs=False), 80, 1_000, control=True, shim=True),
    *(Check(str(fault), partial(fail_calls, fault=fault), 40, 1, shim=True) for fault in FAULTS),
    Check("full tmpfs", fill_disk, 4, 200),
    Check("copies and moves", take_copies, 12, 300),
    Check("mutated index", partial(mutate_all, name="index"), 50, 10_000),
    Check("mutated graph", partial(mutate_all, name="graph"), 25, 10_000),
    Check("mutated index beside its log", partial(mutate_all, name="index beside its log"), 25, 2_000),
    Check("mutated log (-wal)", partial(mutate_all, name="log (-wal)"), 25, 2_000),
    Check("mutated -shm", partial(mutate_all, name="-shm"), 20, 1_000),
    Check("mutated bundle", mutate_bundles, 16, 10_000),
    Check("hostile files", open_hostile, 16, 400),
    Check("out of memory", starve_all, 2, 50),
    Check("one bad file among many", one_bad_file, 6, 1000),
    Check("budgets", keep_budgets, 4, 300),
    Check("SIGINT", partial(interrupt, number=signal.SIGINT), 3, 200),
    Check("interrupts", interrupt_lines, 40, 0),
    Check("interrupts at any time", interrupt_randomly, 20, 893),
    Check("SIGTERM", partial(interrupt, number=signal.SIGTERM), 3, 200),
]
