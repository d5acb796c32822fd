"""Four MCP servers write one file and are killed at random: what was acknowledged is there."""

import random
import select
import threading
from pathlib import Path

import pytest

pytest.importorskip("mcp")
from builders.mcpclient import Server, document

from edge_embed import Index, verify_index

pytestmark = pytest.mark.frameworks
WRITERS, KILLS, CALLS = 4, 3, 6


class Writer(threading.Thread):
    """Adds and forgets documents of its own through one server after the other, each killed in the middle of a call.

    kept:      documents whose adding was acknowledged, and whose deletion was not asked for
    gone:      keys whose deletion was acknowledged
    uncertain: keys of calls that were never answered
    """

    def __init__(self, path: Path, number: int) -> None:
        super().__init__()
        self.path, self.number, self.random = path, number, random.Random(number)  # noqa: S311 - a seed
        self.kept: dict[str, str] = {}
        self.gone: set[str] = set()
        self.uncertain: set[str] = set()
        self.failed: BaseException | None = None

    def run(self) -> None:
        try:
            for life in range(KILLS):
                with Server(self.path, "--bundle", "static", "--threads", 1) as server:
                    server.hello()
                    for call in range(self.random.randint(1, CALLS)):
                        self._add(server, f"{self.number}-{life}-{call}")
                    if self.kept and self.random.random() < 0.5:
                        self._forget(server)
                    self._unanswered(server, f"{self.number}-{life}-last")
        except BaseException as error:  # noqa: BLE001 - the test raises it
            self.failed = error

    def _add(self, server: Server, key: str) -> None:
        text = f"what {key} says " + "of boats and cats " * self.random.randint(1, 200)
        assert server.call("add", documents=[document(key, text, writer=self.number)])["stored"] == 1
        self.kept[key] = text

    def _forget(self, server: Server) -> None:
        key = self.random.choice(list(self.kept))
        assert server.call("forget", keys=[key])["forgotten"] == 1
        del self.kept[key]
        self.gone.add(key)

    def _unanswered(self, server: Server, key: str) -> None:
        """A call that is killed somewhere in its first tenth of a second, unless it was answered before."""
        call = {"name": "add", "arguments": {"documents": [document(key, "text " * 2000, writer=self.number)]}}
        server.send({"jsonrpc": "2.0", "id": "last", "method": "tools/call", "params": call})
        select.select([server.process.stdout], [], [], self.random.random() / 10)
        server.process.kill()
        self.uncertain.add(key)


def test_killed_servers_lose_nothing(tmp_path: Path) -> None:
    """After the kills the file is whole, holds every acknowledged document with its text, and no forgotten one."""
    writers = [Writer(tmp_path / "notes.db", number) for number in range(WRITERS)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    for writer in writers:
        if writer.failed:
            raise writer.failed
    report = verify_index(tmp_path / "notes.db")
    assert report.whole, report
    with Index.open(tmp_path / "notes.db", read_only=True) as index:
        held = {one.key: one.text for one in index}
    kept = {key: text for writer in writers for key, text in writer.kept.items()}
    assert {key: held.get(key) for key in kept} == kept
    assert not held.keys() & set().union(*(writer.gone for writer in writers))
    assert held.keys() - kept.keys() <= set().union(*(writer.uncertain for writer in writers))
    with Server(tmp_path / "notes.db", "--bundle", "static") as server:
        server.hello()
        assert server.call("list")["total"] == len(held)
