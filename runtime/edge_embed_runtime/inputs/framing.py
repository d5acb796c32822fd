"""The rules that bring a picture of any size to the one size that a tower reads: resize, crop, pad.

Families differ by one pixel here: `int(224 * 640 / 427)` or rounded, `(335 - 224) // 2` or rounded to the even number.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edge_embed_runtime.inputs.fields import Fields

if TYPE_CHECKING:
    from PIL.Image import Image

# Pillow's numbers of its filters.
FILTERS = {"nearest": 0, "lanczos": 1, "bilinear": 2, "bicubic": 3, "box": 4}
ROUNDINGS = ("floor", "round")
MAX_SIDE = 8192
# A long thin picture whose shortest edge is brought to 224 gets very long: beyond this many pixels only the part that
# the crop keeps is resized, from the same pixels (the edges of that part are float32 in Pillow: up to 1 level off).
MAX_RESIZED = 8_000_000
# Likewise a square around it would be huge: beyond this many pixels it is resized first, and padded then.
MAX_PADDED = 40_000_000
Size = tuple[int, int]  # height, width
Fill = tuple[int, int, int]


@dataclass(frozen=True)
class Resize:
    """How a picture is resized.

    rule:  "squash" to exactly `to`; "shortest" or "longest" edge to `to`, the other in proportion; "pad" with `fill` to
           the proportions of `to`, then resize
    to:    height and width; the same number twice for an edge
    filter: Pillow's number of the filter
    round: how the other edge becomes a whole number: "floor" as torchvision and transformers, "round" as timm
    """

    rule: str
    to: Size
    filter: int
    round: str
    fill: Fill = (0, 0, 0)

    def size(self, height: int, width: int) -> Size:
        """480, 640 with the shortest edge to 224 -> 224, 298."""
        if self.rule in ("squash", "pad"):
            return self.to
        if self.round == "floor":
            edge = self.to[0]
            if (height < width) == (self.rule == "shortest"):  # the height is brought to the edge
                return edge, max(1, int(edge * width / height))
            return max(1, int(edge * height / width)), edge
        ratios = height / self.to[0], width / self.to[1]
        ratio = min(ratios) if self.rule == "shortest" else max(ratios)
        return max(1, round(height / ratio)), max(1, round(width / ratio))


@dataclass(frozen=True)
class Crop:
    """Which part of the middle is kept; what it lacks is filled.

    round: where an odd number of pixels is left over: "floor" as transformers, "round" (half to even) as torchvision
    """

    size: Size
    round: str
    fill: Fill = (0, 0, 0)

    def start(self, side: int, kept: int) -> int:
        """The first pixel that is kept, negative where the picture is too small: 335, 224 -> 55 or 56."""
        if side < kept:  # transformers puts the odd pixel before the picture, torchvision behind it
            return -((kept - side + 1) // 2 if self.round == "floor" else (kept - side) // 2)
        return (side - kept) // 2 if self.round == "floor" else round((side - kept) / 2)


@dataclass(frozen=True)
class Framing:
    """Resize, then crop."""

    resize: Resize
    crop: Crop | None

    def apply(self, picture: "Image") -> "Image":
        """A picture of any size in the tower's size; its mode (RGB or L) stays."""
        if self.resize.rule == "pad":
            picture = _pad(picture, self.resize)
        height, width = self.resize.size(picture.height, picture.width)
        if self.crop is not None and height * width > MAX_RESIZED:
            return _part(picture, (height, width), self.resize.filter, self.crop)
        if (width, height) != picture.size:
            picture = picture.resize((width, height), self.resize.filter)
        return picture if self.crop is None else _crop(picture, self.crop)


def read_framing(fields: Fields) -> tuple[Size, Framing]:
    """`size`, `resize` and `crop` of a front end. Raises BundleFormatError."""
    size = _size(fields, "size")
    resize = _resize(fields)
    crop = _read_crop(fields)
    reached = crop.size if crop else resize.to if resize.rule in ("squash", "pad") else None
    if reached != size:
        raise fields.wrong("size", list(size), "the size that resize and crop lead to")
    return size, Framing(resize, crop)


def _resize(fields: Fields) -> Resize:
    part = fields.part("resize")
    if part is None:
        raise fields.wrong("resize", None, "a rule")
    rule = part.choice("rule", ("squash", "shortest", "longest", "pad"))
    rounding = part.choice("round", ROUNDINGS)
    to = (part.whole("to", 1, MAX_SIDE),) * 2 if part.holds("to", int) else _size(part, "to")
    if rule in ("shortest", "longest") and rounding == "floor" and to[0] != to[1]:
        raise part.wrong("to", to, "one number for an edge")
    resize = Resize(rule, to, FILTERS[part.choice("filter", FILTERS)], rounding, _fill(part))
    part.done()
    return resize


def _read_crop(fields: Fields) -> Crop | None:
    part = fields.part("crop")
    if part is None:
        return None
    crop = Crop(_size(part, "size"), part.choice("round", ROUNDINGS), _fill(part))
    part.done()
    return crop


def _size(fields: Fields, name: str) -> Size:
    height, width = fields.wholes(name, 2, 1, MAX_SIDE)
    return height, width


def _fill(fields: Fields) -> Fill:
    if not fields.has("fill"):
        return (0, 0, 0)
    red, green, blue = fields.wholes("fill", 3, 0, 255)
    return red, green, blue


def _pad(picture: "Image", resize: Resize) -> "Image":
    """A picture in the middle of a larger one of the proportions of `resize.to`."""
    height, width = resize.to
    across, down = picture.width / width, picture.height / height
    whole = max(picture.width, round(width * down)), max(picture.height, round(height * across))
    if whole == picture.size:
        return picture
    if whole[0] * whole[1] > MAX_PADDED:
        whole, ratio = (width, height), max(across, down)
        size = max(1, round(picture.width / ratio)), max(1, round(picture.height / ratio))
        picture = picture.resize(size, resize.filter)
    left, top = (whole[0] - picture.width) // 2, (whole[1] - picture.height) // 2
    return _on_canvas(picture, whole, (left, top), resize.fill)


def _crop(picture: "Image", crop: Crop) -> "Image":
    height, width = crop.size
    top, left = crop.start(picture.height, height), crop.start(picture.width, width)
    if picture.height >= height and picture.width >= width:
        return picture.crop((left, top, left + width, top + height))
    box = (max(0, left), max(0, top), min(picture.width, left + width), min(picture.height, top + height))
    return _on_canvas(picture.crop(box), (width, height), (max(0, -left), max(0, -top)), crop.fill)


def _part(picture: "Image", size: Size, filter_: int, crop: Crop) -> "Image":
    """What `_crop` keeps of the picture resized to `size`, without making the rest of it."""
    (height, width), (kept_height, kept_width) = size, crop.size
    top, left = max(0, crop.start(height, kept_height)), max(0, crop.start(width, kept_width))
    bottom, right = min(height, top + kept_height), min(width, left + kept_width)
    across, down = picture.width / width, picture.height / height
    box = (left * across, top * down, min(picture.width, right * across), min(picture.height, bottom * down))
    part = picture.resize((right - left, bottom - top), filter_, box=box)
    return part if part.size == (kept_width, kept_height) else _crop(part, crop)


def _on_canvas(picture: "Image", size: tuple[int, int], at: tuple[int, int], fill: Fill) -> "Image":
    """A picture on a plain one; size, at: width or left first, as Pillow has them."""
    from PIL import Image

    canvas = Image.new(picture.mode, size, fill if picture.mode == "RGB" else fill[0])
    canvas.paste(picture, at)
    return canvas
