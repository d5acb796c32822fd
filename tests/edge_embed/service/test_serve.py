"""`edge-embed serve` as a process: addresses, tokens, signals, systemd, logs."""

import contextlib
import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from builders.commands import run
from builders.served import reranker_bundle
from builders.services import TOKEN, Started, started

from edge_embed import Document, Embedder, Index
from edge_embed.errors import InputError
from edge_embed.service.sockets import Listening, listen_unix
from edge_embed.service.tokens import new_token

MODEL = ("--bundle", "static")
EVERYWHERE = "0.0.0.0"  # noqa: S104
REQUEST = {"input": "what a client asked in secret", "model": "static-minilm-l6-v2"}
# Passes a socket to a program as systemd does: LAUNCH host-or-path program arguments...
LAUNCHER = """
import os, socket, sys
if "/" in sys.argv[1]:
    made = socket.socket(socket.AF_UNIX)
    made.bind(sys.argv[1])
    os.chmod(sys.argv[1], int(sys.argv[2], 8))
else:
    made = socket.create_server((sys.argv[1], 0))
made.listen()
os.dup2(made.fileno(), 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()), LISTEN_FDNAMES="edge-embed.socket")
os.execv(sys.executable, [sys.executable, "-m", "edge_embed", "serve", *sys.argv[3:]])
"""


