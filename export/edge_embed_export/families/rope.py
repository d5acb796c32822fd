"""Rotary positions as config.json asks for them, in the words of transformers 4 (`rope_theta`, `rope_scaling`) and of
transformers 5 (`rope_parameters`, one for all layers, or one for each kind of layer).

Both give one `Rope`. What the library would not understand, or its two versions would read in two ways, is refused by
its key. The formulas are those of transformers' modeling_rope_utils.py, which names their papers.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from edge_embed_export.families.reader import Reader
from edge_embed_export.files.accounting import Accounted
from edge_embed_export.transformer.positions import frequencies, rotary
from edge_embed_runtime.errors import ExportError

Angles = NDArray[np.float64]
# Kinds of layers, as `layer_types` and the keys of a nested `rope_parameters` name them.
FULL, SLIDING = "full_attention", "sliding_attention"
# No number of a config is larger: an int of JSON may be larger than any float.
LARGEST = 1e30
# Where transformers 4 has a scaling.
OLD = "rope_scaling."


@dataclass(frozen=True)
class Stretch:
    """How the tokens of a long text turn, where that depends on its length.

    tokens: a text of so many tokens, or fewer, turns by `Rope.angles`
    angles: of longer texts, times (growth * length / tokens - growth + 1) ** -powers
    """

    tokens: int
    angles: Angles
    growth: float
    powers: Angles


@dataclass(frozen=True)
class Rope:
    """Angles per token, one for each pair of a head's numbers; factor: what cosines and sines are multiplied by."""

    angles: Angles
    factor: float = 1.0
    stretch: Stretch | None = None


class Asked:
    """What one dict of the config says, under its path in the file ("" or "rope_scaling."); base: see `read_rope`."""

    base: float

    def __init__(self, read: Reader, where: str, held: Mapping[str, Any]) -> None:
        self.read, self.where = read, where
        self.held: Accounted[Any] = Accounted({key: value for key, value in held.items() if value is not None})

    def number(self, name: str, default: float | None = None) -> float:
        """A number above 0."""
        value = self.held.get(name, default)
        if not _above_0(value):
            raise self.error(name, value, "expected a positive number")
        return float(value)

    def numbers(self, name: str, count: int) -> Angles:
        """A list of numbers above 0."""
        value = self.held.get(name)
        if not isinstance(value, list) or len(value) != count or not all(_above_0(each) for each in value):
            raise self.error(name, value, f"expected a list of {count} positive numbers")
        return np.array(value, np.float64)

    def error(self, name: str, value: object, why: str) -> ExportError:
        path = self.read.checkpoint.folder / "config.json"
        return ExportError(f"{path}: {self.where}{name} is {value!r:.60}, {why}")

    def refuse_unread(self, kind: str) -> None:
        for name in self.held.unread():
            raise self.error(name, self.held[name], f"which is not known for a rotary embedding of type {kind!r}")


