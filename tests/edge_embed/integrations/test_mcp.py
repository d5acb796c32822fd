"""`edge-embed mcp`, asked by the SDK's own client and by lines on its stdin."""

import json
import os
import random
import signal
import socket
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

pytest.importorskip("mcp")
import anyio
import httpx2
import jsonschema
from builders.commands import run
from builders.docpages import run_page
from builders.mcpclient import HELLO, Server, document, notebook
from mcp import Client, MCPError, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client

from edge_embed import Document, Embedder, Index, verify_index
from edge_embed.integrations.mcp import server as server_module
from edge_embed.integrations.mcp.http import http_app
from edge_embed.integrations.mcp.notebook import Notebook
from edge_embed.integrations.mcp.server import make_server
from edge_embed.integrations.mcp.tools import DATA
from edge_embed.service.security import Access

pytestmark = pytest.mark.frameworks
BOATS = document("notes/boats.md", "The ferry to the island leaves at nine.", topic="boats", year=2026)
CATS = document("cats", "A cat sleeps on the sofa.", topic="cats")
STATIC = ("--bundle", "static")
EVERYWHERE = "0.0.0.0"  # noqa: S104 - refused, or with a token
TOKEN = "a-token-of-this-test-1234"  # noqa: S105


@pytest.fixture(scope="module")
def static() -> Embedder:
    return Embedder("static", threads=1)


@pytest.fixture
def notes(tmp_path: Path, static: Embedder) -> Notebook:
    made = notebook(tmp_path / "notes.db", static)
    made.add([BOATS, CATS], False)
    return made


async def answers(client: Client, tool: str, **arguments: Any) -> dict[str, Any]:
    """The structured answer of a tool, which its schema describes and its text repeats; {"error": ...} of one that
    failed."""
    schemas = {one.name: one for one in (await client.list_tools()).tools}
    result = await client.call_tool(tool, arguments)
    (block,) = result.content
    if result.is_error:
        assert result.structured_content is None
        assert "\n" not in block.text
        return {"error": block.text}
    jsonschema.validate(result.structured_content, schemas[tool].output_schema)
    assert json.loads(block.text) == result.structured_content
    found: dict[str, Any] = result.structured_content
    return found


async def test_tools_as_clients_see_them(notes: Notebook) -> None:
    """Each tool has a title, a description, hints and JSON Schemas; read-only servers have those that read."""
    async with Client(make_server(notes)) as client:
        tools = {one.name: one for one in (await client.list_tools()).tools}
        assert list(tools) == ["search", "read", "list", "add", "forget"]
        for tool in tools.values():
            assert tool.title
            assert len(tool.description or "") > 40
            for schema in (tool.input_schema, tool.output_schema):
                jsonschema.Draft202012Validator.check_schema(schema)
                assert schema["additionalProperties"] is False
                assert "$ref" not in json.dumps(schema)  # which some clients do not follow
            assert tool.annotations.idempotent_hint
            assert (DATA in tool.description) == tool.annotations.read_only_hint
            assert tool.annotations.read_only_hint == (tool.name in ("search", "read", "list"))
            assert tool.annotations.destructive_hint == (tool.name in ("add", "forget"))
        assert "notes.db" in (client.instructions or "")
        assert DATA in (client.instructions or "")
        assert str(notes.path.parent) not in (client.instructions or "")
    reading = notebook(notes.path, None, read_only=True)
    async with Client(make_server(reading)) as client:
        assert [one.name for one in (await client.list_tools()).tools] == ["search", "read", "list"]
        with pytest.raises(MCPError, match="Unknown tool"):
            await client.call_tool("add", {"documents": [CATS]})


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_a_session(tmp_path: Path, static: Embedder, mode: Any) -> None:
    """What an agent does, in both eras of the protocol: add, find, read, list, forget; each answer fits its schema."""
    async with Client(make_server(notebook(tmp_path / "n.db", static)), mode=mode) as client:
        assert (await answers(client, "search", query="boats"))["hits"] == []
        assert await answers(client, "add", documents=[BOATS, CATS]) == {"stored": 2, "unchanged": 0, "documents": 2}
        found = await answers(client, "search", query="when does the ship go?", k=1)
        assert found["hits"][0]["key"] == "notes/boats.md"
        found = await answers(client, "search", query="animal", where={"topic": "cats"}, mode="vector")
        assert [hit["key"] for hit in found["hits"]] == ["cats"]
        assert (await answers(client, "read", key="cats"))["text"] == CATS["text"]
        listed = await answers(client, "list", fields=True, limit=1)
        assert (listed["total"], listed["next"]) == (2, 1)
        assert {one["name"] for one in listed["fields"]} == {"topic", "year"}
        assert (await answers(client, "forget", keys=["cats", "dogs"]))["unknown"] == ["dogs"]
        assert (await answers(client, "list"))["total"] == 1


