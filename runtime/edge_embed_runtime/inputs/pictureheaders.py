"""What the first bytes of a file say: which kind of picture it is, and how large a WebP is."""

# Kinds that are known, and not read: each with what a message calls it.
NAMES = {
    "SVG": "an SVG drawing, which has no pixels: save it as PNG",
    "PDF": "a PDF file",
    "PSD": "a Photoshop file: save it as PNG or JPEG",
    "JPEG2000": "a JPEG 2000 picture: save it as JPEG or PNG",
    "JPEGXL": "a JPEG XL picture: save it as JPEG or PNG",
    "ICO": "an icon file: save it as PNG",
    "EPS": "a PostScript file: save it as PNG",
    "TIFF": "a TIFF picture, or a camera's raw file: save it as PNG or JPEG",
    "VIDEO": "a video",
}
STARTS = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"BM", "BMP"),
    (b"%PDF", "PDF"),
    (b"%!PS", "EPS"),
    (b"8BPS", "PSD"),
    (b"\x00\x00\x01\x00", "ICO"),
    (b"\x00\x00\x00\x0cjP  \r\n\x87\n", "JPEG2000"),
    (b"\xff\x0a", "JPEGXL"),
    (b"\x00\x00\x00\x0cJXL \r\n\x87\n", "JPEGXL"),
    (b"II*\x00", "TIFF"),
    (b"MM\x00*", "TIFF"),
    (b"\x1aE\xdf\xa3", "VIDEO"),
)
HEIF_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})
AVIF_BRANDS = frozenset({b"avif", b"avis"})


def format_of(content: bytes) -> str:
    """The kind of picture, as "JPEG", or another known kind, as "PDF"; "" for everything else."""
    for start, name in STARTS:
        if content.startswith(start):
            return name
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "WEBP"
    if content[4:8] == b"ftyp":
        brands = {content[at : at + 4] for at in (8, *range(16, min(64, int.from_bytes(content[:4])), 4))}
        if brands & AVIF_BRANDS:
            return "AVIF"
        return "HEIF" if brands & HEIF_BRANDS else "VIDEO"
    head = content[:2000].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    return "SVG" if head.startswith(b"<svg") or (head[:1] == b"<" and b"<svg" in head) else ""


def webp_size(content: bytes) -> tuple[int, int]:
    """Width and height of a WebP, from the header of its first chunk; (0, 0) where it has none."""
    kind, body = content[12:16], content[20:30]
    if len(body) < 10:
        return 0, 0
    if kind == b"VP8X":
        return 1 + int.from_bytes(body[4:7], "little"), 1 + int.from_bytes(body[7:10], "little")
    if kind == b"VP8L":
        bits = int.from_bytes(body[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 ":
        return int.from_bytes(body[6:8], "little") & 0x3FFF, int.from_bytes(body[8:10], "little") & 0x3FFF
    return 0, 0
