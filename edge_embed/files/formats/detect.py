"""The encoding of a text that is not UTF-8, where it is clear.

Statistics alone take Spanish in windows-1252 for windows-1250. So an encoding is only believed if what it makes of the
bytes could be one language: its letters belong to one alphabet, words do not mix scripts, capitals stand where capitals
stand; if all other encodings make no sense, or the same text; and if charset-normalizer finds no fault with it.
"""

import re
from collections import Counter
from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from typing import NamedTuple

from edge_embed_runtime.errors import MissingExtraError
from edge_embed_runtime.extras import require

SAY = "say how it is encoded, such as --encoding cp1252"
# Bytes that are looked at, of lines that are not ASCII alone.
SAMPLE = 2**18
# Those first that are to be named where several make the same text.
CANDIDATES = (
    "cp1252", "cp1250", "cp1251", "cp1253", "cp1254", "cp1255", "cp1256", "cp1257", "iso8859_2", "iso8859_5",
    "iso8859_7", "iso8859_8", "iso8859_9", "iso8859_15", "koi8_r", "koi8_u", "cp866", "cp850", "cp852", "cp437",
    "mac_roman", "mac_cyrillic", "cp874", "gb18030", "big5", "cp932", "euc_jp", "cp949",
)  # fmt: skip
CHINESE_ENCODINGS = ("gb18030", "big5")  # they have kana too, but no text in Japanese is in them
# What languages write beyond a to z.
LATIN = (
    "äöüß", "àâæçéèêëîïôœùûüÿ", "áéíñóúüªº", "àáâãçéêíóôõúüªº", "àèéìíîòóùú", "áéèëêïíóöü", "åäöé", "æøåéòôêüö",
    "áðéíóúýþæö", "àçèéíïòóúü", "áéñöüèêëïçô", "ąćęłńóśźż", "áčďéěíňóřšťúůýž", "áäčďéíĺľňóôŕšťúýž", "áéíóöőúüű",
    "ăâîșțşţ", "čćđšž", "çğıöşüâîûi̇", "äöõüšž", "āčēģīķļņšūž", "ąčęėįšųūž",
)  # fmt: skip
# All letters of other scripts, and those of them that make up most of any text.
OTHERS = (
    ("абвгдежзийклмнопрстуфхцчшщъыьэюяё", "оеаинтсрвл"),
    ("абвгдежзийклмнопрстуфхцчшщьюяєіїґ", "оаинтвресікл"),
    ("абвгдежзийклмнопрстуфхцчшщъьюя", "аоеинтрсвлд"),
    ("абвгдђежзијклљмнњопрстћуфхцчџш", "аоеинтрсјвук"),
    ("αβγδεζηθικλμνξοπρστυφχψωςάέήίόύώϊϋΐΰ", "αοιετσνηυρπκς"),
    ("אבגדהוזחטיכךלמםנןסעפףצץקרשת", "יוהלאתרמבש"),
    ("ءآأؤإئابةتثجحخدذرزسشصضطظعغفقكلمنهويىپچژگًٌٍَُِّْـ", "اليمنوتربعهد"),
    ("กขฃคฅฆงจฉชซฌญฎฏฐฑฒณดตถทธนบปผฝพฟภมยรฤลวศษสหฬอฮะัาำิีึืฺุูเแโใไๅๆ็่้๊๋์ํ๎ฯ", "านรกอเง่้วมยลีต"),
)
# The most frequent characters of Chinese, in both of its forms: a tenth of any text.
CHINESE = frozenset(
    "的一是不了人我在有他这这個个中大来來上国國到說说们們為为子和你地出道也时時年得就那要下以生会會自着著去之过過家学學对對可她里后後小么麼心多天而能"
    "好都然没沒日于於起还還发發成事只作当當想看文无無开開手十用主行方又如前所本见見经經头頭面公同三已老从從动動两兩长長"
)
MARKS = frozenset("\u00a0“”„‘’‚‹›«»–—…•·°§©®™€£¥´`¨¿¡¹²³¼½¾№\u0e3f")
WORD = re.compile(r"[^\W\d_]+(?:[\u0300-\u036f\u0e31-\u0e4e\u064b-\u0652]+[^\W\d_]*)*")
# A sign between two letters of a word: "Stra¶e".
TORN = re.compile(r"[^\W\d_][^\w\s'’\-\u2010-\u2015./·&+:;,@…\u0e00-\u0e7f\u064b-\u0652\u2e80-\uffef][^\W\d_]")
CJK = re.compile(r"[\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\uff00-\uffef]")
KANA, HANGUL, HAN = (re.compile(f"[{span}]") for span in ("\u3041-\u30ff", "\uac00-\ud7af", "\u4e00-\u9fff"))
JAMO = re.compile("[\u3131-\u318e]")  # parts of Korean letters, which stand alone in lists
# Of letters, words and signs that do not fit, the part that a long text may have: names, quotations.
STRANGE = 0.04
# How many strange things more every other encoding must make of it.
CLEARER = 2
# Of the letters of a text, what its alphabet's most frequent letters make up at least.
FREQUENT = 0.58
# Control characters, which encodings have that give these bytes no letter.
CONTROL = re.compile("[\x80-\x9f]")
# Bytes of the form of UTF-8 that stand for no character: surrogates, and numbers that Unicode does not have.
NOT_UNICODE = re.compile(rb"\xed[\xa0-\xbf][\x80-\xbf]|\xf4[\x90-\xbf][\x80-\xbf]{2}|[\xf5-\xf7][\x80-\xbf]{3}")
# Characters of Chinese, Japanese or Korean that are enough to tell.
LEAST_ASIAN = 4


