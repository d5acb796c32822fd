"""Mail: .eml, and .mbox with many, each of which is a document.

From, To, Cc, Date (in UTC) and Subject are metadata; the subject is the first line of the text. The plain text is read,
or the HTML where there is none. Attachments of known kinds follow it, their places begin with their names; the names
of all are metadata.
"""

import re
from collections.abc import Iterator
from datetime import UTC
from email import message_from_bytes, policy
from email.header import decode_header
from email.message import Message
from email.utils import parsedate_to_datetime
from io import BytesIO
from pathlib import PurePath
from typing import Any, BinaryIO

from edge_embed.files.formats.content import BETWEEN, Content, Request, UnreadableError, Writer, clean, one_line
from edge_embed.files.formats.encodings import text_of
from edge_embed.files.formats.filetypes import FILE_TYPES, TEXT
from edge_embed.files.formats.html import page
from edge_embed_runtime.errors import MissingExtraError

HEADERS = ("From", "To", "Cc", "Subject")
# Of one mail; mails inside mails; parts of one mail.
MAX_MAIL, MAX_NESTED, MAX_PARTS = 2**26, 4, 1000
MAX_HEADER = 2000
FROM = re.compile(rb"From [^\n]*\d\d:\d\d[^\n]*\n")
QUOTED = re.compile(rb"^>(>*From )", re.MULTILINE)
# What headers and bodies that are broken in some way raise in the email package.
BROKEN = (ValueError, LookupError, TypeError, AttributeError, AssertionError, OverflowError)


def read_mail(file: BinaryIO, request: Request) -> Iterator[Content]:
    raw = file.read(MAX_MAIL + 1)
    if len(raw) > MAX_MAIL:
        raise UnreadableError(f"has more than {MAX_MAIL:,} bytes, which a mail may have")
    message = message_from_bytes(raw, policy=policy.compat32)
    if not message.keys():
        raise UnreadableError("is no mail: it has no headers")
    yield _content(message, request, None)


def read_mailbox(file: BinaryIO, request: Request) -> Iterator[Content]:
    """Keys end with the Message-ID, or with the number of the mail where it has none or another has it too."""
    seen: set[str] = set()
    number = 0
    for number, raw in enumerate(_mails(file), start=1):
        request.at(f"mail {number}")
        if raw is None:
            request.problem(f"holds a mail of more than {MAX_MAIL:,} bytes, number {number}; it is left out")
            continue
        message = message_from_bytes(raw, policy=policy.compat32)
        name = _header(message, "Message-ID").strip("<> \t")[:500]
        part = name if name and name not in seen else str(number)
        seen.add(part)
        try:
            yield _content(message, request, part)
        except UnreadableError as error:
            request.problem(f"holds a mail, number {number}, that {error}")
    if not number and file.seek(0, 2):
        raise UnreadableError("is no mailbox: no line begins a mail (From ... with a time)")


def _mails(file: BinaryIO) -> Iterator[bytes | None]:
    """The mails of a mailbox; None for one that is too long."""
    lines: list[bytes] = []
    size, begun, blank = 0, False, True
    while line := file.readline(MAX_MAIL + 1):
        if blank and FROM.match(line):
            if begun:
                yield _unquoted(lines) if size <= MAX_MAIL else None
            lines, size, begun = [], 0, True
        elif begun:
            size += len(line)
            if size <= MAX_MAIL:
                lines.append(line)
            else:
                lines.clear()
        blank = not line.strip()
    if begun:
        yield _unquoted(lines) if size <= MAX_MAIL else None


def _unquoted(lines: list[bytes]) -> bytes:
    return QUOTED.sub(rb"\1", b"".join(lines))


def _content(message: Message, request: Request, part: str | None) -> Content:
    writer, attachments = Writer(request.limit), list[str]()
    subject = _header(message, "Subject")
    writer.block(subject)
    _Body(writer, attachments, request).add(message)
    metadata: dict[str, Any] = {name.lower(): text for name in HEADERS if (text := _header(message, name))}
    date = _date(message)
    if date:
        metadata["date"] = date
    if attachments:
        metadata["attachments"] = attachments
    return writer.content(metadata, part)


def _header(message: Message, name: str) -> str:
    """A header as text: "=?utf-8?q?Caf=C3=A9?=" -> "Café"."""
    try:
        value = message.get(name)
        if value is None:
            return ""
        parts = []
        for part, charset in decode_header(str(value)[:MAX_HEADER]):
            parts.append(part if isinstance(part, str) else _decoded(part, charset))
        return _one_line("".join(parts))
    except BROKEN:
        return ""


def _one_line(text: str) -> str:
    """Of any length, for metadata."""
    return " ".join(clean(text).split())


