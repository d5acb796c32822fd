"""The service against its own embedder, in one run: python -m bench.serve [--documents 100000]

Three processes: the service (`edge-embed serve`), clients on keep-alive connections, and an embedder that is asked for
batches of eight. They work by turns, round by round, so that all see the same machine. A client sends one short text
(questions of bank customers), waits for the vector as base64, compares its bits with `encode`, and sends the next.

Prints texts/s of the embedder (batches of 8) and of the service under 1, 8 and 64 clients; their ratio, medians of the
rounds; latencies; CPU milliseconds a text of each process, since clients take their share of the cores, which in
earnest they do elsewhere; wrong answers; resident memory. Then searches of an index of so many documents.

It does not measure a network, nor clients that are written in Python libraries, which take longer than the service.
"""

import argparse
import base64
import json
import os
import selectors
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from edge_embed import Document, Embedder, Index
from edge_embed.corpus import demo_documents
from edge_embed_export.calibration.texts import records
from edge_embed_runtime.vectors.types import Vectors

CLIENTS = (1, 8, 64)
BATCH = 8
MIN_WORDS, MAX_WORDS = 6, 12
TICKS = os.sysconf("SC_CLK_TCK")
MB = 1e6
END = b"\r\n\r\n"


def texts() -> list[str]:
    """Short questions of bank customers: 8 to 16 tokens of MiniLM."""
    found = [document.text for document in demo_documents()]
    return [text for text in found if MIN_WORDS <= len(text.split()) <= MAX_WORDS]


# The embedder by itself.


def embed_batches() -> None:
    """A child: for each line of stdin, a number of seconds, embed batches for so long and print the texts and CPU
    seconds."""
    embedder, given = Embedder(sys.argv[2]), texts()
    for start in range(0, 64, BATCH):
        embedder.encode(given[start : start + BATCH])
    for line in sys.stdin:
        begun, cpu, count = time.perf_counter(), time.process_time(), 0
        while time.perf_counter() - begun < float(line):
            start = count % (len(given) - BATCH)
            embedder.encode(given[start : start + BATCH])
            count += BATCH
        print(json.dumps([count, time.perf_counter() - begun, time.process_time() - cpu]), flush=True)


# Clients, in one process.


