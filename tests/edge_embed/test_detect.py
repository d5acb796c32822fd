"""Encodings that are found out, and those that are not clear."""

# ruff: noqa: E501 - sentences
import sys

import pytest

from edge_embed.files.formats.detect import Unclear, detect

TEXTS = {
    "de": "Die Fähre wurde 1908 gebaut und fuhr lange über die Bucht. Heute liegt sie im Hafen, größer als die Häuser.",
    "fr": "Le bac a été construit en 1908 et il a longtemps traversé la baie. L'été, des élèves y viennent à la fête.",
    "es": "El transbordador se construyó en 1908 y cruzó la bahía durante años. Mañana los niños irán también allí.",
    "pl": "Prom został zbudowany w 1908 roku i długo pływał przez zatokę. Żeglarze opowiadają o burzach, śpią źle i są głośni.",
    "cs": "Přívoz byl postaven v roce 1908 a dlouho plul přes záliv. Námořníci vyprávějí o bouřích, kůň běžel ťapavě.",
    "hu": "A kompot 1908-ban építették, és sokáig járt az öblön át. Hűvös őszi szél fúj a hegyről a kikötő fölött.",
    "tr": "Feribot 1908 yılında yapıldı ve uzun süre körfezde çalıştı. Denizciler fırtınaları anlatıyor, güneş doğdu.",
    "ru": "Паром был построен в 1908 году и долго ходил через залив. Сегодня он стоит в гавани, и люди приходят к нему.",
    "el": "Το πλοίο χτίστηκε το 1908 και ταξίδευε για πολλά χρόνια. Σήμερα βρίσκεται στο λιμάνι και έρχονται να το δουν.",
    "he": "המעבורת נבנתה בשנת 1908 והפליגה זמן רב במפרץ. היום היא עומדת בנמל ואנשים באים לראות אותה ולשמוע על הים.",
    "ar": "بنيت العبارة في عام 1908 وكانت تعبر الخليج لفترة طويلة. اليوم تقف في الميناء ويأتي الناس لرؤيتها كل يوم.",
    "th": "เรือข้ามฟากถูกสร้างขึ้นในปี 1908 และแล่นข้ามอ่าวมาเป็นเวลานาน วันนี้จอดอยู่ที่ท่าเรือและผู้คนมาดู",
    "zh": "渡轮建于1908年，长期来往于海湾两岸。今天它停在港口，人们来看它，说起这个城市和海的故事，一年又一年。",
    "ja": "フェリーは1908年に建造され、長い間湾を渡っていました。今日は港にあり、人々が見に来ます。夏には多くの人が来る。",
    "ko": "페리는 1908년에 건조되어 오랫동안 만을 건넜습니다. 오늘은 항구에 있으며 사람들이 보러 옵니다.",
}
CLEAR = [
    *(("de", name) for name in ("cp1252", "cp850", "mac_roman", "cp437")),
    ("fr", "cp1252"), ("es", "cp1252"), ("pl", "cp1250"), ("pl", "iso8859_2"), ("cs", "cp1250"), ("cs", "cp852"),
    ("hu", "cp1250"), ("tr", "cp1254"), ("el", "cp1253"), ("he", "cp1255"), ("ar", "cp1256"), ("th", "cp874"),
    *(("ru", name) for name in ("cp1251", "koi8_r", "cp866", "iso8859_5", "mac_cyrillic")),
    ("zh", "gb18030"), ("ja", "cp932"), ("ja", "euc_jp"), ("ko", "cp949"),
]  # fmt: skip


@pytest.mark.parametrize(("language", "encoding"), CLEAR)
def test_a_clear_encoding_is_found(language: str, encoding: str) -> None:
    """What is found decodes to the text as it was written, whatever it is called."""
    raw = TEXTS[language].encode(encoding)
    found = detect(raw)
    assert isinstance(found, str)
    assert raw.decode(found) == TEXTS[language]


@pytest.mark.parametrize(
    "raw",
    [
        "naïve".encode() + b" caf\xe9",  # UTF-8 with a fault
        b"the \xf4\x90\x80\x80 cat",  # the form of UTF-8, beyond Unicode
        b"the \xed\xa0\x80 cat",  # a surrogate in the form of UTF-8
        b"\xe8",  # a letter of many alphabets
        "Schiff № 5 – 20°".encode("cp1251"),  # signs alone
        bytes(range(1, 256)),
        b"caf\xe9\x01\x02",  # no text
        b"\x89PNG\r\n\x1a\n" + bytes([200, 201, 0, 7]) * 50,
    ],
)
def test_what_is_not_clear_is_not_guessed(raw: bytes) -> None:
    """The user is asked."""
    found = detect(raw)
    assert isinstance(found, Unclear)
    assert "--encoding" in found.hint


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hint names both ways out."""
    monkeypatch.setitem(sys.modules, "charset_normalizer", None)
    found = detect(TEXTS["de"].encode("cp1252"))
    assert isinstance(found, Unclear)
    assert "--encoding" in found.hint
    assert "pip install 'edge-embed[files]'" in found.hint


@pytest.mark.parametrize("language", TEXTS)
def test_a_part_of_a_text_is_never_taken_for_another(language: str) -> None:
    """Parts of every length are read as they were written, or not at all."""
    text = TEXTS[language]
    for _, encoding in ((lang, name) for lang, name in CLEAR if lang == language):
        for length in (25, 50, 80):
            for start in range(0, len(text) - length, 9):
                raw = text[start : start + length].encode(encoding)
                found = None if raw.isascii() else detect(raw)
                assert not isinstance(found, str) or raw.decode(found) == raw.decode(encoding), (raw, found)
