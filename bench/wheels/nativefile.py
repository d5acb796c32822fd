"""What a shared library says about itself: its CPU, what it exports, what it needs from which other library.

ELF (Linux), Mach-O (macOS) and PE (Windows), 64-bit and little-endian, as their specifications describe them; read
here because no one tool reads all three.
"""

import re
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ELF_MACHINES = {62: "x86_64", 183: "aarch64"}
MACHO_MACHINES = {0x01000007: "x86_64", 0x0100000C: "aarch64"}
PE_MACHINES = {0x8664: "x86_64", 0xAA64: "aarch64"}
# Sections of ELF files.
DYNAMIC, DYNSYM, VERNEED = 6, 11, 0x6FFFFFFE
# Commands of Mach-O files.
SYMTAB, LOAD_DYLIB, SIGNATURE, VERSION_MIN, BUILD_VERSION = 0x2, 0xC, 0x1D, 0x24, 0x32


@dataclass
class NativeFile:
    """machine: x86_64 or aarch64; exports, undefined: names of symbols; needs: names of libraries; oldest: the oldest
    system that it says it is for ("glibc 2.17", "macOS 13.0"), or ""; signed: whether a macOS library is."""

    machine: str
    system: str
    exports: set[str] = field(default_factory=set)
    undefined: set[str] = field(default_factory=set)
    needs: set[str] = field(default_factory=set)
    oldest: str = ""
    signed: bool = False


def read_native(path: Path) -> NativeFile:
    """ValueError for a file of another kind."""
    data = path.read_bytes()
    if data[:4] == b"\x7fELF" and data[4:6] == b"\x02\x01":
        return _elf(data)
    if data[:4] == b"\xcf\xfa\xed\xfe":
        return _macho(data)
    if data[:2] == b"MZ":
        return _pe(data)
    raise ValueError(f"{path} is no 64-bit library that this knows")


def _text(data: bytes, start: int) -> str:
    return data[start : data.index(b"\0", start)].decode()


def _unpack(form: str, data: bytes, at: int) -> tuple[Any, ...]:
    return struct.unpack_from("<" + form, data, at)


def _elf(data: bytes) -> NativeFile:
    (machine,) = _unpack("H", data, 18)
    (table,) = _unpack("Q", data, 40)
    size, count = _unpack("HH", data, 58)
    found = NativeFile(ELF_MACHINES.get(machine, str(machine)), "linux")
    # name, type, flags, address, offset, size, link, info, alignment, entry size
    sections = [_unpack("IIQQQQIIQQ", data, table + i * size) for i in range(count)]
    for _, kind, _, _, start, length, link, number, _, _ in sections:
        names = sections[link][4] if link < count else 0
        if kind == DYNAMIC:
            for at in range(start, start + length, 16):
                tag, value = _unpack("QQ", data, at)
                if tag == 1:  # DT_NEEDED
                    found.needs.add(_text(data, names + value))
        elif kind == DYNSYM:
            for at in range(start + 24, start + length, 24):
                name, info, visibility, section = _unpack("IBBH", data, at)
                where = found.exports if section else found.undefined
                if info >> 4 in (1, 2) and visibility & 3 == 0:  # global or weak, not hidden
                    where.add(_text(data, names + name))
        elif kind == VERNEED:
            found.oldest = _glibc(_versions(data, start, number, names))
    return found


def _versions(data: bytes, start: int, count: int, names: int) -> set[str]:
    """The symbol versions that an ELF file asks for: GLIBC_2.17, ..."""
    asked = set()
    for _ in range(count):
        _, entries, _, first, following = _unpack("HHIII", data, start)
        at = start + first
        for _ in range(entries):
            _, _, _, name, step = _unpack("IHHII", data, at)
            asked.add(_text(data, names + name))
            at += step
        start += following
    return asked


def _glibc(asked: set[str]) -> str:
    numbers = [tuple(map(int, version.split(".")))
               for version in re.findall(r"GLIBC_([\d.]+)", " ".join(asked))]  # fmt: skip
    return "glibc " + ".".join(map(str, max(numbers))) if numbers else ""


def _macho(data: bytes) -> NativeFile:
    (machine,) = _unpack("I", data, 4)
    (count,) = _unpack("I", data, 16)
    found, at = NativeFile(MACHO_MACHINES.get(machine, str(machine)), "macos"), 32
    for _ in range(count):
        command, size = _unpack("II", data, at)
        if command == LOAD_DYLIB:
            found.needs.add(_text(data, at + _unpack("I", data, at + 8)[0]))
        elif command in (BUILD_VERSION, VERSION_MIN):
            version = _unpack("I", data, at + (12 if command == BUILD_VERSION else 8))[0]
            found.oldest = f"macOS {version >> 16}.{version >> 8 & 0xFF}"
        elif command == SIGNATURE:
            found.signed = True
        elif command == SYMTAB:
            symbols, number, strings, _ = _unpack("IIII", data, at + 8)
            for i in range(number):
                name, kind = _unpack("IB", data, symbols + 16 * i)
                if kind & 0xF1 == 1:  # external, not private, no debugging
                    where = found.exports if kind & 0x0E else found.undefined
                    where.add(_text(data, strings + name).removeprefix("_"))
        at += size
    return found


def _pe(data: bytes) -> NativeFile:
    (header,) = _unpack("I", data, 0x3C)
    machine, count = _unpack("HH", data, header + 4)
    (optional,) = _unpack("H", data, header + 20)
    found = NativeFile(PE_MACHINES.get(machine, str(machine)), "windows")
    table = header + 24 + optional
    # size in memory, address, size in the file, offset in the file
    sections = [_unpack("IIII", data, table + 40 * i + 8) for i in range(count)]

    def place(address: int) -> int:
        for size, start, stored, offset in sections:
            if start <= address < start + max(size, stored):
                return int(address - start + offset)
        raise ValueError("an address outside all sections")

    directories = header + 24 + 112
    exports, imports = _unpack("I", data, directories)[0], _unpack("I", data, directories + 8)[0]
    if exports:
        number, _, names = _unpack("III", data, place(exports) + 24)  # of names, addresses, their names
        for i in range(number):
            found.exports.add(_text(data, place(_unpack("I", data, place(names) + 4 * i)[0])))
    at = place(imports) if imports else 0
    while at and (entry := _unpack("IIIII", data, at))[3]:
        found.needs.add(_text(data, place(entry[3])).lower())
        lookup = place(entry[0] or entry[4])
        while thunk := _unpack("Q", data, lookup)[0]:
            if not thunk >> 63:  # else by number
                found.undefined.add(_text(data, place(thunk) + 2))
            lookup += 8
        at += 20
    return found
