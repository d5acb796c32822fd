"""Which script a character belongs to, and which scripts a language is written in.

The standard library has no table of scripts, but names of characters begin with theirs: "LATIN SMALL LETTER A". What
has no script of its own - digits, punctuation, emoji, marks that combine with any letter - is common to all, and so
are letters of scripts that are not in the list here.
"""

import unicodedata
from collections.abc import Iterable
from functools import lru_cache

from edge_embed_runtime.checks import shown
from edge_embed_runtime.errors import InputError

COMMON = "Common"
SCRIPTS = (
    *("Latin", "Cyrillic", "Greek", "Armenian", "Georgian", "Hebrew", "Arabic", "Syriac", "Thaana", "Nko", "Ethiopic"),
    *("Devanagari", "Bengali", "Gurmukhi", "Gujarati", "Oriya", "Tamil", "Telugu", "Kannada", "Malayalam", "Sinhala"),
    *("Thai", "Lao", "Tibetan", "Myanmar", "Khmer", "Mongolian", "Javanese", "Cherokee", "Tifinagh", "Yi"),
    *("Han", "Hiragana", "Katakana", "Hangul", "Bopomofo", "Coptic", "Gothic", "Runic", "Glagolitic"),
)
# first words of characters' names that are not the script's own
ALIASES = {"cjk": "Han", "ideographic": "Han", "arabic-indic": "Arabic", "hentaigana": "Hiragana"}
# "HALFWIDTH KATAKANA LETTER A": the script comes second
PREFIXES = ("FULLWIDTH", "HALFWIDTH", "EXTENDED", "VERTICAL")
_BY_WORD = {**{script.lower(): script for script in SCRIPTS}, **ALIASES}

# By ISO 639-1 code: https://www.loc.gov/standards/iso639-2/php/code_list.php
WRITTEN_IN = {
    ("Latin",): "af ca cs cy da de en es et eu fi fr ga gl hr hu id is it lb lt lv ms mt nl no nb nn pl pt ro sk sl so "
    "sq sv sw tl tr vi yo zu az bs eo ha ig la mg mi rw sm sn st uz xh",
    ("Cyrillic",): "be bg kk ky mk mn ru tg uk",
    ("Cyrillic", "Latin"): "sr",
    ("Arabic",): "ar fa ps sd ug ur",
    ("Arabic", "Latin"): "ku",
    ("Devanagari",): "hi mr ne sa",
    ("Hebrew",): "he yi",
    ("Bengali",): "as bn",
    ("Ethiopic",): "am ti",
    ("Han", "Bopomofo"): "zh",
    ("Han", "Hiragana", "Katakana"): "ja",
    ("Hangul", "Han"): "ko",
    ("Greek",): "el",
    ("Armenian",): "hy",
    ("Georgian",): "ka",
    ("Gurmukhi",): "pa",
    ("Gujarati",): "gu",
    ("Oriya",): "or",
    ("Tamil",): "ta",
    ("Telugu",): "te",
    ("Kannada",): "kn",
    ("Malayalam",): "ml",
    ("Sinhala",): "si",
    ("Thai",): "th",
    ("Lao",): "lo",
    ("Tibetan",): "bo dz",
    ("Myanmar",): "my",
    ("Khmer",): "km",
    ("Thaana",): "dv",
}
LANGUAGES = {code: scripts for scripts, codes in WRITTEN_IN.items() for code in codes.split()}


@lru_cache(maxsize=2**17)
def script_of(character: str) -> str:
    """The script of a letter, mark or digit; COMMON for everything else.

    "a" -> "Latin", "中" -> "Han", "7" -> "Common", "." -> "Common"
    """
    category = unicodedata.category(character)
    if category[0] not in "LM" and category != "Nd":
        return COMMON
    words = unicodedata.name(character, "").split()
    if len(words) > 1 and words[0] in PREFIXES:
        words = words[1:]
    return _BY_WORD.get(words[0].lower(), COMMON) if words else COMMON


def check_scripts(names: Iterable[str]) -> list[str]:
    """Scripts by their names in any case. Raises InputError for an unknown one."""
    known = {script.lower(): script for script in SCRIPTS}
    for name in names:
        if name.lower() not in known:
            raise InputError(
                f"the script {name!r} is not known; known are {', '.join(SCRIPTS)}", option="scripts", value=shown(name)
            )
    return [known[name.lower()] for name in names]


def scripts_of_languages(codes: Iterable[str]) -> list[str]:
    """The scripts that languages are written in, each once. Raises InputError for an unknown language.

    ["de", "ru"] -> ["Latin", "Cyrillic"]
    """
    found: dict[str, None] = {}
    for code in codes:
        if code.lower() not in LANGUAGES:
            raise InputError(
                f"the language {code!r} is not known by its code; known are {', '.join(sorted(LANGUAGES))}. "
                "Of another language name the scripts",
                option="languages",
                value=shown(code),
            )
        found.update(dict.fromkeys(LANGUAGES[code.lower()]))
    return list(found)


def indistinct(codes: Iterable[str]) -> list[str]:
    """Languages among those given that others are written like: their scripts say nothing about which it is.

    ["de", "el"] -> ["de"]
    """
    return [code for code in codes if sum(LANGUAGES[code.lower()] == other for other in LANGUAGES.values()) > 1]
