"""Threads and functions that embed and search while the program ends: right results, or one error of ours."""

import subprocess
import sys
from pathlib import Path

import pytest

START = """
import atexit, sys, threading
early = []
atexit.register(lambda: [call() for call in early])
from edge_embed import Document, Embedder, Index
from edge_embed.errors import EdgeEmbedError
TEXTS = ["river bank " * (i % 7) + str(i) for i in range(64)]
"""
# What is run, and what it has to print. {bundle}, {index}: paths.
ENDS = {
    "a thread embeds after the main thread": (
        """
embedder = Embedder({bundle!r}, threads=2)
expected = embedder.encode(TEXTS)
def work():
    threading.main_thread().join()
    print((embedder.encode(TEXTS) == expected).all())
threading.Thread(target=work).start()
""",
        "True",
    ),
    "a thread makes its first embedder after the main thread": (
        """
def work():
    threading.main_thread().join()
    print(Embedder({bundle!r}, threads=2).encode(TEXTS).shape)
threading.Thread(target=work).start()
""",
        "(64, 384)",
    ),
    "atexit": (
        """
embedder = Embedder({bundle!r}, threads=2)
expected = embedder.encode(TEXTS)
atexit.register(lambda: print((embedder.encode(TEXTS) == expected).all()))
""",
        "True",
    ),
    "atexit makes an embedder and an index": (
        """
def work():
    with Index.open({index!r}, Embedder({bundle!r}, threads=2)) as index:
        index.add([Document(str(i), text) for i, text in enumerate(TEXTS)])
        print(len(index.search("river")), index.verify().whole)
atexit.register(work)
""",
        "10 True",
    ),
    "atexit, registered before the import": (
        """
embedder = Embedder({bundle!r}, threads=2)
expected = embedder.encode(TEXTS)
early.append(lambda: print((embedder.encode(TEXTS) == expected).all()))
""",
        "True",
    ),
    "in the background after the main thread": (
        """
embedder = Embedder({bundle!r}, background=True)
def work():
    threading.main_thread().join()
    print(embedder.encode(TEXTS).shape)
threading.Thread(target=work).start()
""",
        "(64, 384)",
    ),
    "a thread adds and searches after the main thread": (
        """
index = Index.open({index!r}, Embedder({bundle!r}, threads=2))
def work():
    threading.main_thread().join()
    index.add([Document(str(i), text) for i, text in enumerate(TEXTS)])
    print(len(index.search("river")), len(index))
    index.close()
threading.Thread(target=work).start()
""",
        "10 64",
    ),
    "threads search while the index is closed": (
        """
index = Index.open({index!r}, Embedder({bundle!r}, threads=2))
index.add([Document(str(i), text) for i, text in enumerate(TEXTS)])
began = threading.Barrier(5)
def work():
    began.wait()
    try:
        while True:
            assert len(index.search("river")) == 10
    except EdgeEmbedError as error:
        sys.stdout.write(type(error).__name__ + "\\n")
for _ in range(4):
    threading.Thread(target=work).start()
began.wait()
threading._register_atexit(index.close)  # before threads are waited for
""",
        "IndexClosedError\nIndexClosedError\nIndexClosedError\nIndexClosedError",
    ),
    "daemon threads search at the end": (
        """
index = Index.open({index!r}, Embedder({bundle!r}, threads=2))
index.add([Document(str(i), text) for i, text in enumerate(TEXTS)])
began = threading.Barrier(5)
def work():
    began.wait()
    while True:
        index.search("river")
for _ in range(4):
    threading.Thread(target=work, daemon=True).start()
began.wait()
print("end")
""",
        "end",
    ),
}


@pytest.mark.parametrize("name", ENDS)
def test_work_at_the_end_of_a_program(name: str, bundle: Path, tmp_path: Path) -> None:
    """Nothing on stderr, and the exit status of a program that did its work."""
    program, expected = ENDS[name]
    text = START + program.format(bundle=str(bundle), index=str(tmp_path / "x.db"))
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr, done.returncode) == (expected, "", 0)


def test_where_no_thread_can_be_started_the_caller_does_the_work(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As at the end of Python 3.12 and later, and where the system has no more threads."""
    import threading

    from edge_embed import Embedder
    from edge_embed_runtime.system.background import Background
    from edge_embed_runtime.system.workers import work

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    embedder = Embedder(bundle, threads=2)
    texts = [f"river {i}" for i in range(40)]
    expected = embedder.encode(texts)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert (embedder.encode(texts) == expected).all()
    assert (Embedder(bundle, threads=2).encode(texts) == expected).all()
    assert Background(lambda: 7).result() == 7
    assert list(work(lambda n: n * n, range(5), 3)) == [0, 1, 4, 9, 16]


def test_an_error_of_a_worker_reaches_the_caller() -> None:
    """And the work that was not begun is dropped."""
    from edge_embed_runtime.system.workers import work

    begun: list[int] = []

    def call(number: int) -> int:
        begun.append(number)
        if number == 2:
            raise ValueError("two")
        return number

    found = work(call, range(1000), 2)
    assert [next(found), next(found)] == [0, 1]
    with pytest.raises(ValueError, match="two"):
        next(found)
    ended = len(begun)
    assert begun.count(2) == 1
    assert len(begun) == ended
