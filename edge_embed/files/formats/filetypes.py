"""The one table of the kinds of files that can be read, by the endings of their names."""

import os
from collections.abc import Callable, Iterable
from importlib import import_module
from pathlib import PurePath
from typing import Any, NamedTuple

TEXT, IMAGE, AUDIO = "text", "image", "audio"


class FileType(NamedTuple):
    """Who reads a kind of file.

    reader:      "module:function" in edge_embed.files, imported once such a file comes. It takes the open file and a
                 Request, gives Content and Cells, and raises UnreadableError
    rows:        a file is a table, and each row a document: the function takes a Source and a limit, and gives Rows
    own_process: it is read in a process of its own: native code and compressed data may want any time and memory
    needs:       packages of the extra `files`; of pictures and sounds, of `image` and `audio`
    modality:    what a model must read to embed it
    """

    reader: str
    rows: bool = False
    own_process: bool = False
    needs: tuple[str, ...] = ()
    modality: str = TEXT

    def load(self) -> Callable[..., Any]:
        module, _, name = self.reader.partition(":")
        found: Callable[..., Any] = getattr(import_module(f"edge_embed.files.{module}"), name)
        return found


CODE = (
    ".py .pyi .js .mjs .cjs .jsx .ts .tsx .go .rs .c .h .cc .cpp .cxx .hh .hpp .cs .java .kt .kts .scala .swift .dart "
    ".rb .php .pl .pm .lua .r .jl .ex .exs .hs .sh .bash .zsh .ps1 .sql .proto .tf"
)
SETTINGS = ".json .toml .yaml .yml .ini .cfg"
PICTURES = ".jpg .jpeg .jpe .jfif .png .gif .webp .bmp .tif .tiff .mpo .avif .heic .heif"
SOUNDS = ".wav .flac .ogg .oga .opus .mp3 .aif .aiff .au .caf .w64"
XML, HTML = ("defusedxml",), ("selectolax", "charset_normalizer")


def _table(*rows: tuple[str, FileType]) -> dict[str, FileType]:
    return {suffix: type_ for suffixes, type_ in rows for suffix in suffixes.split()}


FILE_TYPES: dict[str, FileType] = _table(
    (".txt .text", FileType("formats.plain:read_plain")),
    (".md .markdown .rst .org .adoc .tex", FileType("formats.markup:read_markup")),
    (f"{CODE} {SETTINGS}", FileType("formats.code:read_code")),
    (".srt .vtt", FileType("formats.subtitles:read_subtitles")),
    (".jsonl .ndjson", FileType("rows:read_jsonl", rows=True)),
    (".csv .tsv", FileType("tables:read_table", rows=True)),
    (".pdf", FileType("formats.pdf:read_pdf", own_process=True, needs=("pypdfium2",))),
    (".html .htm .xhtml", FileType("formats.html:read_html", own_process=True, needs=HTML)),
    (".docx .docm", FileType("formats.word:read_word", own_process=True, needs=XML)),
    (".odt .odp", FileType("formats.opendocument:read_opendocument", own_process=True, needs=XML)),
    (".pptx .pptm", FileType("formats.slides:read_slides", own_process=True, needs=XML)),
    (".epub", FileType("formats.epub:read_epub", own_process=True, needs=(*XML, *HTML))),
    (".eml", FileType("formats.mail:read_mail", own_process=True, needs=HTML)),
    (".mbox", FileType("formats.mail:read_mailbox", own_process=True, needs=HTML)),
    (
        ".xlsx .xlsm .xlsb .xls .ods",
        FileType("formats.sheets:read_sheets", own_process=True, needs=("python_calamine",)),
    ),
    (PICTURES, FileType("formats.media:describe_picture", needs=("PIL",), modality=IMAGE)),
    (SOUNDS, FileType("formats.media:describe_sound", needs=("soundfile",), modality=AUDIO)),
)
SUFFIXES = tuple(FILE_TYPES)
# Tables whose rows can belong to vectors of another file.
ROW_SUFFIXES = tuple(suffix for suffix, type_ in FILE_TYPES.items() if type_.rows)


def type_of(path: PurePath) -> FileType | None:
    """Who reads a file; None for a file of an unknown kind."""
    return FILE_TYPES.get(path.suffix.lower())


def modality_of(name: str) -> str | None:
    """What a model must read to embed a file of this name; None for a file of an unknown kind."""
    found = FILE_TYPES.get(os.path.splitext(name)[1].lower())  # noqa: PTH122 - once a file
    return None if found is None else found.modality


def some_suffixes(suffixes: Iterable[str] = (".txt", ".md", ".pdf", ".html", ".docx", ".csv")) -> str:
    """What a message says of the kinds that are known."""
    return f"{', '.join(suffixes)} or another that edge-embed add --help lists"
