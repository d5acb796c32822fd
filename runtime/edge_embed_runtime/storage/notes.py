"""Rows of `meta` that are no facts: a text with its crc32, so that a damaged one is noticed.

Each kind keeps the form that the release had which brought it.
"""

import re
import zlib
from typing import NamedTuple


class Form(NamedTuple):
    """How a text and its checksum stand in a row. end: the last characters of the text, which the form puts after both.

    "{text} {crc}": "7" -> "7 1790921346"
    """

    form: str
    end: str = ""

    def write(self, text: str) -> str:
        crc = zlib.crc32(text.encode("utf-8", "surrogateescape"))
        return self.form.format(text=text.removesuffix(self.end), crc=crc)

    def read(self, row: object) -> str | None:
        """The text; None where this is no such row or its checksum does not fit."""
        pattern = re.escape(self.form).replace(r"\{text\}", "(.*)")
        found = re.fullmatch(re.sub(r"\\{crc.*?\\}", "[0-9a-f]+", pattern), str(row), re.DOTALL)
        text = None if found is None else found[1] + self.end
        return text if text is not None and self.write(text) == row else None


DECIMAL = Form("{text} {crc}")
HEXADECIMAL = Form("{text} {crc:08x}")
CRC_FIRST = Form("{crc:08x} {text}")
IN_LIST = Form("{text}, {crc}]", end="]")  # of a JSON list: its last entry