@contextlib.contextmanager
def launched(address: str, mode: str, *arguments: str) -> Any:
    """`edge-embed serve` on a socket that was passed to it."""
    command = [sys.executable, "-c", LAUNCHER, address, mode, *MODEL, *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        said = []
        for line in process.stdout:
            said.append(line.rstrip())
            if line.startswith("listening"):
                break
        yield Started(process, said, Path())
    finally:
        process.kill()
        process.communicate()


def failed(*arguments: object) -> str:
    """What a service that does not start says."""
    result = run("serve", *MODEL, *arguments)
    assert result.exit_code in (1, 2), result.output
    return result.stderr


def test_embeds_with_the_bits_of_encode(tmp_path: Path) -> None:
    """Started with nothing but a bundle it embeds; it listens on loopback, and /metrics counts."""
    vector = Embedder("static").encode([REQUEST["input"]])[0]
    with started(tmp_path, *MODEL) as service:
        assert re.fullmatch(r"http://127\.0\.0\.1:[0-9]+", service.where)
        found = service.ask("POST", "/v1/embeddings", REQUEST).json()["data"][0]["embedding"]
        assert found == vector.tolist()
        assert service.ask("GET", "/health").json() == {
            "status": "ok",
            "models": ["static-minilm-l6-v2"],
            "rerankers": [],
        }
        text = service.ask("GET", "/metrics").body.decode()
        for line in (
            'edge_embed_requests_total{route="/v1/embeddings",status="200"} 1.0',
            'edge_embed_batch_texts_count{model="static-minilm-l6-v2"} 1.0',
            'edge_embed_waiting_texts{model="static-minilm-l6-v2"} 0.0',
            'edge_embed_request_seconds_count{route="/health"} 1.0',
        ):
            assert line in text.splitlines()
        assert float(re.findall(r"(?m)^edge_embed_resident_bytes (\S+)", text)[0]) > 10e6
        assert float(re.findall(r'edge_embed_tokens_total{model="static-minilm-l6-v2"} (\S+)', text)[0]) > 5


@pytest.mark.slow
def test_bounded_labels(tmp_path: Path) -> None:
    """Paths that clients make up, and their methods, are one route in the metrics."""
    with started(tmp_path, *MODEL) as service:
        for i in range(20):
            assert service.ask("GET", f"/secret{i}").status == 404
            assert service.ask("PROPFIND", f"/secret{i}").status == 404
            assert service.ask(f"METHOD{i}", f"/secret{i}").status in (400, 404)
            assert service.ask("GET", f"/v1/models/secret{i}").status == 404
        text = service.ask("GET", "/metrics").body.decode()
        assert "secret" not in text
        assert "METHOD" not in text
        assert re.search(r'edge_embed_requests_total{route="other",status="404"} [46]0\.0', text)
        assert 'edge_embed_requests_total{route="/v1/models/{model:path}",status="404"} 20.0' in text


@pytest.mark.slow
def test_two_bundles(tmp_path: Path) -> None:
    """Clients choose by the names that were given."""
    with started(tmp_path, "--bundle", "fast=static", "--bundle", "good=minilm") as service:
        assert service.ask("GET", "/health").json()["models"] == ["fast", "good"]
        for name, dim in (("fast", 240), ("good", 384)):
            found = service.ask("POST", "/v1/embeddings", {**REQUEST, "model": name}).json()
            assert len(found["data"][0]["embedding"]) == dim
        assert service.ask("POST", "/v1/embeddings", {**REQUEST, "model": "best"}).status == 404


@pytest.mark.slow
def test_reranker(tmp_path: Path, short_receipt: None) -> None:
    """--rerank serves a reranker beside the bundle; one name is for one model."""
    judge = f"judge={reranker_bundle(tmp_path)}"
    with Index.open(tmp_path / "a.db", Embedder("static")) as index:
        index.add([Document("a", "a cat"), Document("b", "a dog")])
    with started(tmp_path, *MODEL, tmp_path / "a.db", "--rerank", judge) as service:
        assert service.ask("GET", "/health").json()["rerankers"] == ["judge"]
        found = service.ask("POST", "/rerank", {"query": "a cat", "texts": ["a cat", "a dog"]}).json()
        assert sorted(each["index"] for each in found) == [0, 1]
        hits = service.ask("POST", "/index/search", {"query": "a cat", "rerank": True}).json()["hits"]
        assert sorted(hit["key"] for hit in hits) == ["a", "b"]
    assert "is named 'judge' already" in failed("--bundle", "judge=static", "--rerank", judge)


def test_one_name_twice() -> None:
    assert "two are named 'a'" in failed("--bundle", "a=static", "--bundle", "a=static")


def test_random_token(tmp_path: Path) -> None:
    """With an index and no token one is made, said once, and needed to write; another one each time."""
    with started(tmp_path, *MODEL, tmp_path / "a.db") as service:
        assert len(service.token) == 43
        assert service.ask("GET", "/health").json()["index"] == {"documents": 0}
        assert service.end() == 0
    assert service.token not in service.stderr.read_text()
    assert new_token() != new_token()
    with started(tmp_path, *MODEL, tmp_path / "a.db", "--read-only") as service:
        assert not [line for line in service.said if "token" in line]


def test_token_file_and_environment(tmp_path: Path) -> None:
    """A given token is needed for everything, and is not in the environment of the process any more."""
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    file.chmod(0o600)
    other = "another-token-in-the-environment"
    for arguments, variables, token in (
        (("--token-file", file), {}, TOKEN),
        (("--token-file", file), {"EDGE_EMBED_TOKEN": other}, TOKEN),
    ):
        with started(tmp_path, *MODEL, *arguments, env={**os.environ, **variables}) as service:
            assert service.ask("GET", "/health").status == 401
            assert service.ask("POST", "/v1/embeddings", REQUEST, token=token).status == 200
            wrong = {TOKEN, other} - {token}
            assert service.ask("GET", "/health", token=wrong.pop()).status == 401
            assert TOKEN not in "".join(service.said)


@pytest.mark.parametrize(
    ("mode", "content", "words"),
    [
        (0o644, TOKEN, "chmod 600"),
        (0o660, TOKEN, "chmod 600"),
        (0o600, "tiny!", "16 to 1024"),
        (0o600, "", "16 to 1024"),
        (0o600, f"{TOKEN} {TOKEN}", "16 to 1024"),
        (0o600, "tökén-with-other-letters", "16 to 1024"),
        (0o600, "x" * 2000, "16 to 1024"),
    ],
)
def test_bad_token_files(tmp_path: Path, mode: int, content: str, words: str) -> None:
    """Refused before anything listens, without showing the token."""
    file = tmp_path / "token"
    file.write_text(content)
    file.chmod(mode)
    said = failed("--token-file", file)
    assert words in said
    assert not content or content not in said


def test_missing_token_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "No such file" in failed("--token-file", tmp_path / "none")
    assert "not a file" in failed("--token-file", tmp_path) or "Is a directory" in failed("--token-file", tmp_path)
    monkeypatch.setenv("EDGE_EMBED_TOKEN", "short")
    assert "EDGE_EMBED_TOKEN must hold" in failed()


def test_wider_than_loopback(tmp_path: Path) -> None:
    """Beyond loopback a flag and a token are needed, and every request then needs the token and a known Host."""
    assert "--allow-remote" in failed("--host", EVERYWHERE, "--port", "0")
    assert "--token-file" in failed("--host", EVERYWHERE, "--port", "0", "--allow-remote")
    assert "no address of this machine" in failed("--host", "no.such.host.invalid", "--port", "0")
    assert "cannot be listened on" in failed("--host", "192.0.2.1", "--port", "0")
    wide = ("--host", EVERYWHERE, "--port", "0", "--allow-remote", "--allow-host", "box.lan")
    with started(tmp_path, *MODEL, *wide, address=True, env={**os.environ, "EDGE_EMBED_TOKEN": TOKEN}) as service:
        assert service.ask("GET", "/health").status == 401
        assert service.ask("POST", "/v1/embeddings", REQUEST).status == 401
        assert service.ask("POST", "/v1/embeddings", REQUEST, token=TOKEN).status == 200
        assert service.ask("GET", "/health", token=TOKEN, Host="box.lan").status == 200
        assert service.ask("GET", "/health", token=TOKEN, Host="evil.example").status == 403


@pytest.mark.parametrize("package", ["starlette", "uvicorn", "prometheus_client"])
def test_missing_extra(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra the error has the line that installs it, and no other command needs it."""
    monkeypatch.setitem(sys.modules, package, None)
    said = failed("--port", "0")
    assert package in said
    assert "pip install 'edge-embed[serve]'" in said
    assert run("serve", "--help").exit_code == 0


def test_port_in_use() -> None:
    """Said in one line that names the port."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"127.0.0.1:{port} cannot be listened on: Address already in use" in failed("--port", port)


def unix_get(path: Path, host: str = "localhost") -> bytes:
    with socket.socket(socket.AF_UNIX) as asking:
        asking.settimeout(30)
        asking.connect(str(path))
        asking.sendall(f"GET /health HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        said = b""
        while part := asking.recv(65536):
            said += part
        return said


def test_unix_socket(tmp_path: Path) -> None:
    """Only its owner can connect; what a killed service left is replaced, what another serves is not; it is removed at
    the end."""
    path = tmp_path / "e.sock"
    with started(tmp_path, *MODEL, "--unix", path, address=True) as service:
        assert service.where == f"unix:{path}"
        assert stat.S_IMODE(path.lstat().st_mode) == 0o600
        assert b" 200 OK" in unix_get(path)
        assert b" 403 " in unix_get(path, "evil.example")
        assert run("serve", "--check", "--unix", path).stdout == "ready\n"
        assert "another server listens" in failed("--unix", path)
        assert b" 200 OK" in unix_get(path)
        service.end(signal.SIGKILL)
    assert stat.S_ISSOCK(path.lstat().st_mode)
    with started(tmp_path, *MODEL, "--unix", path, address=True) as service:
        assert b" 200 OK" in unix_get(path)
        assert service.end() == 0
    assert not path.exists()


def test_one_of_many_takes_what_is_left(tmp_path: Path) -> None:
    """Of services that start at a time where a killed one left its socket, one listens there, and the others say so."""
    path = tmp_path / "e.sock"
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(path))
    made: list[Listening] = []
    refused: list[str] = []

    def start() -> None:
        try:
            made.append(listen_unix(path))
        except InputError as error:
            refused.append(str(error))

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(made), len(refused)) == (1, 7)
    assert all("another server listens" in reason for reason in refused)
    made[0].close()
    assert not path.exists()


@pytest.mark.slow
def test_unix_socket_of_another(tmp_path: Path) -> None:
    """A socket that took the place of ours is not removed; a file in its place is refused; so is a path that is too
    long."""
    path = tmp_path / "e.sock"
    with started(tmp_path, *MODEL, "--unix", path, address=True) as service:
        path.unlink()
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(str(path))
            assert service.end() == 0
            assert path.exists()
    file = tmp_path / "file"
    file.write_text("mine")
    assert "is no socket" in failed("--unix", file)
    assert file.read_text() == "mine"
    assert "cannot be made" in failed("--unix", tmp_path / ("x" * 120))
    assert "cannot be made" in failed("--unix", tmp_path / "none" / "e.sock")
    assert "--unix stands alone" in failed("--unix", path, "--port", 1)


def test_check(tmp_path: Path) -> None:
    """--check says whether a service answers, and brings the token; its exit status is for containers."""
    with started(tmp_path, *MODEL, env={**os.environ, "EDGE_EMBED_TOKEN": TOKEN}) as service:
        without = run("serve", "--check", "--port", service.port)
        assert (without.exit_code, "token" in without.stderr) == (1, True)
        file = tmp_path / "token"
        file.write_text(TOKEN)
        file.chmod(0o600)
        assert run("serve", "--check", "--port", service.port, "--token-file", file).stdout == "ready\n"
        port = service.port
        service.end()
    gone = run("serve", "--check", "--port", port)
    assert (gone.exit_code, "nothing answers" in gone.stderr) == (1, True)


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_graceful_stop(tmp_path: Path, number: int) -> None:
    """A signal ends the service when what runs is answered: a request of 2,000 texts is, and nothing is said."""
    answers = []
    with started(tmp_path, "--bundle", "minilm") as service:
        texts = [f"text {i}" for i in range(600)]
        body = {"input": texts, "model": "all-minilm-l6-v2", "encoding_format": "base64"}
        asking = threading.Thread(target=lambda: answers.append(service.ask("POST", "/v1/embeddings", body)))
        asking.start()
        waiting = re.compile(r'edge_embed_waiting_texts{model="all-minilm-l6-v2"} ([1-9][0-9.]*)')
        while not waiting.search(service.ask("GET", "/metrics").body.decode()):
            assert not answers
        assert service.end(number) == 0
        asking.join()
        assert answers[0].status == 200
        assert len(answers[0].json()["data"]) == len(texts)
    assert service.stderr.read_text() == ""


@pytest.mark.slow
def test_second_signal(tmp_path: Path) -> None:
    """Where the first signal takes too long, the second ends the process at once."""
    with started(tmp_path, *MODEL, "--stop-seconds", "60") as service:
        head = f"POST /v1/embeddings HTTP/1.1\r\nHost: localhost:{service.port}\r\nContent-Length: 9\r\n"
        with socket.create_connection(("127.0.0.1", service.port)) as slow:
            slow.sendall(f"{head}Content-Type: application/json\r\nExpect: 100-continue\r\n\r\n".encode())
            assert slow.recv(100).startswith(b"HTTP/1.1 100 ")
            service.process.send_signal(signal.SIGTERM)
            with contextlib.suppress(OSError):
                while True:  # until it does not listen any more
                    socket.create_connection(("127.0.0.1", service.port)).close()
            assert service.process.poll() is None
            assert service.end() == 128 + signal.SIGTERM


@pytest.mark.slow
def test_stop_within_its_time(tmp_path: Path) -> None:
    """What does not end in time is cut off, and said to be."""
    with started(tmp_path, *MODEL, "--stop-seconds", "0.2") as service:
        head = f"POST /v1/embeddings HTTP/1.1\r\nHost: localhost:{service.port}\r\nContent-Length: 9\r\n"
        with socket.create_connection(("127.0.0.1", service.port), timeout=30) as slow:
            slow.sendall(f"{head}Content-Type: application/json\r\nExpect: 100-continue\r\n\r\n".encode())
            assert slow.recv(100).startswith(b"HTTP/1.1 100 ")
            assert service.end() == 0


def test_nothing_private_in_logs(tmp_path: Path) -> None:
    """Texts, tokens, keys, paths and query strings are in no log, not even of malformed requests."""
    with started(tmp_path, *MODEL, tmp_path / "a.db", "--access-log") as service:
        token = service.token
        service.ask("POST", "/v1/embeddings", REQUEST, token=token)
        service.ask("POST", "/v1/embeddings?q=secret", {**REQUEST, "input": [1]})
        service.ask("POST", "/v1/embeddings", b'{"input": "secret')
        service.ask("GET", "/secret?secret=secret", token="secret")  # noqa: S106
        service.ask("GET", "/v1/models/secret")
        with socket.create_connection(("127.0.0.1", service.port)) as made:
            made.sendall(b"secret\x00 secret\r\n\r\n")
            assert made.recv(1000).startswith(b"HTTP/1.1 400")
        assert service.end() == 0
    said = service.stderr.read_text()
    assert "secret" not in said
    assert token not in said
    lines = said.splitlines()
    assert re.fullmatch(r"edge-embed: POST /v1/embeddings 200 [0-9.]+ ms", lines[0])
    assert [line.split()[3] for line in lines] == ["200", "400", "415", "404", "404"]


@pytest.mark.skipif(sys.platform != "linux", reason="systemd")
def test_systemd_socket() -> None:
    """A socket that systemd passes is taken: /health is answered there."""
    with launched("127.0.0.1", "-") as service:
        assert service.ask("GET", "/health").status == 200
        assert service.end() == 0


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="systemd")
def test_systemd_unix_sockets(tmp_path: Path) -> None:
    """One that only this user can connect to is as loopback; others need the flag and a token."""
    path = tmp_path / "passed.sock"
    with launched(str(path), "600") as service:
        assert b" 200 OK" in unix_get(path)
        assert service.end() == 0
    path.unlink()  # systemd's, so the service leaves it
    with launched(str(path), "666") as service:
        assert service.said == []
        assert "--allow-remote" in service.process.communicate()[1]
    path.unlink()
    with launched(str(path), "600", "--port", "1") as service:
        assert service.said == []
        assert "systemd passes the socket" in service.process.communicate()[1]