async def test_resources(notes: Notebook) -> None:
    """Every document has an address, on pages; what is read there is its text."""
    notes.add([document(f"k {n}", f"text {n}") for n in range(230)], False)
    async with Client(make_server(notes)) as client:
        found, page = [], await client.list_resources()
        while True:
            found += page.resources
            if page.next_cursor is None:
                break
            page = await client.list_resources(cursor=page.next_cursor)
        assert len(found) == len({one.uri for one in found}) == 232
        boats = next(one for one in found if one.title == "notes/boats.md")
        assert (boats.name, boats.mime_type, boats.size) == ("boats.md", "text/markdown", len(BOATS["text"]))
        (read,) = (await client.read_resource(boats.uri)).contents
        assert (read.text, read.mime_type, read.uri) == (BOATS["text"], "text/markdown", boats.uri)
        (template,) = (await client.list_resource_templates()).resource_templates
        (read,) = (await client.read_resource(template.uri_template.replace("{key}", "k%207"))).contents
        assert read.text == "text 7"
        for wrong in ("edge-embed:document/none", "file:///etc/passwd", "edge-embed:document/%ff"):
            with pytest.raises(MCPError) as failed:
                await client.read_resource(wrong)
            assert failed.value.code == -32602
        with pytest.raises(MCPError):
            await client.list_resources(cursor="%ff")
        from mcp.types import ResourceTemplateReference

        reference = ResourceTemplateReference(uri=template.uri_template)
        completed = await client.complete(reference, {"name": "key", "value": "k 1"})
        assert completed.completion.values[:2] == ["k 1", "k 10"]
        assert completed.completion.has_more


async def test_large_resources(tmp_path: Path, static: Embedder) -> None:
    """What is too long to be given as a whole is refused, and how to read it is said."""
    notes = notebook(tmp_path / "n.db", static, resource=20)
    notes.add([BOATS, document("short", "short")], False)
    async with Client(make_server(notes)) as client:
        assert (await client.read_resource("edge-embed:document/short")).contents
        with pytest.raises(MCPError, match="has 39 characters: the tool read gives it in parts"):
            await client.read_resource("edge-embed:document/notes%2Fboats.md")


async def test_pictures(tmp_path: Path, colours: Path) -> None:
    """A picture's resource is its caption and the small copy that is stored; its file is named, not its folder."""
    from PIL import Image

    (tmp_path / "secret").mkdir()
    Image.new("RGB", (32, 32), "red").save(tmp_path / "secret" / "red.png")
    model = Embedder(colours, threads=1)
    with Index.open(tmp_path / "n.db", model) as index:
        picture = Document("red", "a red square", image=tmp_path / "secret" / "red.png")
        index.add([picture, Document("bare", image=Image.new("RGB", (8, 8), "blue"))], thumbnails=True)
    async with Client(make_server(notebook(tmp_path / "n.db", model))) as client:
        text, blob = (await client.read_resource("edge-embed:document/red")).contents
        assert (text.text, blob.mime_type) == ("a red square", "image/webp")
        (blob,) = (await client.read_resource("edge-embed:document/bare")).contents
        assert blob.mime_type == "image/webp"
        read = await answers(client, "read", key="red")
        assert (read["kind"], read["source"]) == ("image", "red.png")
        found = await answers(client, "search", query="red")
        assert "secret" not in json.dumps(found)
        assert {hit["kind"] for hit in found["hits"]} == {"image"}


