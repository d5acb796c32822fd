"""What a picture's file says about it."""

import numpy as np
import pytest
from builders.pictures import chunk, exif, exif_parts, image, listed, photo, png, saved, with_iptc, xmp
from PIL.PngImagePlugin import PngInfo

from edge_embed.errors import MediaError
from edge_embed_runtime.inputs.imagefacts import describe_image

RICH = exif_parts(
    {
        0x010E: "A d@g runs",
        0x010F: "Canon",
        0x0110: "Canon EOS 5D",
        0x0112: 6,
        0x9C9B: "Titel ☃".encode("utf-16-le"),
        0x9C9E: "dog; Beach".encode("utf-16-le"),
    },
    {0x9003: "2024:05:31 12:30:00", 0x9011: "+02:00", 0x9286: b"UNICODE\0" + "Comment é".encode("utf-16")},
).replace(b"A d@g runs", "A dög run".encode())


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "AVIF"])
def test_exif(form: str) -> None:
    """UTF-8 in a field that is Latin-1 by the rules, Windows' fields in UTF-16, a comment that names its charset."""
    facts = describe_image(saved(image(), form, exif=RICH))
    run = "A dög run" if form != "AVIF" else "A d??g run"  # Pillow writes EXIF again when it saves one
    assert facts.text.split("\n") == ["Titel ☃", run, "Comment é", "dog, Beach"]
    assert facts.time == "2024-05-31T12:30:00+02:00"
    assert facts.metadata == {
        "width": 96,  # as it is seen, upright
        "height": 128,
        "format": form,
        "camera": "Canon EOS 5D",
        "title": "Titel ☃",
        "keywords": "dog, Beach",
    }


def test_xmp_and_iptc() -> None:
    """The best first, none twice, whatever its case; keywords on one line."""
    packet = xmp(
        listed("dc:title", "A dog", "Ein Hund")
        + listed("dc:subject", "dog", "sea")
        + "<xmp:CreateDate>2023-02-01T10:00:00Z"
        "</xmp:CreateDate>" + listed("dc:description", "It &amp; the sea")
    )
    records = (2, 5, b"a DOG"), (2, 120, "Légende".encode()), (2, 25, b"plage"), (2, 55, b"20200101")
    facts = describe_image(with_iptc(saved(image(), xmp=packet), *records))
    assert facts.text.split("\n") == ["A dog", "Ein Hund", "It & the sea", "Légende", "dog, sea, plage"]
    assert facts.time == "2023-02-01T10:00:00+00:00"


def test_iptc_alone() -> None:
    """Latin-1 where it is no UTF-8; date and time together."""
    content = with_iptc(
        saved(image()), (2, 120, "Légende".encode("latin-1")), (2, 55, b"20230401"), (2, 60, b"101500+0100")
    )
    facts = describe_image(content)
    assert (facts.text, facts.time) == ("Légende", "2023-04-01T10:15:00+01:00")


def test_short_form_of_xmp() -> None:
    """Properties as attributes."""
    packet = xmp("").replace(
        b'rdf:about=""',
        b'rdf:about="" photoshop:Headline="A dog" xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/"',
        1,
    )
    packet = packet.replace(b' xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/" xmlns:xmp', b" xmlns:xmp")
    assert describe_image(saved(image(), xmp=packet)).text == "A dog"


def test_texts_of_a_png() -> None:
    texts = PngInfo()
    texts.add_text("Title", "A title")
    texts.add_itxt("Description", "Été")
    texts.add_text("Software", "Paint")
    texts.add_itxt("XML:com.adobe.xmp", xmp(listed("dc:subject", "dog")).decode())
    assert describe_image(saved(image(), "PNG", pnginfo=texts)).text == "A title\nÉté\ndog"


@pytest.mark.parametrize("text", ["OLYMPUS DIGITAL CAMERA", "SONY DSC", "Created with GIMP", "untitled", "***", " \t "])
def test_what_says_nothing(text: str) -> None:
    """Descriptions that cameras and programs write themselves."""
    assert describe_image(saved(image(), exif=exif(x010e=text))).text == ""


def test_nothing_said() -> None:
    facts = describe_image(saved(image()))
    assert (facts.text, facts.time, facts.metadata) == ("", None, {"width": 128, "height": 96, "format": "JPEG"})


@pytest.mark.parametrize(
    "time", ["0000:00:00 00:00:00", "2024:13:01 00:00:00", "yesterday", "2024:05:31", "    :  :     :  :  "]
)
def test_times_that_are_none(time: str) -> None:
    assert describe_image(saved(image(), exif=exif(x0132=time))).time is None


def test_a_place_is_left_out() -> None:
    """Where a picture was taken is nobody's business."""
    content = saved(image(), exif=exif_parts({0x8825: {1: "N", 2: (52.0, 31.0, 12.0)}}, {}))
    assert "52" not in str(describe_image(content))


def test_hostile_texts() -> None:
    """Entities that expand, endless texts, control characters, depth: bounded, and the rest is read."""
    entity = '<!DOCTYPE a [<!ENTITY a "' + "x" * 1000 + '"><!ENTITY b "' + "&a;" * 1000 + '">]>'
    assert describe_image(saved(image(), xmp=xmp(listed("dc:title", "&b;"), entity))).text == ""
    deep = xmp("<dc:title>" + "<a>" * 10_000)
    assert describe_image(saved(image(), xmp=deep)).text == ""
    cut = xmp(listed("dc:title", "A dog"))[:-60]
    assert describe_image(saved(image(), xmp=cut)).text == "A dog"
    long = describe_image(saved(image(), exif=exif(x010e="word " * 5000)))
    assert len(long.text) <= 4000
    assert describe_image(saved(image(), exif=exif(x010e="a\x07\x1b[31mb"))).text == "a [31mb"
    many = describe_image(with_iptc(saved(image()), *((2, 25, f"word{i}".encode()) for i in range(3000))))
    assert len(many.text.split(", ")) == 100


def test_refused() -> None:
    for content in (b"", b"no picture", png(photo(8, 8), chunk(b"IHDR", b"")), saved(image())[:3]):
        with pytest.raises(MediaError):
            describe_image(content)


def test_no_pixel_is_decoded() -> None:
    """Facts of a picture whose pixels are broken."""
    content = saved(image(), exif=RICH)[:-1500]
    assert describe_image(content).metadata["camera"] == "Canon EOS 5D"
    assert np.array_equal([describe_image(png(photo(8, 8), size=(90, 80))).metadata["width"]], [90])