@pytest.mark.skipif(sys.platform != "linux", reason="systemd")
def test_systemd_of_another_process(tmp_path: Path) -> None:
    """LISTEN_FDS of another process means nothing; what is no socket is refused by name."""
    with started(tmp_path, *MODEL, env={**os.environ, "LISTEN_FDS": "1", "LISTEN_PID": "1"}) as service:
        assert service.ask("GET", "/health").status == 200
    program = "import os, sys; os.environ.update(LISTEN_FDS='1', LISTEN_PID=str(os.getpid())); os.dup2(0, 3); "
    program += "from edge_embed.cli.main import main; main(['serve'])"
    done = subprocess.run(
        [sys.executable, "-c", program], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert (done.returncode, "is no socket" in done.stderr) == (1, True)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="systemd")
def test_notifies_systemd(tmp_path: Path) -> None:
    """Type=notify: READY when it listens, STOPPING when it ends."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(str(tmp_path / "notify"))
        heard.settimeout(30)
        with started(tmp_path, *MODEL, env={**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify")}) as service:
            assert heard.recv(100) == b"READY=1"
            assert service.end() == 0
            assert heard.recv(100) == b"STOPPING=1"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="systemd")
@pytest.mark.parametrize("process", ["1", None])
def test_watchdog(tmp_path: Path, process: str | None) -> None:
    """WatchdogSec=: after READY, WATCHDOG comes again and again; not where another process is waited for."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(str(tmp_path / "notify"))
        heard.settimeout(30)
        more = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "1000000"}
        more |= {} if process is None else {"WATCHDOG_PID": process}
        with started(tmp_path, *MODEL, env={**os.environ, **more}) as service:
            assert heard.recv(100) == b"READY=1"
            if process is None:
                assert [heard.recv(100), heard.recv(100)] == [b"WATCHDOG=1"] * 2
            assert service.end() == 0
            last = b"WATCHDOG=1"
            while last == b"WATCHDOG=1" and process is None:
                last = heard.recv(100)
            assert (heard.recv(100) if process else last) == b"STOPPING=1"


