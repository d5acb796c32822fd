"""A hub on loopback, which speaks the endpoints of the Hugging Face hub that `huggingface_hub` asks."""

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

API = re.compile(r"/api/models/(?P<name>[^/]+/[^/]+)(/(?P<what>revision|tree)/(?P<revision>[^/]+)(/(?P<path>.*))?)?")
FILE = re.compile(r"/(?P<name>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)")
# Files of this size are "large files" there, known by their SHA-256.
LARGE = 1000


@dataclass
class Repository:
    """A model: its files, the names of its one commit, and who may read it."""

    files: dict[str, bytes]
    revisions: tuple[str, ...] = ("main", "v1.0")
    gated: bool = False
    private_token: str | None = None

    @property
    def commit(self) -> str:
        names = json.dumps({name: hashlib.sha256(content).hexdigest() for name, content in self.files.items()})
        return hashlib.sha1(names.encode(), usedforsecurity=False).hexdigest()


@dataclass
class Hub:
    """What is there, and what was asked.

    asked:       paths of requests for files, in order
    cut_after:   bytes after which answers with a file break off, once; None for never
    starts:      first bytes that were asked for, of requests for files
    """

    models: dict[str, Repository] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    tokens: set[str | None] = field(default_factory=set)
    starts: list[int] = field(default_factory=list)
    cut_after: int | None = None
    url: str = ""


@contextmanager
def running(hub: Hub) -> Iterator[Hub]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def _answer(self, *, body: bool) -> None:
        path = unquote(urlsplit(self.path).path)
        given = self.headers.get("Authorization", "")
        token = given.removeprefix("Bearer ") if given else None
        self.hub.tokens.add(token)
        if found := API.fullmatch(path):
            model = self._model(found, token)
            if model is not None:
                if found["what"] == "tree":
                    self._json([self._entry(model, name, type="file") for name in sorted(model.files)])
                else:
                    self._json(self._info(found["name"], model))
        elif found := FILE.fullmatch(path):
            model = self._model(found, token)
            if model is not None:
                if body:
                    self.hub.asked.append(found["path"])
                self._file(model, found["path"], body=body)
        else:
            self._error(404, "no such endpoint")

    def _model(self, found: re.Match[str], token: str | None) -> Repository | None:
        model = self.hub.models.get(found["name"])
        if model is None or (model.private_token is not None and token != model.private_token):
            self._error(401 if token is None else 404, "Repository not found", "RepoNotFound")
        elif model.gated and FILE.fullmatch(unquote(urlsplit(self.path).path)):
            self._error(403, "Access to model is restricted", "GatedRepo")
        elif found["revision"] is not None and found["revision"] not in (*model.revisions, model.commit):
            self._error(404, "Invalid rev id", "RevisionNotFound")
        else:
            return model
        return None

    def _info(self, name: str, model: Repository) -> dict[str, Any]:
        siblings = [self._entry(model, file) for file in sorted(model.files)]
        return {"_id": "1", "id": name, "modelId": name, "sha": model.commit, "private": False, "siblings": siblings}

    def _entry(self, model: Repository, name: str, **more: Any) -> dict[str, Any]:
        content = model.files[name]
        entry = {"blobId": _git(content), "size": len(content), **more}
        entry |= {"path": name, "oid": _git(content)} if more else {"rfilename": name}
        if len(content) >= LARGE:
            sha = hashlib.sha256(content).hexdigest()
            entry["lfs"] = {"sha256": sha, "oid": sha, "size": len(content), "pointerSize": 134}
        return entry

    def _file(self, model: Repository, name: str, *, body: bool) -> None:
        content = model.files.get(name)
        if content is None:
            self._error(404, "Entry not found", "EntryNotFound")
            return
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(asked[1]) if asked else 0
        large = len(content) >= LARGE
        self.send_response(206 if asked else 200)
        self.send_header("X-Repo-Commit", model.commit)
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest() if large else _git(content)}"')
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(content) - start))
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        if not body:
            return
        self.hub.starts.append(start)
        cut = self.hub.cut_after
        if cut is not None and len(content) - start > cut:
            self.hub.cut_after = None
            self.wfile.write(content[start : start + cut])
            self.close_connection = True
        else:
            self.wfile.write(content[start:])

    def _json(self, answer: Any) -> None:
        self._send(200, json.dumps(answer).encode(), {"Content-Type": "application/json"})

    def _error(self, status: int, message: str, code: str = "") -> None:
        headers = {"X-Error-Message": message, **({"X-Error-Code": code} if code else {})}
        self._send(status, json.dumps({"error": message}).encode(), headers)

    def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def _git(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
