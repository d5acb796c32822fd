"""Serve this folder on this machine alone, with the headers that threads in a browser need: python serve.py [BUNDLE]

/bundle/ is the folder of the bundle; BUNDLE is a folder or a name, without it the default one of edge_embed.
"""

import sys
from contextlib import suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

HERE = Path(__file__).resolve().parent
# A page with these two is cross-origin isolated: its threads may share memory.
HEADERS = {"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp"}
# An .mjs or .wasm of another type is refused by browsers.
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript",
    ".json": "application/json",
    ".mjs": "text/javascript",
    ".wasm": "application/wasm",
    "": "application/octet-stream",
}


class Handler(SimpleHTTPRequestHandler):
    """Files of this folder, and of folders that lie elsewhere under names of their own."""

    def __init__(self, *given: object, folders: dict[str, Path], **options: object) -> None:
        self.folders = folders
        self.extensions_map = TYPES
        super().__init__(*given, directory=str(HERE), **options)  # type: ignore[arg-type]

    def translate_path(self, path: str) -> str:
        inside = Path(super().translate_path(path)).relative_to(HERE)  # of the folder, however many dots path has
        first, *rest = inside.parts or ("",)
        return str(self.folders[first].joinpath(*rest)) if first in self.folders else str(HERE / inside)

    def end_headers(self) -> None:
        for name, value in HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing."""


def server(folders: dict[str, Path], port: int = 0) -> ThreadingHTTPServer:
    """A server on loopback. folders: what lies under which name"""
    return ThreadingHTTPServer(("127.0.0.1", port), partial(Handler, folders=folders))


def main() -> None:
    from edge_embed import Embedder

    bundle = Embedder(*sys.argv[1:2]).path
    with server({"bundle": bundle.resolve()}, 8000) as serving, suppress(KeyboardInterrupt):
        print(f"http://127.0.0.1:{serving.server_port}/")
        serving.serve_forever()


if __name__ == "__main__":
    main()
