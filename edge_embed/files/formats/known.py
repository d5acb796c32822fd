"""The one table of the kinds of files that can be read, by the endings of their names."""

from collections.abc import Callable, Iterable
from importlib import import_module
from pathlib import PurePath
from typing import Any, NamedTuple


class Known(NamedTuple):
    """Who reads a kind of file.

    reader: "module:function" in this package. It is imported once such a file comes
    rows:   a file is a table, and each row a document: the function takes a Source
    apart:  it is read in a process of its own, because native code and compressed data may want any time and memory
    needs:  packages of the extra `files`
    """

    reader: str
    rows: bool = False
    apart: bool = False
    needs: tuple[str, ...] = ()

    def load(self) -> Callable[..., Any]:
        module, _, name = self.reader.partition(":")
        found: Callable[..., Any] = getattr(import_module(f"edge_embed.files.{module}"), name)
        return found


CODE = (
    ".py .pyi .js .mjs .cjs .jsx .ts .tsx .go .rs .c .h .cc .cpp .cxx .hh .hpp .cs .java .kt .kts .scala .swift .dart "
    ".rb .php .pl .pm .lua .r .jl .ex .exs .hs .sh .bash .zsh .ps1 .sql .proto .tf"
)
SETTINGS = ".json .toml .yaml .yml .ini .cfg"
XML, HTML = ("defusedxml",), ("selectolax", "charset_normalizer")


def _table(*rows: tuple[str, Known]) -> dict[str, Known]:
    return {suffix: known for suffixes, known in rows for suffix in suffixes.split()}


KNOWN: dict[str, Known] = _table(
    (".txt .text", Known("formats.plain:read_plain")),
    (".md .markdown .rst .org .adoc .tex", Known("formats.markup:read_markup")),
    (f"{CODE} {SETTINGS}", Known("formats.code:read_code")),
    (".srt .vtt", Known("formats.subtitles:read_subtitles")),
    (".jsonl .ndjson", Known("rows:read_jsonl", rows=True)),
    (".csv .tsv", Known("tables:read_table", rows=True)),
    (".pdf", Known("formats.pdf:read_pdf", apart=True, needs=("pypdfium2",))),
    (".html .htm .xhtml", Known("formats.html:read_html", apart=True, needs=HTML)),
    (".docx .docm", Known("formats.word:read_word", apart=True, needs=XML)),
    (".odt .odp", Known("formats.opendocument:read_opendocument", apart=True, needs=XML)),
    (".pptx .pptm", Known("formats.slides:read_slides", apart=True, needs=XML)),
    (".epub", Known("formats.epub:read_epub", apart=True, needs=(*XML, *HTML))),
    (".eml", Known("formats.mail:read_mail", apart=True, needs=HTML)),
    (".mbox", Known("formats.mail:read_mailbox", apart=True, needs=HTML)),
    (".xlsx .xlsm .xlsb .xls .ods", Known("formats.sheets:read_sheets", apart=True, needs=("python_calamine",))),
)
SUFFIXES = tuple(KNOWN)
# Tables whose rows can belong to vectors of another file.
ROW_SUFFIXES = tuple(suffix for suffix, known in KNOWN.items() if known.rows)


def known(path: PurePath) -> Known | None:
    """Who reads a file; None for a file of an unknown kind."""
    return KNOWN.get(path.suffix.lower())


def some_suffixes(suffixes: Iterable[str] = (".txt", ".md", ".pdf", ".html", ".docx", ".csv")) -> str:
    """What a message says of the kinds that are known."""
    return f"{', '.join(suffixes)} or another that edge-embed add --help lists"
