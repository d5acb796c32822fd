"""The MCP server: requests of the protocol, answered from a Notebook."""

import json
import logging
import os
from base64 import b64encode
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from edge_embed import __version__
from edge_embed.integrations.mcp.notebook import Notebook, kind_of
from edge_embed.integrations.mcp.resources import TEMPLATE, address, cursor, key_before, key_of, mime_type, name_of
from edge_embed.integrations.mcp.tools import DATA, Tool, tools
from edge_embed.service.refusals import Refusal
from edge_embed.service.security import check_write
from edge_embed_runtime.checks import shown
from edge_embed_runtime.errors import EdgeEmbedError, InputError
from edge_embed_runtime.extras import require

require("mcp", "mcp")

import anyio
from mcp import types
from mcp.server.lowlevel import Server
from mcp.shared.exceptions import MCPError

# Seconds between two messages of progress, for clients that end calls that say nothing.
BEAT = 5.0
# Keys that are offered for the beginning of one.
COMPLETIONS = 100

log = logging.getLogger(__name__)


def make_server(notebook: Notebook) -> Server[Any]:
    """The server of one index, for any transport."""
    return Answers(notebook).server()


def quiet() -> None:
    """Packages of others write nothing of what is asked to stderr: their messages show values."""
    for name in ("mcp", "uvicorn", "sse_starlette"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


class Answers:
    """Answers to requests. Work on the index runs in threads, a few at a time."""

    def __init__(self, notebook: Notebook) -> None:
        self._notebook = notebook
        self._tools = tools(notebook.limits, read_only=notebook.read_only)
        self._calls: dict[str, Callable[..., dict[str, Any]]] = {
            "search": lambda query, k, where=None, mode=None: notebook.search(query, k, where, mode),
            "read": notebook.read,
            "list": lambda limit, offset, fields, where=None: notebook.find(where, limit, offset, fields),
            "add": notebook.add,
            "forget": notebook.forget,
        }
        self._turns: anyio.CapacityLimiter | None = None

    def server(self) -> Server[Any]:
        name = self._notebook.path.name
        changes = "It can be read only." if self._notebook.read_only else "What is added stays on this machine's disk."
        return Server(
            "edge-embed",
            version=__version__,
            title=f"edge-embed: {name}",
            instructions=f"Documents of the index {name!r}: search them by meaning and words before you answer from "
            f"memory, and name the keys of what you use. {DATA} {changes}",
            on_list_tools=self._list_tools,
            on_call_tool=self._call_tool,
            on_list_resources=self._list_resources,
            on_list_resource_templates=self._list_templates,
            on_read_resource=self._read_resource,
            on_completion=self._complete,
        )

    async def _list_tools(self, ctx: Any, params: Any) -> types.ListToolsResult:  # noqa: ARG002 - the protocol's
        return types.ListToolsResult(tools=[_as_type(tool) for tool in self._tools.values()])

    async def _call_tool(self, ctx: Any, params: types.CallToolRequestParams) -> types.CallToolResult:
        tool = self._tools.get(params.name)
        if tool is None:
            known = ", ".join(self._tools)
            raise MCPError(types.INVALID_PARAMS, f"Unknown tool: {shown(params.name)}; there are {known}")
        if tool.changes and ctx.request is not None:  # over HTTP
            try:
                check_write(ctx.request.scope)
            except Refusal as refusal:
                return _failed(f"{refusal.code}: {refusal}")
        result: types.CallToolResult = await self._run(ctx, partial(self._answer, tool, params.arguments or {}))
        return result

    def _answer(self, tool: Tool, given: Mapping[str, Any]) -> types.CallToolResult:
        """What a tool gives; of what goes wrong one line that a language model can act on."""
        try:
            found = self._calls[tool.name](**tool.arguments(given))
            said = json.dumps(found, ensure_ascii=False)
        except Exception as error:  # noqa: BLE001 - the caller gets a line, the log its kind
            return _failed(_in_words(error, self._notebook))
        return types.CallToolResult(content=[types.TextContent(type="text", text=said)], structured_content=found)

    async def _list_resources(self, ctx: Any, params: Any) -> types.ListResourcesResult:
        given = params.cursor if params is not None else None
        documents, more = await self._look(ctx, lambda: self._notebook.page(key_before(given) if given else ""))
        return types.ListResourcesResult(
            resources=[
                types.Resource(
                    uri=address(one.key), name=name_of(one), title=one.key, mime_type=mime_type(one),
                    size=len(one.text.encode()), description=None if kind_of(one) == "text" else kind_of(one),
                )
                for one in documents
            ],
            next_cursor=cursor(documents[-1].key) if more else None,
        )  # fmt: skip

    async def _list_templates(self, ctx: Any, params: Any) -> types.ListResourceTemplatesResult:  # noqa: ARG002
        template = types.ResourceTemplate(
            uri_template=TEMPLATE, name="document", title="A document by its key",
            description="The whole text of a document; of a picture also the small copy that is stored.",
        )  # fmt: skip
        return types.ListResourceTemplatesResult(resource_templates=[template])

    async def _read_resource(self, ctx: Any, params: types.ReadResourceRequestParams) -> types.ReadResourceResult:
        uri = str(params.uri)
        found = await self._look(ctx, lambda: self._notebook.document(key_of(uri)))
        if found is None:
            raise MCPError(types.INVALID_PARAMS, f"Unknown resource: {shown(uri, 200)}")
        document, thumbnail = found
        if len(document.text) > self._notebook.limits.resource:
            many = f"{shown(document.key, 200)} has {len(document.text):,} characters"
            raise MCPError(types.INVALID_PARAMS, f"{many}: the tool read gives it in parts")
        contents: list[types.TextResourceContents | types.BlobResourceContents] = []
        if document.text or thumbnail is None:
            contents.append(types.TextResourceContents(uri=uri, mime_type=mime_type(document), text=document.text))
        if thumbnail is not None:
            picture = b64encode(thumbnail).decode()
            contents.append(types.BlobResourceContents(uri=uri, mime_type="image/webp", blob=picture))
        return types.ReadResourceResult(contents=contents)

    async def _complete(self, ctx: Any, params: types.CompleteRequestParams) -> types.CompleteResult:
        """Keys that begin as the one that is being written."""
        keys: list[str] = []
        if getattr(params.ref, "uri", None) == TEMPLATE and params.argument.name == "key":
            keys = await self._look(ctx, lambda: self._notebook.keys(params.argument.value, COMPLETIONS + 1))
        completion = types.Completion(values=keys[:COMPLETIONS], has_more=len(keys) > COMPLETIONS)
        return types.CompleteResult(completion=completion)

    async def _look(self, ctx: Any, work: Callable[[], Any]) -> Any:
        """What some work gives; its failure as an error of the protocol."""

        def caught() -> Any:
            try:
                return work()
            except Exception as error:  # noqa: BLE001 - the caller gets a line, the log its kind
                code = types.INVALID_PARAMS if isinstance(error, InputError) else types.INTERNAL_ERROR
                return MCPError(code, _in_words(error, self._notebook))

        found = await self._run(ctx, caught)
        if isinstance(found, MCPError):
            raise found
        return found

    async def _run(self, ctx: Any, work: Callable[[], Any]) -> Any:
        """Work that does not raise, in a thread. A call that is cancelled meanwhile is finished all the same: what it
        stores is stored as a whole."""
        self._turns = self._turns or anyio.CapacityLimiter(self._notebook.limits.calls)
        async with anyio.create_task_group() as group:
            group.start_soon(_beat, ctx)
            try:
                return await anyio.to_thread.run_sync(work, limiter=self._turns)
            finally:
                group.cancel_scope.cancel()


async def _beat(ctx: Any) -> None:
    """Say now and then that a call goes on, to clients that asked for that."""
    beats = 0
    while True:
        await anyio.sleep(BEAT)
        beats += 1
        await ctx.session.report_progress(float(beats), None, "reading, embedding, or waiting for another writer")


def _as_type(tool: Tool) -> types.Tool:
    return types.Tool(
        name=tool.name, title=tool.title, description=tool.description,
        input_schema=dict(tool.takes), output_schema=dict(tool.gives),
        annotations=types.ToolAnnotations(
            title=tool.title, read_only_hint=not tool.changes, destructive_hint=tool.changes, idempotent_hint=True,
            open_world_hint=False,
        ),
    )  # fmt: skip


def _failed(line: str) -> types.CallToolResult:
    return types.CallToolResult(content=[types.TextContent(type="text", text=line)], is_error=True)


def _in_words(error: Exception, notebook: Notebook) -> str:
    """An error in one line without the paths of this machine; of what nobody foresaw only that it happened."""
    if isinstance(error, EdgeEmbedError):
        line = " ".join(str(error).split())
        folder = str(notebook.path.absolute().parent)
        for path, name in (str(notebook.path), notebook.path.name), (error.path, "the file"), (folder, "its folder"):
            if path and path != os.sep:
                line = line.replace(path, name)
        return f"{error.code}: {line}"
    if isinstance(error, MemoryError):
        return "out_of_memory: there is not enough memory"
    if isinstance(error, OSError):
        return f"os_error: {error.strerror or type(error).__name__}"
    log.error("a call failed: %s", type(error).__name__)
    return "internal_error: the call failed; the server's log has the kind of error"