class Client:
    """One connection that asks again and again."""

    def __init__(self, port: int, requests: Sequence[bytes], expected: Sequence[bytes], first: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._requests, self._expected, self._number = requests, expected, first
        self._answer = b""
        self.seconds: list[float] = []
        self.wrong = 0

    def send(self) -> None:
        self._number = (self._number + 1) % len(self._requests)
        self._answer, self._begun = b"", time.perf_counter()
        self.socket.sendall(self._requests[self._number])

    def receive(self) -> bool:
        """Take what is there; whether the answer is whole."""
        self._answer += self.socket.recv(2**18)
        head = self._answer.find(END)
        if head < 0:
            return False
        length = int(self._answer[:head].lower().split(b"content-length:")[1].split(b"\r\n")[0])
        if len(self._answer) < head + len(END) + length:
            return False
        self.seconds.append(time.perf_counter() - self._begun)
        right = self._answer.startswith(b"HTTP/1.1 200") and self._expected[self._number] in self._answer
        self.wrong += not right
        return True


def run_clients(port: int, count: int, seconds: float, requests: Sequence[bytes], expected: Sequence[bytes]) -> Any:
    """So many clients for so long: [answers, wrong ones, seconds, CPU seconds, latencies]."""
    clients = [Client(port, requests, expected, 17 * i) for i in range(count)]
    with selectors.DefaultSelector() as selector:
        for client in clients:
            selector.register(client.socket, selectors.EVENT_READ, client)
        begun, cpu, waiting = time.perf_counter(), time.process_time(), len(clients)
        for client in clients:
            client.send()
        while waiting:
            for key, _ in selector.select():
                if key.data.receive():
                    if time.perf_counter() - begun < seconds:
                        key.data.send()
                    else:
                        waiting -= 1
        took, cpu = time.perf_counter() - begun, time.process_time() - cpu
    for client in clients:
        client.socket.close()
    latencies = sorted(second for client in clients for second in client.seconds)
    return [len(latencies), sum(client.wrong for client in clients), took, cpu, latencies]


def ask() -> None:
    """A child: for each line of stdin, [port, clients, seconds], what `run_clients` gives."""
    embedder, given = Embedder(sys.argv[2]), texts()
    vectors = embedder.encode(given)
    requests = [_request("/v1/embeddings", embedding(text, embedder.name)) for text in given]
    expected = [base64.b64encode(vector.astype("<f4").tobytes()) for vector in vectors]
    for line in sys.stdin:
        port, count, seconds = json.loads(line)
        print(json.dumps(run_clients(port, count, seconds, requests, expected)), flush=True)


def search() -> None:
    """A child: the same for searches, each of which must give ten hits."""
    requests = [_request("/index/search", {"query": text, "k": 10}) for text in texts()]
    for line in sys.stdin:
        port, count, seconds = json.loads(line)
        print(json.dumps(run_clients(port, count, seconds, requests, [b'"hits"'] * len(requests))), flush=True)


def embedding(text: str, model: str) -> dict[str, str]:
    return {"input": text, "model": model, "encoding_format": "base64"}


def _request(path: str, body: dict[str, Any]) -> bytes:
    written = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: "
    return head.encode() + str(len(written)).encode() + END + written


# The service.


@contextmanager
def serving(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """`edge-embed serve` on a free port, and that port."""
    command = [sys.executable, "-m", "edge_embed", "serve", "--port", "0", "--allow-host", "localhost", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            for line in process.stdout or ():
                if line.startswith("listening on "):
                    yield process, int(line.rstrip().rpartition(":")[2])
                    return
            raise SystemExit("the service did not start")
        finally:
            process.terminate()


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def resident_mb(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / MB


@contextmanager
def child(task: str, bundle: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "bench.serve", task, bundle]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.communicate()


def order(process: subprocess.Popen[str], what: Any) -> Any:
    to, answers = process.stdin, process.stdout
    if to is None or answers is None:
        raise SystemExit("a child was started without pipes")
    to.write(f"{json.dumps(what)}\n")
    to.flush()
    return json.loads(answers.readline())


class Quick(Embedder):
    """Vectors with the fingerprint of a bundle, made in no time: those of a few texts, with noise."""

    def encode(self, texts: Sequence[str], **_: Any) -> Vectors:
        if not hasattr(self, "_some"):
            self._random = np.random.default_rng(0)
            self._some = super().encode([record["text"][:200] for record in records("judged")[:400]])
        noise = 0.03 * self._random.standard_normal((len(texts), self.dim))
        made = self._some[self._random.integers(0, len(self._some), len(texts))] + noise
        return np.asarray(made / np.linalg.norm(made, axis=1, keepdims=True), np.float32)


def fill(path: Path, bundle: str, count: int) -> None:
    """Documents of thirty words: two pieces of passages from Wikipedia."""
    random = np.random.default_rng(0)
    passages = [record["text"].split() for record in records("judged")]

    def piece() -> str:
        words = passages[random.integers(len(passages))]
        start = random.integers(max(1, len(words) - 15))
        return " ".join(words[start : start + 15])

    with Index.open(path, Quick(bundle)) as index:
        for start in range(0, count, 10_000):
            keys = range(start, min(start + 10_000, count))
            index.add(Document(f"d{i}", f"{piece()} {piece()}") for i in keys)


# Rounds.


def measure(bundle: str, rounds: int, seconds: float) -> None:
    own: list[float] = []
    own_cpu: list[float] = []
    found: dict[int, list[Any]] = {count: [] for count in CLIENTS}
    with (
        serving("--bundle", bundle) as (service, port),
        child("embed", bundle) as embedder,
        child("ask", bundle) as asker,
    ):
        started = resident_mb(service.pid)
        order(asker, [port, BATCH, 1.0])  # warm
        for _ in range(rounds):
            count, took, cpu = order(embedder, seconds)
            own.append(count / took)
            own_cpu.append(1e3 * cpu / count)
            for clients in CLIENTS:
                before = cpu_seconds(service.pid)
                answers, wrong, took, cpu, latencies = order(asker, [port, clients, seconds])
                spent = cpu_seconds(service.pid) - before
                found[clients].append(
                    {
                        "rate": answers / took,
                        "ratio": answers / took / own[-1],
                        "wrong": wrong,
                        "p50": 1e3 * latencies[len(latencies) // 2],
                        "p99": 1e3 * latencies[int(0.99 * len(latencies))],
                        "cpu": 1e3 * spent / answers,
                        "client": 1e3 * cpu / answers,
                    }
                )
        rate, cpu = statistics.median(own), statistics.median(own_cpu)
        print(f"embedder, batches of {BATCH}: {rate:.0f} texts/s, {cpu:.2f} ms CPU a text")
        for clients, each in found.items():
            middle = {name: statistics.median(one[name] for one in each) for name in each[0]}
            wrong = sum(one["wrong"] for one in each)
            print(
                f"{clients} clients: {middle['rate']:.0f} texts/s = {middle['ratio']:.2f} x embedder; "
                f"p50 {middle['p50']:.1f} ms, p99 {middle['p99']:.1f} ms; CPU a text: service {middle['cpu']:.2f} ms, "
                f"client {middle['client']:.2f} ms; wrong: {wrong}"
            )
        print(f"resident: {started:.0f} MB when started, {resident_mb(service.pid):.0f} MB afterwards")


def measure_index(bundle: str, documents: int, rounds: int, seconds: float) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "index.db"
        fill(path, bundle, documents)
        with serving(str(path), "--bundle", bundle) as (service, port), child("search", bundle) as asker:
            print(f"index of {documents:,}: {resident_mb(service.pid):.0f} MB resident when started")
            for clients in CLIENTS:
                each = [order(asker, [port, clients, seconds]) for _ in range(rounds)]
                latencies = sorted(1e3 * second for one in each for second in one[4])
                rate = sum(one[0] for one in each) / sum(one[2] for one in each)
                print(
                    f"{clients} clients: {rate:.0f} searches/s, p50 {latencies[len(latencies) // 2]:.1f} ms, "
                    f"p99 {latencies[int(0.99 * len(latencies))]:.1f} ms; wrong: {sum(one[1] for one in each)}; "
                    f"{resident_mb(service.pid):.0f} MB resident"
                )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", default="minilm")
    parser.add_argument("--documents", type=int, default=100_000, help="0: no index")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=2.0)
    given = parser.parse_args()
    measure(given.bundle, given.rounds, given.seconds)
    if given.documents:
        measure_index(given.bundle, given.documents, 2, given.seconds)


if __name__ == "__main__":
    tasks = {"embed": embed_batches, "ask": ask, "search": search}
    tasks.get(sys.argv[1] if len(sys.argv) > 1 else "", main)()
