"""Activation functions: what transformers and torch call them, and how a graph computes each.

Only operators whose last bits depend on the number alone are used. onnxruntime's own Log, Softplus, Elu, Selu, Celu and
Mish compute the last few numbers of an array in another way than the others, so a text in a batch would get other
bits; what they do is put together from Exp, Erf, Sigmoid and Tanh here.
"""

import math
from collections.abc import Callable
from typing import Literal

import numpy as np

from edge_embed_export.transformer.builder import Graph

Activation = Literal[
    "elu", "gelu", "gelu_10", "gelu_tanh", "hard_shrink", "hard_sigmoid", "hard_swish", "hard_tanh", "identity",
    "laplace", "leaky_relu", "log_sigmoid", "mish", "quick_gelu", "relu", "relu2", "relu6", "selu", "sigmoid", "silu",
    "soft_shrink", "softplus", "softsign", "sqrt_softplus", "tanh", "tanh_shrink",
]  # fmt: skip
# Names in transformers' configs (ACT2FN of 4.57 and 5.24) -> ours. Not there: prelu and xielu, which have weights.
ACTIVATIONS: dict[str, Activation] = {
    "gelu": "gelu",
    "gelu_10": "gelu_10",
    "gelu_accurate": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_new": "gelu_tanh",
    "gelu_python": "gelu",
    "gelu_python_tanh": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "hardswish": "hard_swish",
    "laplace": "laplace",
    "leaky_relu": "leaky_relu",
    "linear": "identity",
    "mish": "mish",
    "quick_gelu": "quick_gelu",
    "relu": "relu",
    "relu2": "relu2",
    "relu6": "relu6",
    "sigmoid": "sigmoid",
    "silu": "silu",
    "sqrtsoftplus": "sqrt_softplus",
    "swish": "silu",
    "tanh": "tanh",
}
# Classes of torch.nn, as sentence-transformers' Dense names them -> ours. The library makes them without arguments, so
# they have torch's defaults. Not there: those that have weights (PReLU), need arguments or draw at random.
DENSE_ACTIVATIONS: dict[str, Activation] = {
    "CELU": "elu",  # of alpha 1 the same
    "ELU": "elu",
    "GELU": "gelu",
    "Hardshrink": "hard_shrink",
    "Hardsigmoid": "hard_sigmoid",
    "Hardswish": "hard_swish",
    "Hardtanh": "hard_tanh",
    "Identity": "identity",
    "LeakyReLU": "leaky_relu",
    "LogSigmoid": "log_sigmoid",
    "Mish": "mish",
    "ReLU": "relu",
    "ReLU6": "relu6",
    "SELU": "selu",
    "SiLU": "silu",
    "Sigmoid": "sigmoid",
    "Softplus": "softplus",
    "Softshrink": "soft_shrink",
    "Softsign": "softsign",
    "Tanh": "tanh",
    "Tanhshrink": "tanh_shrink",
}
# Functions so near to max(u, 0), by 0.2 at most, that a channel can be split (see calibrate.Site). SiLU, Mish and
# hard swish are off by 0.28 to 0.38: split, small random models fall to cosines of 0.99.
SPLITTABLE: tuple[Activation, ...] = ("gelu", "gelu_tanh", "relu", "quick_gelu")

# transformers' LaplaceActivation (arXiv:2209.10655)
LAPLACE_CENTRE, LAPLACE_SPREAD = 0.707107, 0.282095
# torch.nn.SELU (arXiv:1706.02515)
SELU_ALPHA, SELU_SCALE = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946
# Terms of log(1 + u) = 2 (z + z^3 / 3 + z^5 / 5 + ...), z = u / (2 + u); u is at most 1 here: off by 1e-9
LOG_TERMS = 8


def apply(g: Graph, x: str, kind: Activation) -> str:
    """The value of an activation function for each number of x, of any shape."""
    return x if kind == "identity" else _FUNCTIONS[kind](_Numbers(g), x)