async def test_errors_are_one_line_without_paths(notes: Notebook, monkeypatch: pytest.MonkeyPatch) -> None:
    """What goes wrong is an error of the tool with a code and a reason; of what nobody foresaw, nothing is told."""
    folder = str(notes.path.parent)
    async with Client(make_server(notes)) as client:
        assert (await answers(client, "search"))["error"] == "invalid_input: query is missing"
        assert (await answers(client, "read", key="dog"))["error"].startswith("key_not_found: there is no document")
        wrong = await answers(client, "search", query="x", where={"nope": 1})
        assert wrong["error"].startswith("invalid_filter: where: no document has the field 'nope'")
        wrong = await answers(client, "add", documents=[{**CATS, "text": "other"}])
        assert wrong["error"].startswith("duplicate_key:")
        wrong = await answers(client, "add", documents=[document("nul\x00", "x")])
        assert "without NUL" in wrong["error"]
        assert "no text" in (await answers(client, "add", documents=[document("a", " ")]))["error"]
        big = await answers(client, "add", documents=[document("a", "x" * 10_000_000)])
        assert len(big["error"]) < 200
        notes.path.parent.rename(notes.path.parent.with_name("elsewhere"))
        away = await answers(client, "add", documents=[CATS])
        assert folder not in away["error"]
        notes.path.parent.with_name("elsewhere").rename(notes.path.parent)
        notes.path.rename(notes.path.with_name("moved.db"))
        gone = await answers(client, "list")
        assert gone["error"] == "index_missing: notes.db was moved or deleted: put it back, or start the server again"
        notes.path.write_bytes(b"rubbish " * 1000)
        damaged = await answers(client, "search", query="x")
        assert damaged["error"].startswith("index_")
        assert folder not in damaged["error"]

        def fails(*_: object) -> None:
            raise RuntimeError(f"secret of {folder}")

        monkeypatch.setattr(Notebook, "find", fails)
        failed = await answers(client, "list")
        assert failed["error"] == "internal_error: the call failed; the server's log has the kind of error"
        monkeypatch.setattr(Notebook, "page", fails)
        with pytest.raises(MCPError) as told:
            await client.list_resources()
        assert "secret" not in str(told.value)


SCALARS = [
    None,
    True,
    0,
    -1,
    5,
    10**30,
    2**53,
    1.5,
    1e308,
    "",
    "k1",
    "n",
    "\x00",
    "\ud800",
    "x" * 30_000,
    "NEAR(",
    '"a',
]
NAMES = ["n", "tags", "$eq", "$gt", "$in", "$and", "$not", "$key", "$contains", "$exists", "key", "text", "zz", ""]
USUAL = {"query": "text", "k": 3, "key": "k3", "keys": ["k2", "k9"], "documents": [document("k5", "new")], "limit": 2}


def any_value(chance: random.Random, depth: int = 0) -> Any:
    if chance.random() < 0.5 or depth > 3:
        return chance.choice(SCALARS)
    inner = [any_value(chance, depth + 1) for _ in range(chance.randint(0, 3))]
    return inner if chance.random() < 0.5 else {chance.choice(NAMES): value for value in inner}


async def test_any_arguments(notes: Notebook) -> None:
    """Whatever a model gives, it is an answer of the tool's schema or one short line with a known reason."""
    notes.add([document(f"k{n}", f"text {n}", n=n, tags=["a", str(n)]) for n in range(9)], False)
    chance = random.Random(5)  # noqa: S311 - a seed
    told = Counter[str]()
    async with Client(make_server(notes), raise_exceptions=True) as client:
        tools = (await client.list_tools()).tools
        for _ in range(300):
            tool = chance.choice(tools)
            wanted = [name for name in tool.input_schema["properties"] if chance.random() < 0.8]
            given = {name: USUAL.get(name) if chance.random() < 0.7 else any_value(chance) for name in wanted}
            found = await answers(client, tool.name, **given)
            told[found.get("error", "ok").partition(":")[0]] += 1
            assert len(found.get("error", "")) < 1000
    assert set(told) <= {"ok", "invalid_input", "invalid_document", "invalid_filter", "duplicate_key", "key_not_found"}
    assert len(told) >= 5, told
    assert verify_index(notes.path).whole


