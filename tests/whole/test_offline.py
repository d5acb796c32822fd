"""No network: every command of a device, its system calls and Python's own events watched.

Two watchers, because either misses something: an audit hook sees what Python asks for, in every process and thread, and
also what a namespace without interfaces would answer "unreachable"; strace sees native libraries.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

# Loaded by every Python process of the test, before its program: writes what touches the network to a file.
HOOK = """
import os, sys

def watch(event, arguments):
    if event.startswith(("socket.", "urllib.", "http.", "ftplib.", "smtplib.", "ssl.")):
        with open(os.environ["SEEN"], "a") as file:
            print(event, *map(repr, arguments), file=file)

sys.addaudithook(watch)
"""
# Address families that leave the machine, and what strace prints where one is used.
FAMILIES = ("AF_INET", "AF_INET6", "AF_NETLINK", "AF_PACKET", "AF_BLUETOOTH")

COMMANDS = (
    ("demo",),
    ("add", "notes.db", "notes"),
    ("search", "notes.db", "when does the boat go?", "--mode", "vector"),
    ("search", "notes.db", "ferry", "--mode", "text"),
    ("search", "notes.db", "ferry", "--mode", "hybrid", "--where", "lang=en"),
    ("encode", "notes/ferry.md", "-o", "vectors.npy"),
    ("eval", "judged"),
    ("info", "notes.db"),
    ("verify", "notes.db"),
    ("repair", "notes.db"),
    ("rebuild", "notes.db", "--graph", "always"),
    ("compact", "notes.db"),
)
EVERYTHING = f"""
from click.testing import CliRunner
from edge_embed.cli.main import main
for command in {COMMANDS!r}:
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 0, (command, result.output)
print("done")
"""
# What must be caught: a name looked up, a connection, an open socket that does nothing yet, a server.
CALLERS = {
    "look-up": "import socket\ntry: socket.getaddrinfo('example.invalid', 80)\nexcept OSError: pass",
    "download": "import urllib.request\ntry: urllib.request.urlopen('http://127.0.0.1:9')\nexcept OSError: pass",
    "datagram": "import socket\nsocket.socket(socket.AF_INET, socket.SOCK_DGRAM)",
    "server": "import socket\nsocket.socket().bind(('127.0.0.1', 0))",
}
# The C library, past everything that Python sees.
NATIVE = "import ctypes\nctypes.CDLL(None).socket(2, 1, 0)"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with documents, a judged set and the hook."""
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook" / "sitecustomize.py").write_text(HOOK)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "ferry.md").write_text("The ferry to the island leaves at nine.")
    row = {"id": "c1", "text": "The cat sleeps on the sofa.", "lang": "en"}
    (tmp_path / "notes" / "cats.jsonl").write_text(json.dumps(row))
    judged = tmp_path / "judged"
    judged.mkdir()
    texts = [{"_id": f"d{i}", "text": text} for i, text in enumerate(["a ferry at nine", "a cat", "money", "rain"])]
    (judged / "corpus.jsonl").write_text("\n".join(map(json.dumps, texts)))
    (judged / "queries.jsonl").write_text(json.dumps({"_id": "q", "text": "boat"}))
    (judged / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\nq\td0\t1\n")
    return tmp_path


def environment(place: Path) -> dict[str, str]:
    """Without what tells libraries to stay offline: they must not need to be told."""
    kept = {name: value for name, value in os.environ.items() if "OFFLINE" not in name and "TELEMETRY" not in name}
    paths = [str(place / "hook"), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**kept, "PYTHONPATH": os.pathsep.join(paths), "SEEN": str(place / "seen"), "HOME": str(place)}


def run(place: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=place, env=environment(place), capture_output=True, text=True, check=False, timeout=300
    )


def seen(place: Path) -> str:
    """Events of the audit hook."""
    return (place / "seen").read_text() if (place / "seen").exists() else ""


def traced(place: Path, program: Sequence[str]) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """A program under strace with all its threads and children, and its system calls that use a network's address."""
    log = place / "trace"
    done = run(place, "strace", "-f", "-qq", "-e", "trace=%network", "-o", str(log), *program)
    return done, [line for line in log.read_text().splitlines() if any(family in line for family in FAMILIES)]


def can(*command: str) -> bool:
    """Whether a tool is here and allowed."""
    tried = shutil.which(command[0]) and subprocess.run(command, capture_output=True, check=False).returncode == 0
    return bool(tried)


STRACE = can("strace", "-f", "-qq", "-e", "trace=%network", "-o", os.devnull, "true")
UNSHARE = next((way for way in (("unshare", "-n"), ("unshare", "-rn")) if can(*way, "true")), None)


def everything() -> list[str]:
    """A Python that runs every command; the start of a process for each would take most of the time."""
    return [sys.executable, "-c", EVERYTHING]


def test_python_asks_for_no_network(place: Path) -> None:
    """Every command of a device does its work, where that can be had with no interface at all, and nothing of it looks
    up a name or makes a socket."""
    done = run(place, *(UNSHARE or ()), *everything())
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")
    assert seen(place) == ""


@pytest.mark.skipif(not STRACE, reason="needs strace and the right to trace")
def test_native_libraries_ask_for_no_network(place: Path) -> None:
    """onnxruntime, tokenizers, usearch and numpy make no socket either: no telemetry, no look-up."""
    done, calls = traced(place, everything())
    assert (done.stdout, done.stderr, calls) == ("done\n", "", [])


@pytest.mark.parametrize(
    "entry",
    [
        "import edge_embed.cli.main; edge_embed.cli.main.main(['demo', '--engine', 'onnxruntime'])",
        "from edge_embed import Embedder; Embedder(engine='onnxruntime')",
        "import edge_embed_runtime.model.session",
    ],
)
def test_onnxruntime_is_told_to_send_nothing(place: Path, entry: str) -> None:
    """It sends events some seconds after its import, where the environment does not forbid it before."""
    program = f"""
import os, sys
def watch(event, arguments):
    if event == "import" and arguments[0] == "onnxruntime":
        print(os.environ.get("ORT_DISABLE_TELEMETRY"), flush=True)
        os._exit(0)
sys.addaudithook(watch)
{entry}
"""
    done = run(place, sys.executable, "-c", program)
    assert done.stdout.splitlines()[:1] == ["1"]


def test_the_command_asks_for_no_network(place: Path) -> None:
    """The program that users start, from its first line to its last."""
    done = run(place, sys.executable, "-m", "edge_embed", "demo", "--json")
    assert (done.returncode, done.stderr, seen(place)) == (0, "", "")


@pytest.mark.parametrize("caller", CALLERS)
def test_the_hook_catches(place: Path, caller: str) -> None:
    """What does use the network is seen: the tests above can fail."""
    done = run(place, sys.executable, "-c", CALLERS[caller])
    assert (done.returncode, done.stderr) == (0, "")
    assert "socket." in seen(place)


@pytest.mark.skipif(not STRACE, reason="needs strace and the right to trace")
@pytest.mark.parametrize("program", [CALLERS["download"], NATIVE], ids=["download", "native"])
def test_strace_catches(place: Path, program: str) -> None:
    """A socket made by the C library, which Python's hook does not see, is seen too."""
    _, calls = traced(place, [sys.executable, "-c", program])
    assert calls
    assert (seen(place) == "") == (program == NATIVE)
