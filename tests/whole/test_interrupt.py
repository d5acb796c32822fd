"""Ctrl-C during long work: the program ends at once, says so in one line, and what was committed is there."""

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from edge_embed import Document, Index
from edge_embed.cli.main import INTERRUPTED
from edge_embed_runtime.maintenance.verify import verify_index

pty = pytest.importorskip("pty", reason="needs a terminal to show progress on")

DOCUMENTS = 8_000  # of the index that the commands read: each of them then takes seconds
DIM = 64
SECONDS = 2.0  # of the command's CPU time after the signal ...
PATIENCE = 20.0  # ... and of the clock, where others have the machine
EXPORTING = 1.0  # CPU seconds after which an export is under way; it takes two to four
# a shell's background job would ignore the signal, and the child inherits that
PROGRAM = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    "from edge_embed.cli.main import main; main(prog_name='edge-embed')"
)


Begun = Callable[[str, int], bool]


class End(NamedTuple):
    """How a command ended: its exit status, the lines on its terminal, seconds and CPU seconds after the signal."""

    status: int
    lines: list[str]
    seconds: float
    cpu: float


def interrupt(arguments: list[str], begun: Begun) -> End:
    """`edge-embed ARGUMENTS`, interrupted once `begun` says so of what its terminal shows and its process id."""
    terminal, its = pty.openpty()
    command = [sys.executable, "-c", PROGRAM, *arguments]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=its, stderr=its, env={**os.environ})
    os.close(its)
    shown, sent = "", 0.0
    try:
        while True:
            if not sent and begun(shown, process.pid):
                before, sent = cpu_seconds(process.pid), time.monotonic()
                process.send_signal(signal.SIGINT)
            if select.select([terminal], [], [], 0.005)[0]:
                try:
                    read = os.read(terminal, 1 << 16)
                except OSError:  # Linux: nobody has the terminal open any more
                    break
                if not read:
                    break
                shown += read.decode(errors="replace")
        usage = os.wait4(process.pid, 0)
        ended = time.monotonic()
    finally:
        process.kill() if process.returncode is None else None
        os.close(terminal)
    process.returncode = os.waitstatus_to_exitcode(usage[1])
    assert sent, f"it ended before it could be interrupted: {shown[-500:]}"
    lines = [line.strip() for line in shown.replace("\r", "\n").splitlines() if line.strip()]
    return End(process.returncode, lines, ended - sent, usage[2].ru_utime + usage[2].ru_stime - before)


def cpu_seconds(pid: int) -> float:
    """What a process has used so far; 0, which is the strictest, where there is no /proc."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def shows(text: str, times: int = 1) -> Begun:
    """Whether the terminal has shown some text so many times: a bar is drawn again as it grows."""
    return lambda shown, _: shown.count(text) >= times


def grows(path: Path) -> Begun:
    """Whether a file has been begun."""
    return lambda *_: path.exists() and path.stat().st_size > 0


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a large index, vectors and texts, which the tests only read."""
    folder = tmp_path_factory.mktemp("interrupt")
    random = np.random.default_rng(0)
    vectors = random.standard_normal((DOCUMENTS, DIM)).astype(np.float32)
    lines = [f"{' '.join(f'word{n}' for n in row)}" for row in random.integers(0, 500, (DOCUMENTS, 12))]
    with Index.create(folder / "large.db", space="given", dim=DIM) as index:
        index.add_vectors([Document(f"d{i}", line) for i, line in enumerate(lines)], vectors)
    np.save(folder / "vectors.npy", vectors)
    (folder / "lines.txt").write_text("\n".join(lines))
    rows = [json.dumps({"_id": f"d{i}", "text": line}) for i, line in enumerate(lines)]
    (folder / "corpus.jsonl").write_text("\n".join(rows))
    (folder / "queries.jsonl").write_text("\n".join(rows[:50]))
    (folder / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\n" + "".join(f"d{i}\td{i}\t1\n" for i in range(50)))
    return folder


def bar(label: str) -> Begun:
    """Drawn, and drawn again: part of the work is done."""
    return shows(label, 2)


# What to type, and when it is at work. {copy} is a copy of the large index, {made} the folder of the fixture.
CASES = {
    "add": ("add {tmp}/new.db {made}/corpus.jsonl", bar("adding")),
    "encode": ("encode {made}/lines.txt -o {tmp}/out.npy", bar("embedding")),
    "eval": ("eval {made}", bar("embedding")),
    "load": ("load {tmp}/new.db {made}/vectors.npy --space given", bar("loading")),
    "dump": ("dump {copy} {tmp}/out.npz", bar("writing")),
    "verify": ("verify {copy}", bar("verifying")),
    "repair": ("repair {copy}", bar("verifying")),
    "rebuild": ("rebuild {copy}", bar("making binary codes")),
    "reembed": ("reembed {copy}", bar("embedding")),
    "compact": ("compact {copy}", None),  # at work when it writes
    "bench": ("bench --documents 0", bar("measuring")),
}


OFTEN = ("add", "encode", "rebuild", "compact")  # the others take a minute together


@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n in OFTEN else pytest.mark.slow) for n in CASES])
def test_an_interrupted_command_ends_at_once(name: str, made: Path, tmp_path: Path) -> None:
    """Exit status 130, one clear line at the end, two seconds of work at most, and the index whole as it was."""
    copy = tmp_path / "copy.db"
    shutil.copy(made / "large.db", copy)
    command, begun = CASES[name]
    arguments = [part.format(made=made, tmp=tmp_path, copy=copy) for part in command.split()]
    end = interrupt(arguments, begun or grows(copy.with_name("copy.db-wal")))
    check_end(end)
    for path in (copy, tmp_path / "new.db"):
        assert not path.exists() or verify_index(path).whole
    assert verify_index(copy).documents == DOCUMENTS
    assert not (tmp_path / "out.npy").exists()
    assert not (tmp_path / "out.npz").exists()


def check_end(end: End) -> None:
    assert end.lines[-1] == f"edge-embed: {INTERRUPTED}"
    assert end.status == 130
    assert end.cpu <= SECONDS
    assert end.seconds <= PATIENCE


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="shows no progress to wait for; needs /proc")
def test_an_interrupted_export_leaves_nothing(checkpoint: Callable[[], Path], tmp_path: Path) -> None:
    """Neither a bundle nor parts of one."""
    source, parent = checkpoint(), tmp_path / "out"
    parent.mkdir()
    end = interrupt(["export", str(source), str(parent / "bundle")], lambda _, pid: cpu_seconds(pid) > EXPORTING)
    check_end(end)
    assert list(parent.iterdir()) == []