class _Numbers:
    """Arithmetic of values with numbers."""

    def __init__(self, g: Graph) -> None:
        self.op = g.op
        self.scalar = g.scalar

    def times(self, x: str, factor: float) -> str:
        return self.op("Mul", x, self.scalar(factor))

    def plus(self, x: str, number: float) -> str:
        return self.op("Add", x, self.scalar(number))

    def clip(self, x: str, low: float, high: float) -> str:
        return self.op("Min", self.op("Max", x, self.scalar(low)), self.scalar(high))

    def gelu(self, x: str) -> str:
        return self.op("Gelu", x, domain="com.microsoft")

    def sigmoid(self, x: str) -> str:
        return self.op("Sigmoid", x)

    def softplus(self, x: str) -> str:
        """max(x, 0) + log(1 + exp(-|x|))"""
        small = self.op("Exp", self.op("Neg", self.op("Abs", x)))
        z = self.op("Div", small, self.plus(small, 2.0))
        square = self.op("Mul", z, z)
        series = self.scalar(float(np.float32(1 / (2 * LOG_TERMS - 1))))
        for n in reversed(range(LOG_TERMS - 1)):
            series = self.plus(self.op("Mul", square, series), float(np.float32(1 / (2 * n + 1))))
        return self.op("Add", self.op("Relu", x), self.op("Mul", self.times(z, 2.0), series))

    def below(self, x: str, alpha: float) -> str:
        """alpha * (exp(x) - 1) below 0, and x above."""
        low = self.plus(self.op("Exp", self.op("Min", x, self.scalar(0.0))), -1.0)
        return self.op("Add", self.op("Relu", x), self.times(low, alpha))

    def mish(self, x: str) -> str:
        """x * tanh(softplus(x)) = x * s * (1 + t) / (1 + t^2), s = sigmoid(x), t = sigmoid(-x)"""
        s, t = self.sigmoid(x), self.sigmoid(self.op("Neg", x))
        above = self.op("Mul", s, self.plus(t, 1.0))
        return self.op("Mul", x, self.op("Div", above, self.plus(self.op("Mul", t, t), 1.0)))

    def laplace(self, x: str) -> str:
        """transformers' formula: (1 + erf((x - centre) / (spread * sqrt(2)))) / 2"""
        inner = self.op("Div", self.plus(x, -LAPLACE_CENTRE), self.scalar(LAPLACE_SPREAD * math.sqrt(2.0)))
        return self.times(self.plus(self.op("Erf", inner), 1.0), 0.5)

    def square(self, x: str) -> str:
        return self.op("Mul", x, x)

    def beyond(self, x: str, limit: float) -> str:
        """x less what of it lies between -limit and limit."""
        return self.op("Sub", x, self.clip(x, -limit, limit))

    def hard_shrink(self, x: str) -> str:
        far = self.op("Greater", self.op("Abs", x), self.scalar(0.5))
        return self.op("Where", far, x, self.scalar(0.0))

    def hard_sigmoid(self, x: str) -> str:
        return self.op("Div", self.clip(self.plus(x, 3.0), 0.0, 6.0), self.scalar(6.0))


_FUNCTIONS: dict[str, Callable[[_Numbers, str], str]] = {
    "elu": lambda n, x: n.below(x, 1.0),
    "gelu": _Numbers.gelu,
    "gelu_10": lambda n, x: n.clip(n.gelu(x), -10.0, 10.0),
    "gelu_tanh": lambda n, x: n.op("FastGelu", x, domain="com.microsoft"),
    "hard_shrink": _Numbers.hard_shrink,
    "hard_sigmoid": _Numbers.hard_sigmoid,
    "hard_swish": lambda n, x: n.op("Mul", x, n.hard_sigmoid(x)),
    "hard_tanh": lambda n, x: n.clip(x, -1.0, 1.0),
    "laplace": _Numbers.laplace,
    "leaky_relu": lambda n, x: n.op("Max", x, n.times(x, 0.01)),
    "log_sigmoid": lambda n, x: n.op("Neg", n.softplus(n.op("Neg", x))),
    "mish": _Numbers.mish,
    "quick_gelu": lambda n, x: n.op("QuickGelu", x, domain="com.microsoft", alpha=1.702),
    "relu": lambda n, x: n.op("Relu", x),
    "relu2": lambda n, x: n.square(n.op("Relu", x)),
    "relu6": lambda n, x: n.clip(x, 0.0, 6.0),
    "selu": lambda n, x: n.times(n.below(x, SELU_ALPHA), SELU_SCALE),
    "sigmoid": _Numbers.sigmoid,
    "silu": lambda n, x: n.op("Mul", x, n.sigmoid(x)),
    "soft_shrink": lambda n, x: n.beyond(x, 0.5),
    "softplus": _Numbers.softplus,
    "softsign": lambda n, x: n.op("Div", x, n.plus(n.op("Abs", x), 1.0)),
    "sqrt_softplus": lambda n, x: n.op("Sqrt", n.softplus(x)),
    "tanh": lambda n, x: n.op("Tanh", x),
    "tanh_shrink": lambda n, x: n.op("Sub", x, n.op("Tanh", x)),
}
