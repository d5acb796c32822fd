"""`python tests/whole/faults --full`: every fault, and a table of what came of it.

Exit status 1 where a promise is broken.

kill -9, power cuts, full and failing disks, damaged bytes, no memory, signals. A negative control is a store that is
known to lose documents: where the harness does not see that, it fails. The quick run, without --full, is part of the
tests. `python tests/whole/faults "power cut" --seed 7 --only 12` runs one case again.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from shutil import disk_usage

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1])]
WORK = "EDGE_EMBED_FAULTS"  # the folder of a run, in the environment of the process that does the work
COLUMNS = ("runs", "lost", "torn", "crashes", "hangs", "wrong")
MEMORY = Path("/dev/shm")  # noqa: S108 - used where there is room: what a kill leaves, RAM keeps as well
ROOM = 2**29


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python tests/whole/faults", description=__doc__.splitlines()[0])
    parser.add_argument(
        "fault", nargs="?", help="only this one (see the table), or those that begin so with a * behind"
    )
    parser.add_argument("--full", action="store_true", help="as many tries as the promises say; about half an hour")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=int, metavar="CASE", help="one case of one fault again")
    parser.add_argument("--json", action="store_true", help="rows as JSON instead of a table")
    parser.add_argument(
        "--folder", type=Path, help="where to work, such as a folder on a real disk; in RAM where not said"
    )
    return parser.parse_args()


def start(folder: Path) -> int:
    """The same command again, with the shim where it can be compiled."""
    from children import compile_shim

    shim = compile_shim(folder)
    environment = {
        **os.environ,
        WORK: str(folder),
        "SQLITE_TMPDIR": str(folder / "run" / "tmp"),  # there in runs that see temporary files fail
        "OPENBLAS_NUM_THREADS": "1",
        "MALLOC_ARENA_MAX": "1",  # memory that glibc has reserved for threads would go beyond a limit
        **({"LD_PRELOAD": str(shim)} if shim else {}),
    }
    return subprocess.run([sys.executable, str(HERE), *sys.argv[1:]], check=False, env=environment).returncode


def work(options: argparse.Namespace, folder: Path) -> int:
    from checks import CHECKS
    from children import Shim, in_child
    from workload import Bench, make_bundle

    os.environ.pop("LD_PRELOAD", None)
    wanted = [check for check in CHECKS if options.fault in (None, check.fault) or fits(options.fault, check.fault)]
    if not wanted or (options.only is not None and len(wanted) != 1):
        names = "".join(f"\n  {check.fault}" for check in CHECKS)
        print(f"give one fault of these, --only only with one:{names}", file=sys.stderr)  # noqa: T201
        return 2
    bench = Bench(folder, in_child(lambda: make_bundle(folder), 60), Shim(), options.seed, options.only)
    rows = []
    if not options.json:
        print(f"{'fault':36}{''.join(f'{name:>8}' for name in (*COLUMNS, 's'))}", flush=True)  # noqa: T201
    for check in wanted:
        row = check(bench, full=options.full)
        rows.append(row)
        if not options.json:
            print(line(row), flush=True)  # noqa: T201
    if options.json:
        print(json.dumps([{**asdict(row), "good": row.good} for row in rows]))  # noqa: T201
    return 0 if all(row.good for row in rows) else 1


def fits(pattern: str, fault: str) -> bool:
    return pattern.endswith("*") and fault.startswith(pattern[:-1])


def line(row: "Row") -> str:  # type: ignore[name-defined]  # noqa: F821 - it needs the packages under test
    if row.skipped:
        return f"{row.fault:36}  skipped: {row.skipped}"
    numbers = "".join(f"{getattr(row, name):8}" for name in COLUMNS)
    verdict = ("loses, as it must" if row.good else "LOSES NOTHING") if row.control else "" if row.good else "FAILED"
    shown = [f"    {text[:400]}" for text in (*row.notes, *([] if row.control else row.failures[:10]))]
    return "\n".join([f"{row.fault:36}{numbers}{row.seconds:8.1f}  {verdict}".rstrip(), *shown])


def main() -> int:
    options = arguments()
    if WORK in os.environ:
        return work(options, Path(os.environ.pop(WORK)))
    place = options.folder or (MEMORY if os.access(MEMORY, os.W_OK) and disk_usage(MEMORY).free > ROOM else None)
    with tempfile.TemporaryDirectory(prefix="edge_embed_faults.", dir=place) as folder:
        return start(Path(folder).resolve())


if __name__ == "__main__":
    sys.exit(main())