class Unclear(NamedTuple):
    """An encoding that is not known, and what to do."""

    hint: str


def detect(raw: bytes) -> str | Unclear:
    try:
        package = require("charset_normalizer", "files")
    except MissingExtraError:
        return Unclear(f"{SAY}, or pip install 'edge-embed[files]', which finds out what is clear")
    if _is_damaged(raw):
        return Unclear(SAY)
    sample = b"\n".join(line for line in raw.split(b"\n") if not line.isascii())[:SAMPLE]
    found: dict[str, tuple[int, str]] = {}  # text -> what is strange in it, and its encoding
    for name in CANDIDATES:
        text = _decoded(sample, name)
        if text is None or CONTROL.search(text) or (name in CHINESE_ENCODINGS and KANA.search(text)):
            continue
        if text not in found and (strange := strangeness(text)) is not None:
            found[text] = strange, name
    (best, name), *others = sorted(found.values(), key=lambda entry: entry[0]) or [(0, "")]
    if not name or (others and others[0][0] < best + CLEARER):
        return Unclear(SAY)
    whole = len(sample) < SAMPLE or _decodes(raw, name)
    return name if whole and package.from_bytes(sample[: 2**16], cp_isolation=[name]) else Unclear(SAY)


def _is_damaged(raw: bytes) -> bool:
    """Whether it is rather UTF-8 with faults, or no text at all."""
    raw, beyond = NOT_UNICODE.subn(b"", raw)
    good = beyond + sum(not character.isascii() for character in raw.decode("utf-8", "ignore"))
    bad = raw.decode("utf-8", "replace").count("\ufffd")
    control = raw.translate(None, bytes([*range(0x20, 0x100), 9, 10, 12, 13, 27]))
    return good >= bad or bool(control)


def _decoded(raw: bytes, name: str) -> str | None:
    """None for bytes that this encoding does not have. A sample may end in the middle of a character."""
    for end in (len(raw), len(raw) - 1, len(raw) - 2, len(raw) - 3) if len(raw) == SAMPLE else (len(raw),):
        try:
            return raw[:end].decode(name)
        except UnicodeDecodeError:
            continue
    return None


def _decodes(raw: bytes, name: str) -> bool:
    try:
        raw.decode(name)
    except UnicodeDecodeError:
        return False
    return True


def strangeness(text: str) -> int | None:
    """How many things of a text do not fit into one language; None where those are too many."""
    beyond = [c for c in text if not c.isascii()]
    signs = sum(not (c.isalpha() or c in MARKS or CJK.match(c) or _is_mark(c)) for c in beyond)
    strange = max(signs, len(TORN.findall(text)))
    asian = len(CJK.findall(text))
    if asian > len(beyond) / 2:
        return strange if strange <= STRANGE * len(beyond) and _is_asian(text, asian) else None
    words = [word for word in WORD.findall(text) if not word.isascii()]
    if all(len(word) < 2 for word in words):  # signs and letters alone are in many places of many encodings
        return None
    strange += sum(not _is_cased(word) for word in words)
    letters = "".join(words).lower()
    if _share(letters, _latin()) > 0.5:
        strange += _least_foreign([c for c in letters if not c.isascii()], LATIN)
    else:
        scripts = [all_ for all_, frequent in OTHERS if _share(letters, frozenset(frequent)) >= FREQUENT]
        if not scripts:
            return None
        strange += _least_foreign(letters, scripts)
    return strange if strange <= STRANGE * len(words) else None


def _is_mark(character: str) -> bool:
    return "\u0300" <= character <= "\u036f" or "\u0e31" <= character <= "\u0e4e" or "\u064b" <= character <= "\u0652"


def _is_cased(word: str) -> bool:
    """Whether it is "word", "Word" or "WORD"."""
    return word.islower() or word.isupper() or word.istitle() or word.lower() == word


@cache
def _latin() -> frozenset[str]:
    return frozenset("".join(LATIN) + "abcdefghijklmnopqrstuvwxyz")


def _share(letters: str, of: frozenset[str]) -> float:
    return sum(letter in of for letter in letters) / max(1, len(letters))


def _least_foreign(letters: Sequence[str], alphabets: Sequence[str]) -> int:
    """How many letters are not in the alphabet that has the most of them."""
    counts = Counter(letters)
    return min(sum(n for letter, n in counts.items() if letter not in alphabet) for alphabet in alphabets)


def _is_asian(text: str, asian: int) -> bool:
    kana, hangul, han = (len(kind.findall(text)) for kind in (KANA, HANGUL, HAN))
    if asian < LEAST_ASIAN:
        return False
    torn = sum(bool(CJK.match(a)) != bool(CJK.match(b)) and a.isalpha() and b.isalpha() for a, b in pairwise(text))
    if torn > asian / 5:
        return False
    if hangul:
        return hangul > 0.9 * (hangul + han + kana + len(JAMO.findall(text)))
    if kana:
        return kana > 0.2 * (kana + han)
    return han > 0 and sum(c in CHINESE for c in text) >= 0.1 * han
