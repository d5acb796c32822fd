"""HTML, by selectolax: what a reader of the page sees, without scripts, styles and navigation. Headings are places."""

import re
from collections.abc import Iterator
from typing import Any, BinaryIO

from edge_embed.files.formats.content import Content, Request, UnreadableError, Writer, clean, one_line
from edge_embed.files.formats.encodings import text_of
from edge_embed.files.formats.plain import raw_bytes
from edge_embed_runtime.extras import require

HEADINGS = {f"h{level}": level for level in range(1, 7)}
LEFT_OUT = frozenset((
    "script", "style", "template", "noscript", "nav", "svg", "math", "head", "iframe", "object", "embed", "canvas",
    "audio", "video", "select", "button", "datalist", "dialog",
))  # fmt: skip
BLOCKS = frozenset((
    "address", "article", "aside", "blockquote", "body", "caption", "center", "dd", "details", "div", "dl", "dt",
    "fieldset", "figcaption", "figure", "footer", "form", *HEADINGS, "header", "hr", "html", "legend", "li", "main",
    "menu", "ol", "p", "pre", "section", "summary", "table", "tbody", "tfoot", "thead", "tr", "ul",
))  # fmt: skip
# Blocks that are a line rather than a paragraph.
TIGHT = frozenset(("li", "tr", "dt", "dd", "caption", "legend", "summary"))
CELLS = frozenset(("td", "th"))
# Blocks that can lie in one of their kind. The parser takes time with the square of how deep they do.
NESTING = BLOCKS - {"body", "caption", "dd", "dt", *HEADINGS, "hr", "html", "li", "p", "tbody", "tfoot", "thead", "tr"}
NESTING_TAG = re.compile(rf"<(/?)(?:{'|'.join(sorted(NESTING))})(?![\w-])", re.IGNORECASE)
MAX_DEPTH = 10_000
HIDDEN = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.IGNORECASE)
CHARSET = re.compile(
    rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?\s*([\w.:-]{1,40})|<\?xml[^>]{0,100}?encoding=[\"']([\w.-]{1,40})", re.I
)
SPACE = re.compile(r"[ \t\r\n\f]+")
DECLARED = 2048
# Of a page; its tree takes twenty times as much.
MAX_BYTES = 2**26


def read_html(file: BinaryIO, request: Request) -> Iterator[Content]:
    raw = raw_bytes(file, MAX_BYTES)
    yield page(text_of(raw, request, declared(raw)), request)


def declared(raw: bytes) -> str | None:
    """The encoding that a page says it has."""
    found = CHARSET.search(raw, 0, DECLARED)
    name = next((group for group in found.groups() if group), b"").decode("ascii") if found else ""
    name = name.lower()
    return {"iso-8859-1": "cp1252", "latin1": "cp1252", "us-ascii": "cp1252"}.get(name, name) or None


def page(text: str, request: Request) -> Content:
    """The title, unless it is the first heading too, and the text."""
    tree = tree_of(text)
    title = tree.css_first("title")
    name = one_line(clean(title.text())) if title is not None else ""
    writer = Writer(request.limit)
    if name and not _has_heading(tree, name):
        writer.block(name)
    write(tree, writer)
    return writer.content({"title": name} if name else {})


def tree_of(text: str) -> Any:
    """The tree of a page. Raises UnreadableError."""
    lexbor = require("selectolax.lexbor", "files")
    if _is_too_deep(text):
        raise UnreadableError(f"has elements nested more than {MAX_DEPTH:,} deep")
    try:
        return lexbor.LexborHTMLParser(text)
    except lexbor.SelectolaxError as error:  # the only reason is that there is no memory
        raise UnreadableError("cannot be read: it needs more memory than reading a file may take") from error


def _is_too_deep(text: str) -> bool:
    depth = 0
    for tag in NESTING_TAG.finditer(text) if text.count("<") > MAX_DEPTH else ():
        depth = max(0, depth - 1) if tag[1] else depth + 1
        if depth > MAX_DEPTH:
            return True
    return False


def _has_heading(tree: Any, name: str) -> bool:
    heading = tree.css_first("h1") or tree.css_first("h2")
    return heading is not None and one_line(clean(heading.text())) == name


def write(tree: Any, writer: Writer) -> None:
    """The part that the page says is its main one, or all of it."""
    main = tree.css("main")
    start = main[0] if len(main) == 1 and (main[0].text() or "").strip() else tree.root
    if start is not None:
        _Walk(writer).walk(start)


class _Walk:
    """Goes through a tree without recursion, which a page of any depth would overflow."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._line: list[str] = []  # of the block that is read
        self._tight = False
        self._heading = 0
        self._pre = 0

    def walk(self, root: Any) -> None:
        node, depth = root, 0
        while node is not None:
            inner = self._enter(node)
            if inner is not None:
                node, depth = inner, depth + 1
                continue
            while True:
                self._leave(node)
                if depth == 0:
                    self._end_block()
                    return
                if node.next is not None:
                    node = node.next
                    break
                node, depth = node.parent, depth - 1

    def _enter(self, node: Any) -> Any:
        """Begins a node; the first of its children, if they are to be read."""
        tag = node.tag
        if tag == "-text":
            text = node.text_content or ""
            self._line.append(text if self._pre else SPACE.sub(" ", text))
            return None
        if tag in LEFT_OUT or tag.startswith("-") or _is_hidden(node):
            return None
        if tag == "br":
            self._line.append("\n")
        elif tag in CELLS and "".join(self._line).strip():
            self._line.append(" | ")
        elif tag in BLOCKS:
            self._end_block()
            self._tight = tag in TIGHT
            self._heading = HEADINGS.get(tag, 0)
            self._pre += tag == "pre"
        return node.first_child

    def _leave(self, node: Any) -> None:
        if node.tag in BLOCKS:
            self._end_block()
            self._pre = max(0, self._pre - (node.tag == "pre"))

    def _end_block(self) -> None:
        text = clean("".join(self._line))
        self._line.clear()
        if not self._pre:
            text = "\n".join(" ".join(line.split(" ")).strip() for line in re.sub(" {2,}", " ", text).split("\n"))
        text = text.strip("\n") if self._pre else text.strip()
        if text:
            if self._heading:
                self._writer.heading(self._heading, one_line(text))
            else:
                self._writer.block(text, tight=self._tight)
        self._heading, self._tight = 0, False


def _is_hidden(node: Any) -> bool:
    attributes = node.attributes
    if not attributes:
        return False
    return (
        "hidden" in attributes
        or attributes.get("role") == "navigation"
        or HIDDEN.search(attributes.get("style") or "") is not None
    )
