"""Int8 weights in the order in which the native engine multiplies with them.

A panel is 16 output channels. In it four inputs of a channel stand side by side, then the same four of the next
channel: 64 bytes, which a CPU multiplies with four numbers of an activation at a time.
"""

from edge_embed_quantize.linear import Codes

CHANNELS, INPUTS = 16, 4
# Products of so many inputs fit 32 bits with room: 255 * 127 * 16384 < 2^29.
MOST_INPUTS = 16384


def why_no_panels(shape: tuple[int, ...]) -> str | None:
    """Why a weight [n, m] of this shape has no panels, as the end of a sentence that begins with its name; or None."""
    n, m = shape
    if n % INPUTS or m % CHANNELS:
        return f"is [{n}, {m}], not a multiple of [{INPUTS}, {CHANNELS}]"
    return f"has {n} inputs, more than {MOST_INPUTS}" if n > MOST_INPUTS else None


def pack_panels(weight: Codes) -> Codes:
    """Weight [n, m] -> [m / 16, n / 4, 16, 4], where [p, s, c, i] is weight[4 * s + i, 16 * p + c]."""
    n, m = weight.shape
    return weight.reshape(n // INPUTS, INPUTS, m // CHANNELS, CHANNELS).transpose(2, 0, 3, 1).copy()


def unpack_panels(panels: Codes) -> Codes:
    """What `pack_panels` was given."""
    count, steps, channels, inputs = panels.shape
    return panels.transpose(1, 3, 0, 2).reshape(steps * inputs, count * channels)
