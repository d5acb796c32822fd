"""What the file of a sound says of itself, read before it is decoded: its kind, and whether all of it is there.

The decoder takes what is left of a file that was cut off for the whole, and guesses the length of an MP3 without an
index, often too short. Sizes and marks: RFC 3533 (Ogg), RFC 9639 (FLAC), the RIFF, AIFF and AU headers, ID3v2.
"""

import os
from typing import BinaryIO

# The first bytes of the kinds that are decoded; every other is refused before a decoder sees it.
KINDS = (
    (b"RIFF", 8, b"WAVE", "WAV"),
    (b"RF64", 8, b"WAVE", "RF64"),
    (b"riff\x2e\x91\xcf\x11", 24, b"wave\xf3\xac\xd3\x11", "W64"),
    (b"FORM", 8, b"AIFF", "AIFF"),
    (b"FORM", 8, b"AIFC", "AIFF"),
    (b"fLaC", 0, b"", "FLAC"),
    (b"OggS", 0, b"", "OGG"),
    (b".snd", 0, b"", "AU"),
    (b"caff", 0, b"", "CAF"),
)
TAKEN = "WAV, FLAC, OGG, Opus, MP3, AIFF, AU and CAF are read"
# The kinds that people have most, to name them: offset, bytes, name.
FOREIGN = (
    (4, b"ftyp", "MP4 or M4A"),
    (0, b"\x1a\x45\xdf\xa3", "Matroska or WebM"),
    (0, b"\x30\x26\xb2\x75", "WMA"),
    (0, b"#!AMR", "AMR"),
    (0, b"MThd", "MIDI"),
    (0, b"wvpk", "WavPack"),
    (0, b"\xff\xf1", "AAC"),
    (0, b"\xff\xf9", "AAC"),
    (8, b"AVI ", "AVI"),
)
HEAD = 64
# Bytes of an MP3 in which its index begins.
BEGIN = 256
SEVERAL = "holds several sounds one after the other, of which the decoder reads the first alone: take them apart"
# Sizes from here on are what a program writes that does not know the size yet, as in a pipe.
UNKNOWN = 0x7FFF0000
# Bytes by which writers miscount, as of the byte that makes a chunk even.
SLACK = 8
OGG_TAIL = 2**16 + 2**9  # a page has 65,307 bytes at most
MOST_CHUNKS = 1000
SMALLEST_FRAME = 24  # bytes: no frame of an MP3 is smaller


def head_of(file: BinaryIO) -> tuple[int, bytes]:
    """Where the sound begins, behind ID3v2 tags, and its first bytes."""
    start = 0
    for _ in range(8):  # tags may follow one another
        file.seek(start)
        head = file.read(HEAD)
        if head[:3] != b"ID3" or len(head) < 10 or max(head[6:10]) > 127:
            break
        start += 10 + sum(byte << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True))
        start += 10 if head[5] & 0x10 else 0  # its footer
    return start, head


def kind_of(head: bytes) -> str:
    """ "WAV", "FLAC" ...; "" for what is not decoded."""
    for first, place, second, kind in KINDS:
        if head.startswith(first) and head[place : place + len(second)] == second:
            return kind
    # sync of 11 bits, layer III or II, a bitrate and a rate that exist
    if len(head) >= 4 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0 and head[1] & 0x18 != 0x08:
        layer, bitrate, rate = head[1] >> 1 & 3, head[2] >> 4, head[2] >> 2 & 3
        if layer in (1, 2) and bitrate not in (0, 15) and rate != 3:
            return "MP3"
    return ""


def fault(file: BinaryIO) -> str:
    """What is wrong with a file, as the rest of a sentence: "is cut off: ..."; "" where nothing is.

    The file is left at its beginning.
    """
    size = file.seek(0, os.SEEK_END)
    start, head = head_of(file)
    kind = kind_of(head)
    try:
        if not size:
            return "is empty"
        if kind:
            return _fault_of(kind, file, size, start)
        known = [name for place, mark, name in FOREIGN if head[place : place + len(mark)] == mark]
        return f"is {known[0]}, which is not read here: {TAKEN}" if known else f"is not a sound: {TAKEN}"
    finally:
        file.seek(0)


