"""Pictures for tests, ordinary and odd, all made here: files as bytes, and Pillow images."""

import struct
import zlib
from collections.abc import Callable, Iterator
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

PNG = b"\x89PNG\r\n\x1a\n"
Mean = tuple[float, float, float]
CLIP_MEAN: Mean = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD: Mean = (0.26862954, 0.26130258, 0.27577711)


def photo(height: int = 96, width: int = 128, seed: int = 0) -> NDArray[np.uint8]:
    """Something like a photo: colours that change slowly, edges, and a little noise; uint8 [height, width, 3]."""
    random = np.random.default_rng(seed)
    pixels = np.zeros((height, width, 3), np.float32)
    for cell, share in ((64, 1.0), (16, 0.7), (4, 0.3), (1, 0.1)):
        small = random.integers(0, 256, (height // cell + 2, width // cell + 2, 3), dtype=np.uint8)
        big = Image.fromarray(small).resize((width, height), Image.Resampling.BILINEAR)
        pixels += share * (np.asarray(big, np.float32) - 128)
    pixels[height // 3 : height // 2, width // 4 : width // 2] += 60
    made: NDArray[np.uint8] = np.clip(128 + pixels * 0.7, 0, 255).astype(np.uint8)
    return made


def image(height: int = 96, width: int = 128, seed: int = 0, mode: str = "RGB") -> Image.Image:
    """`photo` as a Pillow image in a mode; where it has alpha, a disc is seen and the rest is clear."""
    made = Image.fromarray(photo(height, width, seed))
    if mode in ("RGBA", "LA"):
        y, x = np.ogrid[:height, :width]
        distance = np.hypot((y - height / 2) / height, (x - width / 2) / width)
        made.putalpha(Image.fromarray(np.clip((0.45 - distance) * 1500, 0, 255).astype(np.uint8)))
    return made.convert(mode)


def saved(picture: Image.Image, form: str = "JPEG", **options: Any) -> bytes:
    """A Pillow image as the bytes of a file."""
    file = BytesIO()
    picture.save(file, form, **options)
    return file.getvalue()


def exif(orientation: int | None = None, **tags: object) -> bytes:
    """EXIF with an orientation and other tags of the first part: exif(6, x010e="A dog")."""
    made = Image.Exif()
    if orientation is not None:
        made[0x0112] = orientation
    for name, value in tags.items():
        made[int(name[1:], 16)] = value
    return made.tobytes()


def chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(pixels: NDArray[Any], *before: bytes, size: tuple[int, int] | None = None) -> bytes:
    """A PNG of uint8 or uint16 [height, width, 1, 2, 3 or 4 channels], with chunks before its pixels.

    size: width and height that its header claims, where that is a lie
    """
    height, width, channels = pixels.shape
    depth = 8 * pixels.dtype.itemsize
    rows = b"".join(b"\0" + row.astype(pixels.dtype.newbyteorder(">")).tobytes() for row in pixels)
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    head = struct.pack(">IIBBBBB", *(size or (width, height)), depth, colour, 0, 0, 0)
    return PNG + chunk(b"IHDR", head) + b"".join(before) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def text_bomb() -> bytes:
    """A PNG whose comment is 20 MB when unpacked."""
    return png(photo(8, 8), chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"a" * 20_000_000, 1)))


def profile_bomb() -> bytes:
    """A PNG whose colour profile is 20 MB when unpacked."""
    return png(photo(8, 8), chunk(b"iCCP", b"p\0\0" + zlib.compress(b"a" * 20_000_000, 1)))


def pixel_bomb(side: int = 50_000) -> bytes:
    """A PNG of side x side white pixels of 1 bit, which packs to a few hundred KB."""
    row = b"\0" + b"\xff" * ((side + 7) // 8)
    packer = zlib.compressobj(1)
    body = b"".join(packer.compress(row * 100) for _ in range(side // 100)) + packer.flush()
    head = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return PNG + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def jpeg_of_size(width: int, height: int) -> bytes:
    """A JPEG whose header claims a size, and whose pixels are those of another one."""
    content = bytearray(saved(image(16, 16)))
    at = content.index(b"\xff\xc0")
    content[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(content)


def gif(frames: int = 3, **options: Any) -> bytes:
    """An animated GIF; the first frame is `image(seed=0)` with 256 colours."""
    first, *rest = (image(seed=seed).quantize(256) for seed in range(frames))
    return saved(first, "GIF", save_all=True, append_images=rest, duration=50, **options)


def clear_palette(form: str = "PNG") -> bytes:
    """A picture with a palette whose colour 0, which is pure red, is transparent, in the left half."""
    picture = image().quantize(255)
    colours = [255, 0, 0, *(picture.getpalette() or [])[: 3 * 255]]
    pixels = np.asarray(picture) + 1
    pixels[:, : pixels.shape[1] // 2] = 0
    made = Image.fromarray(pixels.astype(np.uint8), "P")
    made.putpalette(colours)
    return saved(made, form, transparency=0)


def cmyk(profile: bool = False) -> bytes:
    """A JPEG for print, as Adobe writes it (inverted), with a colour profile or without."""
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes() if profile else None
    return saved(image(mode="CMYK"), quality=95, icc_profile=icc)


def heic() -> bytes:
    """The first bytes of a HEIC file."""
    return struct.pack(">I4s4sI4s4s", 24, b"ftyp", b"heic", 0, b"mif1", b"heic") + bytes(100)


SVG = b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"><rect width="9" height="9"/></svg>'

# Odd files that can be read, by name.
READABLE: dict[str, Callable[[], bytes]] = {
    "grey.jpg": lambda: saved(image(mode="L")),
    "progressive.jpg": lambda: saved(image(), progressive=True),
    "cmyk.jpg": cmyk,
    "cmyk_profile.jpg": lambda: cmyk(profile=True),
    "mpo.jpg": lambda: saved(image(), "MPO", save_all=True, append_images=[image(seed=1)]),
    "bits1.png": lambda: saved(image(mode="1"), "PNG"),
    "grey16.png": lambda: png(photo(40, 30)[..., :1].astype(np.uint16) * 257),
    "colour16.png": lambda: png(photo(40, 30).astype(np.uint16) * 257),
    "palette.png": lambda: saved(image().quantize(16), "PNG"),
    "clear_palette.png": clear_palette,
    "clear_grey.png": lambda: saved(image(mode="L"), "PNG", transparency=128),
    "clear_colour.png": lambda: saved(image(), "PNG", transparency=(10, 20, 30)),
    "alpha.png": lambda: saved(image(mode="RGBA"), "PNG"),
    "grey_alpha.png": lambda: saved(image(mode="LA"), "PNG"),
    "animated.gif": gif,
    "clear.gif": lambda: clear_palette("GIF"),
    "lossy.webp": lambda: saved(image(), "WEBP"),
    "lossless.webp": lambda: saved(image(mode="RGBA"), "WEBP", lossless=True),
    "alpha.avif": lambda: saved(image(mode="RGBA"), "AVIF"),
    "animated.webp": lambda: saved(image(), "WEBP", save_all=True, append_images=[image(seed=1)]),
    "plain.bmp": lambda: saved(image(), "BMP"),
    "row.png": lambda: saved(image(1, 3000), "PNG"),
    "column.png": lambda: saved(image(3000, 1), "PNG"),
    "pixel.png": lambda: saved(image(1, 1), "PNG"),
    "wrong_turn.jpg": lambda: saved(image(), exif=exif(9)),
    "odd_turn.jpg": lambda: saved(
        image(), exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01" + struct.pack(">HHI4sI", 0x0112, 2, 3, b"up\0\0", 0)
    ),
    "broken_exif.jpg": lambda: saved(image(), exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\x01\x0e" * 40),
    "wrong_suffix.png": lambda: saved(image()),
}
# Files that cannot be read: what the error says.
REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty.jpg": (lambda: b"", "an empty file"),
    "text.jpg": (lambda: b"no picture at all", "not a picture; what is read: JPEG, PNG"),
    "drawing.svg": (lambda: SVG, "an SVG drawing"),
    "paper.pdf": (lambda: b"%PDF-1.7\n", "a PDF file"),
    "phone.heic": (heic, "pip install pillow-heif"),
    "layers.psd": (lambda: b"8BPS\0\1" + bytes(40), "a Photoshop file"),
    "scan.tif": (lambda: saved(image(), "TIFF"), "a TIFF picture"),
    "short.jpg": (lambda: saved(image())[:900], "a broken picture"),
    "short.png": (lambda: saved(image(), "PNG")[:900], "a broken picture"),
    "short.webp": (lambda: saved(image(), "WEBP")[:700], "a broken picture"),
    "short.gif": (lambda: gif(1)[:900], "a broken picture"),
    "head.jpg": (lambda: b"\xff\xd8\xff", "a broken picture"),
    "head.bmp": (lambda: b"BMxx", "a broken picture"),
    "lies.png": (lambda: png(photo(8, 8), size=(80, 80)), "a broken picture"),
    "lies.jpg": (lambda: jpeg_of_size(4000, 3000), "its header claims 4,000 x 3,000 pixels"),
    "huge.png": (lambda: png(photo(8, 8), size=(50_000, 50_000)), "50,000 x 50,000 pixels are 2,500 million"),
    "huge.jpg": (lambda: jpeg_of_size(50_000, 50_000), "50,000 x 50,000 pixels"),
    "nothing.png": (lambda: png(photo(8, 8), size=(0, 8)), "picture|nothing to see"),
    "text_bomb.png": (text_bomb, "a broken picture"),
}


def mutated(content: bytes, seed: int) -> bytes:
    """A file with a few bytes changed, a part cut out, doubled or overwritten; the same for the same seed."""
    random = np.random.default_rng(seed)
    damaged = bytearray(content)
    for _ in range(int(random.integers(1, 6))):
        at, kind = int(random.integers(0, max(1, len(damaged)))), int(random.integers(0, 6))
        span = int(random.integers(1, 40))
        if kind <= 2:
            damaged[at : at + 1] = random.bytes(1)
        elif kind == 3:
            damaged[at : at + span] = random.bytes(span)
        elif kind == 4:
            del damaged[at : at + span]
        else:
            damaged[at:at] = damaged[at : at + span] * int(random.integers(1, 5))
    return bytes(damaged)


def corpus() -> Iterator[tuple[str, bytes]]:
    """Every file of READABLE, and an ordinary JPEG with EXIF."""
    yield "photo.jpg", saved(image(), exif=exif(6, x010e="A dog", x010f="Maker"))
    for name, make in READABLE.items():
        yield name, make()


def front(side: int = 224, rule: str = "shortest", method: str = "bicubic", **changes: Any) -> dict[str, Any]:
    """The front end of CLIP (transformers), or with changes."""
    squash = rule in ("squash", "pad")
    made: dict[str, Any] = {
        "size": [side, side],
        "resize": {"rule": rule, "to": [side, side] if squash else side, "filter": method, "round": "floor"},
        "crop": None if squash else {"size": [side, side], "round": "floor"},
        "alpha": "white",
        "color": "RGB",
        "scale": 1 / 255,
        "mean": list(CLIP_MEAN),
        "std": list(CLIP_STD),
        "decode": "full",
    }
    return {**made, **changes}


def xmp(body: str, before: str = "") -> bytes:
    """A packet of XMP with these properties."""
    spaces = {
        "dc": "http://purl.org/dc/elements/1.1/",
        "photoshop": "http://ns.adobe.com/photoshop/1.0/",
        "xmp": "http://ns.adobe.com/xap/1.0/",
    }
    names = " ".join(f'xmlns:{name}="{url}"' for name, url in spaces.items())
    rdf = 'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"'
    inner = f'<rdf:RDF {rdf}><rdf:Description rdf:about="" {names}>{body}</rdf:Description></rdf:RDF>'
    return f'{before}<x:xmpmeta xmlns:x="adobe:ns:meta/">{inner}</x:xmpmeta>'.encode()


def listed(name: str, *texts: str) -> str:
    """A property of XMP with several texts."""
    items = "".join(f"<rdf:li>{text}</rdf:li>" for text in texts)
    return f"<{name}><rdf:Bag>{items}</rdf:Bag></{name}>"


def with_iptc(content: bytes, *records: tuple[int, int, bytes]) -> bytes:
    """A JPEG with records of IPTC: record, number, text."""
    entries = b"".join(struct.pack(">BBBH", 0x1C, part, number, len(text)) + text for part, number, text in records)
    block = (
        b"Photoshop 3.0\0"
        + b"8BIM\x04\x04\0\0"
        + struct.pack(">I", len(entries))
        + entries
        + b"\0" * (len(entries) % 2)
    )
    return content[:2] + b"\xff\xed" + struct.pack(">H", len(block) + 2) + block + content[2:]


def exif_parts(first: dict[int, Any], second: dict[int, Any]) -> bytes:
    """EXIF with tags of its first part, and of the one with times and comments."""
    made = Image.Exif()
    made.update(first)
    made.get_ifd(0x8769).update(second)
    return made.tobytes()