def _above_0(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < LARGEST


def read_rope(
    read: Reader,
    size: int,
    *,
    theta: float = 10000.0,
    key: str = "rope_theta",
    kind: str | None = None,
    scaled: bool = True,
) -> Rope:
    """The rotary embedding of a model, or of its layers of one kind.

    size:   numbers of a head
    theta:  the base where the config names none
    key:    where transformers 4 has the base
    kind:   FULL or SLIDING, of models whose `rope_parameters` has one entry for each kind
    scaled: whether `rope_scaling` of transformers 4 is meant for these layers
    """
    asked = _said(read, kind, scaled)
    asked.base = _base(read, asked, key, theta)
    name = asked.held.get("rope_type", asked.held.get("type", "default"))
    if asked.held.get("type", name) != name:
        raise asked.error("type", asked.held["type"], f"and rope_type {name!r:.40}: expected one of both")
    if not isinstance(name, str) or name not in SCALINGS:
        raise asked.error("rope_type", name, f"which is not supported ({', '.join(SCALINGS)} are)")
    for where, value in (
        (asked, asked.held.get("partial_rotary_factor")),
        (Asked(read, "", {}), read.config.get("partial_rotary_factor")),
    ):
        if value not in (None, 1):
            raise where.error("partial_rotary_factor", value, "which is not supported (1.0 is)")
    rope = SCALINGS[name](asked, frequencies(size, asked.base))
    asked.refuse_unread(name)
    return rope


def _said(read: Reader, kind: str | None, scaled: bool) -> Asked:
    """The dict that is meant."""
    new, old = (Asked(read, "", {name: read.config.get(name)}) for name in ("rope_parameters", "rope_scaling"))
    for spelled, name in ((new, "rope_parameters"), (old, "rope_scaling")):
        value = spelled.held.get(name)
        if value is not None and not isinstance(value, Mapping):
            raise spelled.error(name, value, "expected an object")
    parameters, scaling = new.held.get("rope_parameters") or {}, old.held.get("rope_scaling") or {}
    if not parameters:
        return Asked(read, OLD, scaling if scaled else {})
    if scaling and {**parameters, **scaling} != parameters:
        raise old.error("rope_scaling", scaling, "and rope_parameters says otherwise: remove one of them")
    if kind is None:
        nested = next((name for name, value in parameters.items() if isinstance(value, Mapping)), None)
        if nested is not None:
            raise new.error("rope_parameters", parameters, "expected one entry for all layers of this model")
        return Asked(read, "rope_parameters.", parameters)
    for name, value in parameters.items():
        if name not in (FULL, SLIDING) or not isinstance(value, Mapping | None):
            raise new.error(f"rope_parameters.{name}", value, f"expected objects named {FULL} and {SLIDING}")
    return Asked(read, f"rope_parameters.{kind}.", parameters.get(kind) or {})


def _base(read: Reader, asked: Asked, key: str, default: float) -> float:
    """The base, which both spellings may name; transformers 4 and 5 would take one each."""
    own, old = asked.held.get("rope_theta"), read.config.get(key)
    if own is not None and old is not None and own != old:
        raise Asked(read, "", {}).error(key, old, f"and {asked.where}rope_theta {own!r:.40}: remove one of them")
    where = asked if own is not None else Asked(read, "", {key: old})
    return where.number("rope_theta" if own is not None else key, default)


def _context(asked: Asked) -> float:
    return float(asked.read.count("max_position_embeddings"))


def _trained(asked: Asked, *, also_in_4: bool) -> float:
    """Tokens of the texts that the model was trained with before its context was made longer.

    also_in_4: whether transformers 4 reads the number inside the dict (else the one next to it)
    """
    name = "original_max_position_embeddings"
    inside, outside = asked.held.get(name), asked.read.config.get(name)
    if inside is not None and outside is not None and inside != outside:
        raise asked.error(name, inside, f"and {name} next to it {outside!r:.40}: remove one of them")
    given = asked.number(name) if inside is not None else outside
    context = _context(asked)
    value = context if given is None else Asked(asked.read, "", {name: given}).number(name)
    read_by_4 = inside if also_in_4 else outside
    if asked.where == OLD and (context if read_by_4 is None else read_by_4) != value:
        raise asked.error(
            name,
            value,
            "which transformers 4 and transformers 5 read in different ways: write the scaling as rope_parameters, "
            "which only transformers 5 reads",
        )
    return value


def _default(_: Asked, angles: Angles) -> Rope:
    return Rope(angles)


def _linear(asked: Asked, angles: Angles) -> Rope:
    return Rope(angles / asked.number("factor"))


def _dynamic(asked: Asked, angles: Angles) -> Rope:
    """Dynamic NTK: the base of a text that is longer than the context grows with its length.

    The library takes the longest text of the batch, and remembers it; here each text is as if it were alone.
    """
    asked.held.get("original_max_position_embeddings")  # neither version reads it for this type
    return Rope(angles, stretch=growing(angles, int(_context(asked)), asked.number("factor")))


def growing(angles: Angles, tokens: int, factor: float) -> Stretch:
    """Dynamic NTK: base * (factor * length / tokens - factor + 1) ** (size / (size - 2))."""
    pairs = len(angles)
    return Stretch(tokens, angles, factor, np.arange(pairs) / max(pairs - 1, 1))


def _yarn(asked: Asked, angles: Angles) -> Rope:
    """YaRN (arXiv:2309.00071): long waves are divided by the factor, short ones kept, those between mixed."""
    size, trained = 2 * len(angles), _trained(asked, also_in_4=True)
    factor = asked.number("factor", _context(asked) / trained)
    whole, every = (asked.held.get(name) for name in ("mscale", "mscale_all_dim"))
    if whole and every:
        attention = _grown(factor, asked.number("mscale")) / _grown(factor, asked.number("mscale_all_dim"))
    else:
        attention = _grown(factor, 1.0)
    attention = asked.number("attention_factor", attention)
    truncate = asked.held.get("truncate", True)
    if truncate is not True and (truncate is not False or asked.where.count(".") > 1):
        raise asked.error("truncate", truncate, "which the library does not read there (true is what it takes)")

    if asked.base <= 1:
        raise asked.error("rope_theta", asked.base, "expected more than 1")

    def dimension(turns: float) -> float:
        return size * math.log(trained / (turns * 2 * math.pi)) / (2 * math.log(asked.base))

    low, high = dimension(asked.number("beta_fast", 32.0)), dimension(asked.number("beta_slow", 1.0))
    if truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, size - 1)
    ramp = np.clip((np.arange(len(angles)) - low) / ((high - low) or 0.001), 0, 1)
    return Rope(angles / factor * ramp + angles * (1 - ramp), attention)