async def test_progress_and_cancellation(notes: Notebook, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that takes long says that it goes on; one that is cancelled leaves an index that the next call uses."""
    monkeypatch.setattr(server_module, "BEAT", 0.01)
    heard = anyio.Event()
    let_go = anyio.Event()
    loop_token = anyio.lowlevel.current_token()
    search = Notebook.search

    def waits(self: Notebook, *given: Any) -> dict[str, Any]:
        anyio.from_thread.run(let_go.wait, token=loop_token)
        return search(self, *given)

    async def hear(progress: float, total: float | None, message: str | None) -> None:
        assert total is None
        assert message
        heard.set()
        let_go.set()

    monkeypatch.setattr(Notebook, "search", waits)
    async with Client(make_server(notes)) as client:
        result = await client.call_tool("search", {"query": "cat"}, progress_callback=hear)
        assert heard.is_set()
        assert result.structured_content["hits"][0]["key"] == "cats"
        let_go = anyio.Event()
        with anyio.move_on_after(0.05):
            await client.call_tool("search", {"query": "cat"})
        let_go.set()
        assert (await answers(client, "list"))["total"] == 2


async def test_calls_at_the_same_time(notes: Notebook) -> None:
    """Calls of one client run next to each other, writers in turns; each is answered for itself."""
    async with Client(make_server(notes)) as client:
        await client.list_tools()
        found: dict[int, Any] = {}

        async def work(n: int) -> None:
            await client.call_tool("add", {"documents": [document(f"k{n}", f"number {n}")]})
            found[n] = (await client.call_tool("read", {"key": f"k{n}"})).structured_content["text"]

        async with anyio.create_task_group() as group:
            for n in range(12):
                group.start_soon(work, n)
    assert found == {n: f"number {n}" for n in range(12)}
    assert verify_index(notes.path).whole


async def test_stdio_with_the_sdk(tmp_path: Path) -> None:
    """The command, started by the SDK's client as programs do it; the bundle is that of the index."""
    with Index.open(tmp_path / "n.db", Embedder("static")) as index:
        index.add([Document("cats", "A cat sleeps on the sofa.")])
    command = StdioServerParameters(
        command=sys.executable, args=["-m", "edge_embed", "mcp", str(tmp_path / "n.db")], env=dict(os.environ)
    )
    async with Client(stdio_client(command)) as client:
        assert client.server_info.name == "edge-embed"
        assert (await answers(client, "search", query="animal"))["hits"][0]["key"] == "cats"
        assert (await answers(client, "add", documents=[BOATS]))["documents"] == 2
        (tmp_path / "tea.txt").write_text("Green tea is brewed at 80 degrees.")
        added = run("add", tmp_path / "n.db", tmp_path / "tea.txt", *STATIC)
        assert added.exit_code == 0, added.output
        found = await answers(client, "search", query="how hot is the tea?", k=1)
        assert found["hits"][0]["key"].endswith("tea.txt")
        assert str(tmp_path) not in json.dumps(found)
    found = json.loads(run("search", tmp_path / "n.db", "ferry", *STATIC, "--json").stdout)
    assert found["hits"][0]["key"] == "notes/boats.md"


def test_stdout_is_the_protocols_alone(tmp_path: Path) -> None:
    """Only messages come out of stdout, whatever goes wrong; stderr says nothing of what was asked."""
    private = "a line of mine"
    with Server(tmp_path / "n.db", *STATIC) as server:
        assert server.hello()["result"]["serverInfo"]["name"] == "edge-embed"
        assert server.ask("ping")["result"] == {}
        assert server.call("add", documents=[document("k", private), BOATS])["stored"] == 2
        wrong = [
            "[]",
            '{"jsonrpc": "2.0"}',
            "{" * 100_000,
            "",
            '"\\ud800"',
            '{"id": true, "method": 7}',
            '{"id": "\\ud800"}',
        ]
        for line in (f"no json {private}", *wrong):
            server.write(line)
            answer = server.next()
            assert (answer["id"], answer["error"]["code"]) == (None, -32700)
            assert private not in json.dumps(answer)
        deep = json.loads("[" * 300 + "]" * 300)
        for given in ({"query": "\ud800"}, {"query": "x", "where": {"a": deep}}):  # half an emoji, as clients cut them
            refused = server.ask("tools/call", name="search", arguments=given)["error"]
            assert (refused["code"], "whole Unicode" in refused["message"]) == (-32600, True)
        assert server.ask(7, private=private)["error"]["code"] == -32600  # type: ignore[arg-type]
        assert server.ask("no/such/method", private=private)["error"]["code"] == -32601
        assert server.ask("tools/call", name="no such tool")["error"]["code"] == -32602
        assert server.ask("tools/call", name=7)["error"]["code"] == -32602
        assert server.ask("tools/call", name="search", arguments=[private])["error"]["code"] == -32602
        assert server.ask("resources/read", uri="\x00")["error"]["code"] == -32602
        assert "at most" in server.call("search", query="x" * 10_000_000)["error"]
        assert server.call("search", query="ferry")["hits"][0]["key"] == "notes/boats.md"
        status, said = server.end()
    assert status == 0
    assert private not in said
    assert "Traceback" not in said


def test_lines_that_are_too_long(tmp_path: Path) -> None:
    """A line over 32 MB is refused, not held; the session goes on."""
    with Server(tmp_path / "n.db", *STATIC) as server:
        server.hello()
        before = server.peak_mb()
        server.write("x" * 150_000_000)
        refused = server.next()
        assert (refused["id"], refused["error"]["code"]) == (None, -32700)
        assert "at most 32,000,000 bytes" in refused["error"]["message"]
        assert server.peak_mb() < before + 100
        assert server.ask("ping")["result"] == {}


def test_signals_and_a_client_that_is_gone(tmp_path: Path) -> None:
    """Ctrl-C and SIGTERM end the server; so does a client that closes its pipes."""
    for number in (signal.SIGINT, signal.SIGTERM):
        with Server(tmp_path / "n.db", *STATIC) as server:
            server.hello()
            server.call("add", documents=[document(f"k{int(number)}", "a text")])
            server.process.send_signal(number)
            assert server.process.wait(20) in (0, 130, -number)
    with Server(tmp_path / "n.db", *STATIC) as server:
        server.hello()
        assert server.end()[0] == 0
    with Server(tmp_path / "n.db", *STATIC) as server:
        server.hello()
        assert server.process.stdout is not None
        server.process.stdout.close()
        server.send({"jsonrpc": "2.0", "id": 1, "method": "ping"})
        assert server.process.wait(20) == 0
        server.process.stdout = None
    assert verify_index(tmp_path / "n.db").whole


def test_refused_at_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What can be known before a client asks is one error, before anything is served."""
    missing = run("mcp", tmp_path / "n.db", "--read-only")
    assert (missing.exit_code, missing.stdout) == (1, "")
    assert "does not exist" in missing.stderr
    for option in ("--bundle", "--sparse", "--multi"):
        missing = run("mcp", tmp_path / "n.db", option, tmp_path / "none")
        assert (missing.exit_code, "none" in missing.stderr, missing.stdout) == (1, True, "")
    for address in ("8123", ":8123", "127.0.0.1", "127.0.0.1:99999", "127.0.0.1:x", ":"):
        wrong = run("mcp", tmp_path / "n.db", "--http", address)
        assert wrong.exit_code == 1
        assert "--http" in wrong.stderr
    for address in (f"{EVERYWHERE}:0", "[::]:0"):
        wide = run("mcp", tmp_path / "n.db", "--http", address)
        assert (wide.exit_code, "--allow-remote" in wide.stderr) == (1, True)
        wide = run("mcp", tmp_path / "n.db", "--http", address, "--allow-remote")
        assert (wide.exit_code, "--token-file" in wide.stderr) == (1, True)
    alone = run("mcp", tmp_path / "n.db", "--token-file", "token")
    assert (alone.exit_code, "are for --http" in alone.stderr) == (2, True)
    assert not list(tmp_path.iterdir())


class Http(NamedTuple):
    """A server over HTTP: its address, and the token that it made."""

    url: str
    token: str | None

    async def status(self, **headers: str) -> int:
        hello = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": HELLO}
        given = {"Accept": "application/json, text/event-stream", **headers}
        async with httpx2.AsyncClient() as asking:
            answer = await asking.post(self.url, json=hello, headers=given)
        assert ("www-authenticate" in answer.headers) == (answer.status_code == 401)
        return answer.status_code

    @asynccontextmanager
    async def client(self, token: str | None = None, mode: Any = "auto") -> AsyncIterator[Client]:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        async with (
            httpx2.AsyncClient(headers=headers) as asking,
            Client(streamable_http_client(self.url, http_client=asking), mode=mode) as client,
        ):
            yield client


@contextmanager
def serving(notes: Notebook, *options: object, address: str = "127.0.0.1:0") -> Iterator[Http]:
    with Server(notes.path, "--http", address, *STATIC, "--json", *options) as server:
        assert server.process.stdout is not None
        started = json.loads(server.process.stdout.readline())
        yield Http(started["listening"], started["token"])
        server.process.terminate()
        assert server.process.wait(30) in (0, -signal.SIGTERM)


async def test_http(notes: Notebook) -> None:
    """Streamable HTTP on this machine, for the SDK's client in both eras; foreign names and pages are refused."""
    with serving(notes) as http:
        for mode in ("legacy", "auto"):
            async with http.client(mode=mode) as client:
                found = await answers(client, "search", query="when does the ship go?")
                assert found["hits"][0]["key"] == "notes/boats.md"
        port = http.url.split(":")[2].split("/", maxsplit=1)[0]
        assert await http.status() == 200
        assert await http.status(Host=f"localhost:{port}", Origin=f"http://localhost:{port}") == 200
        for host in ("evil.example", f"evil.example:{port}", "localhost:1"):
            assert await http.status(Host=host) == 403
        for origin in ("http://evil.example", f"http://localhost:{port}.evil.example", "null"):
            assert await http.status(Origin=origin) == 403


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_token_that_was_made(notes: Notebook, mode: Any) -> None:
    """Without a token of its own a server on this machine lets everyone read, and those write who have the one that it
    made."""
    with serving(notes) as http:
        async with http.client(mode=mode) as client:
            assert (await answers(client, "list"))["total"] == 2
            for tool, given in (("add", {"documents": [document("a", "a")]}), ("forget", {"keys": ["cats"]})):
                refused = (await answers(client, tool, **given))["error"]
                assert refused.startswith("unauthorized: this needs the token: Authorization: Bearer")
            assert (await answers(client, "list"))["total"] == 2
        async with http.client("wrong" * 5, mode=mode) as client:
            assert "unauthorized" in (await answers(client, "forget", keys=["cats"]))["error"]
        async with http.client(http.token, mode=mode) as client:
            assert (await answers(client, "add", documents=[document("a", "a")]))["documents"] == 3


async def test_token_that_was_given(notes: Notebook, tmp_path: Path) -> None:
    """With a token of its own nobody comes in without it, from other machines too."""
    file = tmp_path / "token"
    file.write_text(TOKEN)
    open_file = run("mcp", notes.path, "--http", "127.0.0.1:0", "--token-file", file)
    assert (open_file.exit_code, "chmod 600" in open_file.stderr) == (1, True)
    file.chmod(0o600)
    options = ("--token-file", file, "--allow-remote", "--allow-host", "box.lan")
    with serving(notes, *options, address=f"{EVERYWHERE}:0") as wide:
        http = Http(wide.url.replace(EVERYWHERE, "127.0.0.1"), wide.token)
        assert http.token is None
        good = {"Authorization": f"Bearer {TOKEN}"}
        assert await http.status() == 401
        assert await http.status(Authorization=f"Bearer {TOKEN}x") == 401
        assert await http.status(**good) == 200
        assert await http.status(Host="box.lan", **good) == 200
        assert await http.status(Host="evil.example", **good) == 403
        async with http.client(TOKEN) as client:
            assert (await answers(client, "forget", keys=["cats"]))["forgotten"] == 1


def test_read_only_needs_no_token(notes: Notebook) -> None:
    with serving(notes, "--read-only") as http:
        assert http.token is None


async def test_large_bodies_over_http(notes: Notebook) -> None:
    """A body over 32 MB is refused before it is read."""
    transport = httpx2.ASGITransport(http_app(notes, Access(None, False, frozenset(["127.0.0.1:8123"]))))
    head = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
    async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1:8123") as asking:
        answer = await asking.post("/mcp", content=b" " * 40_000_000, headers=head)
    assert answer.status_code == 413


def test_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client of docs/agents.md runs as it stands there."""
    program = tmp_path / "bin" / "edge-embed"
    program.parent.mkdir()
    path = os.environ.get("PYTHONPATH", "")  # which the SDK does not hand on
    program.write_text(f'#!/bin/sh\nPYTHONPATH="{path}" exec "{sys.executable}" -m edge_embed "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    assert run_page("agents.md", tmp_path, monkeypatch) == 1
    assert (tmp_path / "notes.db").exists()


def test_port_in_use(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        used = run("mcp", tmp_path / "n.db", "--http", f"127.0.0.1:{port}")
    assert used.exit_code == 1
    assert "cannot be listened on" in used.stderr


def test_without_the_sdk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pip line is said where the extra is missing."""
    monkeypatch.setitem(sys.modules, "mcp", None)
    missing = run("mcp", tmp_path / "n.db", "--json")
    assert missing.exit_code == 1
    assert "pip install 'edge-embed[mcp]'" in missing.stderr
    told: Mapping[str, Any] = json.loads(missing.stdout)
    assert told["error"]["code"] == "missing_extra"