def _fault_of(kind: str, file: BinaryIO, size: int, start: int) -> str:
    """What is wrong with a file of a kind, whose sound begins at `start`."""
    file.seek(start)
    head = file.read(HEAD)
    if start and kind not in ("MP3", "FLAC"):
        return f"is {kind} behind an ID3 tag, which such files do not have"
    if kind == "OGG":
        return _fault_of_ogg(file, size, head)
    if kind == "MP3":
        return SEVERAL if _goes_on(file, start) else ""
    promised = _end_of_chunks(file) if kind == "CAF" else _promised(kind, head)
    return f"is cut off: {size:,} bytes of {promised:,}" if size + SLACK < promised < UNKNOWN else ""


def _promised(kind: str, head: bytes) -> int:
    """How many bytes a file should have by its header; 0 where it does not say."""
    if kind == "WAV":
        told = int.from_bytes(head[4:8], "little")
        return told + 8 if told else 0
    if kind == "AIFF":
        return int.from_bytes(head[4:8], "big") + 8
    if kind == "RF64" and head[12:16] == b"ds64":
        return int.from_bytes(head[20:28], "little") + 8
    if kind == "W64":
        return int.from_bytes(head[16:24], "little")
    if kind == "AU":
        return int.from_bytes(head[4:8], "big") + int.from_bytes(head[8:12], "big")
    return 0


def _end_of_chunks(file: BinaryIO) -> int:
    """Where the chunks of a CAF file end; 0 where one has no size, as the last one may."""
    place = 8
    for _ in range(MOST_CHUNKS):
        file.seek(place)
        head = file.read(12)
        if len(head) < 12:
            break
        size = int.from_bytes(head[4:], "big", signed=True)
        if size < 0:
            return 0
        place += 12 + size
    return place


def _fault_of_ogg(file: BinaryIO, size: int, head: bytes) -> str:
    """Whether the last page is there whole, marked as the last, and of the stream that the first page begins."""
    file.seek(max(0, size - OGG_TAIL))
    tail = file.read(OGG_TAIL)
    place = tail.rfind(b"OggS\x00")
    lengths = tail[place + 27 : place + 27 + tail[place + 26]] if 0 <= place <= len(tail) - 27 else b""
    whole = bool(lengths) and len(lengths) == tail[place + 26] and place + 27 + len(lengths) + sum(lengths) <= len(tail)
    if not whole or not tail[place + 5] & 4:
        return "is cut off: its last page is not marked as the last"
    return "" if tail[place + 14 : place + 18] == head[14:18] else SEVERAL


def _goes_on(file: BinaryIO, start: int) -> bool:
    """Whether another MP3 begins where the index of this one says that it ends."""
    file.seek(start)
    begin = file.read(BEGIN)
    place = max(begin.find(b"Xing"), begin.find(b"Info"))
    flags = int.from_bytes(begin[place + 4 : place + 8], "big")
    if place < 0 or not flags & 2:
        return False
    count = place + 8 + 4 * (flags & 1)
    file.seek(start + int.from_bytes(begin[count : count + 4], "big"))
    behind = file.read(HEAD)
    return kind_of(behind) == "MP3" or behind[:3] == b"ID3"


def mp3_index(file: BinaryIO) -> bytes:
    """What to put before an MP3 without an index: a frame whose index promises more than there can be.

    b"" for other files, and where there is an index.
    """
    start, head = head_of(file)
    size = file.seek(0, os.SEEK_END)
    file.seek(start)
    begin = file.read(BEGIN)
    file.seek(0)
    if kind_of(head) != "MP3" or any(mark in begin for mark in (b"Xing", b"Info", b"VBRI")):
        return b""
    version, mono = head[1] >> 3 & 3, head[3] >> 6 == 3
    if head[1] >> 1 & 3 != 1:  # layers I and II have no index; their bitrate is constant
        return b""
    rate = (44100, 48000, 32000)[head[2] >> 2 & 3] >> {3: 0, 2: 1, 0: 2}[version]
    # of the highest bitrate, which has room for an index: 320 or 160 kbit/s
    length = 144 * 320_000 // rate if version == 3 else 72 * 160_000 // rate
    side = (17 if mono else 32) if version == 3 else (9 if mono else 17)
    frame = bytes([0xFF, head[1] | 1, 0xE0 | head[2] & 0x0C, head[3]]) + bytes(side)
    frame += b"Xing" + (1).to_bytes(4, "big") + (size // SMALLEST_FRAME + 1).to_bytes(4, "big")
    return frame.ljust(length, b"\0")