def _grown(factor: float, scale: float) -> float:
    return 1.0 if factor <= 1 else 0.1 * scale * math.log(factor) + 1.0


def _longrope(asked: Asked, angles: Angles) -> Rope:
    """LongRoPE (arXiv:2402.13753): a divisor for each pair, others for texts longer than the model was trained with."""
    trained, ratio = _trained(asked, also_in_4=False), _context(asked)
    ratio = ratio / trained
    factor = asked.number("factor", ratio)
    if asked.where == OLD and asked.read.config.get("original_max_position_embeddings") and factor != ratio:
        raise asked.error("factor", factor, f"which transformers 4 takes for {ratio:g}, as the lengths say")
    if trained < 2:
        raise asked.error("original_max_position_embeddings", trained, "expected more than 1")
    grown = math.sqrt(1 + math.log(factor) / math.log(trained)) if factor > 1 else 1.0
    attention = asked.number("attention_factor", grown)
    short, long = (angles / asked.numbers(name, len(angles)) for name in ("short_factor", "long_factor"))
    return Rope(short, attention, Stretch(int(trained), long, 0.0, np.zeros(len(angles))))


def _llama3(asked: Asked, angles: Angles) -> Rope:
    """Llama 3.1: long waves are divided by the factor, short ones are kept, those between are mixed."""
    factor, trained = asked.number("factor"), _trained(asked, also_in_4=True)
    low, high = asked.number("low_freq_factor"), asked.number("high_freq_factor")
    if not low < high:
        raise asked.error("high_freq_factor", high, f"expected more than low_freq_factor, {low:g}")
    kept = np.clip((trained * angles / (2 * math.pi) - low) / (high - low), 0, 1)
    return Rope(kept * angles + (1 - kept) * angles / factor)


SCALINGS: dict[str, Callable[[Asked, Angles], Rope]] = {
    "default": _default,
    "linear": _linear,
    "dynamic": _dynamic,
    "yarn": _yarn,
    "longrope": _longrope,
    "llama3": _llama3,
}


def add_tables(read: Reader, name: str, rope: Rope, max_tokens: int) -> None:
    """The weights `rotary.NAME` (see transformer/spec.py): tables, or numbers to make rows of where no table fits
    all texts."""
    stretch = rope.stretch
    if stretch is None or max_tokens <= stretch.tokens:
        cos, sin = (table * np.float32(rope.factor) for table in rotary(rope.angles, max_tokens))
        read.weights |= {f"rotary.{name}.cos": cos, f"rotary.{name}.sin": sin}
        return
    made = {
        "angles": rope.angles,
        "long": stretch.angles,
        "powers": stretch.powers,
        "numbers": np.array([stretch.tokens, stretch.growth, rope.factor]),
    }
    read.weights |= {f"rotary.{name}.{part}": array.astype(np.float32) for part, array in made.items()}