def test_health_of_the_index(tmp_path: Path) -> None:
    """While the index is missing /health is 503 with the reason, without its path, and the log names the code."""
    with started(tmp_path, *MODEL, tmp_path / "a.db") as service:
        (tmp_path / "a.db").rename(tmp_path / "away.db")
        for path in ("/health", "/metrics"):
            found = service.ask("GET", path)
            assert (found.status, str(tmp_path).encode() in found.body) == (503 if path == "/health" else 200, False)
        assert service.ask("GET", "/health").json()["index"]["code"] == "index_missing"
        assert "edge_embed_index_documents NaN" in service.ask("GET", "/metrics").body.decode()
        assert service.ask("POST", "/index/search", {"query": "a"}).status == 503
        assert run("serve", "--check", "--port", service.port).exit_code == 1
        (tmp_path / "away.db").rename(tmp_path / "a.db")
        assert run("serve", "--check", "--port", service.port).exit_code == 0
    assert service.stderr.read_text() == "edge-embed: POST /index/search: index_missing\n"


def test_index_that_cannot_be_served(tmp_path: Path) -> None:
    """Damaged, or of another bundle: one line, before anything listens."""
    (tmp_path / "rubbish.db").write_bytes(b"rubbish" * 1000)
    assert "is not an edge_embed index" in failed(tmp_path / "rubbish.db", "--port", "0")
    with Index.open(tmp_path / "a.db", Embedder("static")) as index:
        index.add([Document("a", "a")])
    other = run("serve", tmp_path / "a.db", "--bundle", "minilm", "--port", "0", "--json")
    assert (other.exit_code, "static-minilm-l6-v2" in other.stderr) == (1, True)
    assert json.loads(other.stdout)["error"]["code"] == "bundle_mismatch"


def test_the_engine_of_a_bundle_is_not_here(tmp_path: Path) -> None:
    """It is said at the start which one takes its place, and why."""
    with started(tmp_path, env={**os.environ, "EDGE_EMBED_NATIVE": "0"}) as service:
        first = service.said[0]
    assert first.startswith("all-minilm-l6-v2 runs in onnxruntime: the native library cannot be used here")


def test_start_as_json(tmp_path: Path) -> None:
    """One object says where it listens, and the token that was made."""
    with started(tmp_path, tmp_path / "a.db", "--json") as service:
        (line,) = service.said
        said = json.loads(line)
    assert said["listening"][0].startswith("http://127.0.0.1:")
    assert list(said) == ["listening", "token", "models", "engines", "rerankers", "index"]
    assert said["engines"] == {"all-minilm-l6-v2": Embedder().engine}
    assert (said["models"], said["index"]) == (["all-minilm-l6-v2"], str(tmp_path / "a.db"))
    assert len(said["token"]) > 40