def _decoded(raw: bytes, charset: str | None) -> str:
    for name in (charset, "utf-8", "cp1252"):
        try:
            if name and name != "unknown-8bit":
                return raw.decode(name)
        except (UnicodeDecodeError, LookupError, ValueError):
            continue
    return raw.decode("latin-1")


def _date(message: Message) -> str:
    """In UTC, so that dates compare as texts: "2026-11-30T11:35:28Z"."""
    try:
        found = parsedate_to_datetime(str(message.get("Date", "")))
        if found.tzinfo is not None:
            found = found.astimezone(UTC)
        return found.replace(tzinfo=None).isoformat(timespec="seconds") + "Z"
    except BROKEN:
        return ""


class _Body:
    """The text of a mail: of each alternative the plain one."""

    def __init__(self, writer: Writer, attachments: list[str], request: Request) -> None:
        self._writer, self._attachments, self._request = writer, attachments, request
        self._parts = 0

    def add(self, message: Message, nested: int = 0, before: str = "") -> None:
        for part in self._leaves(message):
            self._parts += 1
            if self._parts > MAX_PARTS:
                raise UnreadableError(f"has more than {MAX_PARTS:,} parts")
            kind, name = part.get_content_type(), _file_name(part)
            if kind == "message/rfc822" and isinstance(part.get_payload(), list):
                self._attached_mail(part.get_payload(0), nested, before)  # type: ignore[arg-type]
            elif name or part.get_content_disposition() == "attachment":
                self._attachment(part, name, before)
            elif kind in ("text/plain", "text/html"):
                self._text(part, kind, before)

    def _leaves(self, message: Message) -> Iterator[Message]:
        """The parts to read, without recursion: of multipart/alternative the plain one, or else the last."""
        waiting = [message]
        while waiting:
            part = waiting.pop()
            payload = part.get_payload()
            inner = [p for p in payload if isinstance(p, Message)] if isinstance(payload, list) else []
            if not inner or part.get_content_type() == "message/rfc822":
                yield part
            elif part.get_content_subtype() == "alternative":
                plain = [p for p in inner if p.get_content_type() == "text/plain" and str(p.get_payload()).strip()]
                waiting.append(plain[0] if plain else inner[-1])
            else:
                waiting += reversed(inner)

    def _text(self, part: Message, kind: str, before: str) -> None:
        text = _text_of(_payload(part), _charset(part), self._request)
        content = page(text, self._request) if kind == "text/html" else Content(clean(text).strip())
        if content.text:
            self._writer.take(content, before)

    def _attached_mail(self, message: Message, nested: int, before: str) -> None:
        subject = _header(message, "Subject") or "mail"
        self._attachments.append(subject)
        if nested >= MAX_NESTED:
            self._request.problem(f"has mails in mails more than {MAX_NESTED} deep; those are left out")
            return
        label = f"{before}{BETWEEN}{subject}" if before else subject
        self._writer.place(label)
        self._writer.block(subject)
        self.add(message, nested + 1, label)

    def _attachment(self, part: Message, name: str, before: str) -> None:
        self._attachments.append(name or part.get_content_type())
        suffix = PurePath(name).suffix.lower()
        kind = FILE_TYPES.get(suffix)
        if kind is None or kind.rows or kind.modality != TEXT or suffix in (".eml", ".mbox"):
            return
        label = f"{before}{BETWEEN}{name}" if before else name
        request = Request(suffix, self._request.limit, self._request.encoding, columns=("\0",), note=self._request.note)
        try:
            for content in kind.load()(BytesIO(_payload(part)), request):
                if isinstance(content, Content) and content.text.strip():
                    self._writer.take(content, label)
        except (UnreadableError, MissingExtraError) as error:
            self._request.problem(f"has an attachment {name[:80]!r} that {error}")


def _text_of(raw: bytes, charset: str | None, request: Request) -> str:
    """A body in the encoding that it says, or that is found out; characters that cannot be read become U+FFFD."""
    try:
        return raw.decode(charset or "utf-8")
    except (UnicodeDecodeError, LookupError, ValueError):
        pass
    try:
        return text_of(raw, request)
    except UnreadableError:
        request.note("with characters that could not be read")
        return raw.decode("utf-8", "replace")


def _payload(part: Message) -> bytes:
    try:
        raw = part.get_payload(decode=True)
    except BROKEN:
        return b""
    return raw if isinstance(raw, bytes) else b""


def _charset(part: Message) -> str | None:
    try:
        return part.get_content_charset()
    except BROKEN:
        return None


def _file_name(part: Message) -> str:
    try:
        name = part.get_filename()
    except BROKEN:
        return ""
    return one_line(PurePath(_one_line(_plain(name))).name) if name else ""


def _plain(name: str) -> str:
    """A name that is encoded as a header is, which many programs write."""
    return "".join(p if isinstance(p, str) else _decoded(p, charset) for p, charset in decode_header(name))
