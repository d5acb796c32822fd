"""Activation functions: what transformers and torch compute, and bits that depend on the number alone."""

import json
import math
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from builders.bert import Checkpoints
from builders.checkpoints import read_checkpoint
from builders.marks import slow_but
from numpy.typing import NDArray

from edge_embed import Embedder
from edge_embed.errors import ExportError
from edge_embed_export import export_model
from edge_embed_export.families.known import read_family
from edge_embed_export.transformer.activations import ACTIVATIONS, DENSE_ACTIVATIONS, SPLITTABLE, Activation, apply
from edge_embed_export.transformer.builder import FLOAT, Graph
from edge_embed_runtime.model.session import make_session
from edge_embed_runtime.onnxfile.allowed import check_model

# numbers are fed as whole 256ths, which floats hold exactly
STEP = 256
WIDE = np.arange(-24 * STEP, 24 * STEP + 1, 7)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x > 0 else math.exp(x) / (1 + math.exp(x))


def softplus(x: float) -> float:
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


def gelu(x: float) -> float:
    return x * 0.5 * (1 + math.erf(x / math.sqrt(2)))


def elu(x: float) -> float:
    return x if x > 0 else math.expm1(x)


BY_HAND: dict[Activation, Callable[[float], float]] = {
    "elu": elu,
    "gelu": gelu,
    "gelu_10": lambda x: min(max(gelu(x), -10), 10),
    "gelu_tanh": lambda x: 0.5 * x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "hard_shrink": lambda x: x if abs(x) > 0.5 else 0.0,
    "hard_sigmoid": lambda x: min(max(x + 3, 0), 6) / 6,
    "hard_swish": lambda x: x * min(max(x + 3, 0), 6) / 6,
    "hard_tanh": lambda x: min(max(x, -1), 1),
    "identity": lambda x: x,
    "laplace": lambda x: 0.5 * (1 + math.erf((x - 0.707107) / (0.282095 * math.sqrt(2)))),
    "leaky_relu": lambda x: x if x > 0 else 0.01 * x,
    "log_sigmoid": lambda x: -softplus(-x),
    "mish": lambda x: x * math.tanh(softplus(x)),
    "quick_gelu": lambda x: x * sigmoid(1.702 * x),
    "relu": lambda x: max(x, 0.0),
    "relu2": lambda x: max(x, 0.0) ** 2,
    "relu6": lambda x: min(max(x, 0.0), 6.0),
    "selu": lambda x: 1.0507009873554805 * (x if x > 0 else 1.6732632423543772 * math.expm1(x)),
    "sigmoid": sigmoid,
    "silu": lambda x: x * sigmoid(x),
    "soft_shrink": lambda x: x - 0.5 if x > 0.5 else x + 0.5 if x < -0.5 else 0.0,
    "softplus": softplus,
    "softsign": lambda x: x / (1 + abs(x)),
    "sqrt_softplus": lambda x: math.sqrt(softplus(x)),
    "tanh": math.tanh,
    "tanh_shrink": lambda x: x - math.tanh(x),
}


def function(kind: Activation) -> Callable[[NDArray[np.int64]], NDArray[np.float32]]:
    """An activation function as a model that a bundle may hold, of numbers in 256ths."""
    g = Graph()
    x = g.op("Div", g.op("Cast", "input_ids", to=FLOAT), g.scalar(float(STEP)))
    model = g.model({g.op("Identity", apply(g, x, kind), name="y"): ["batch", "sequence"]}, "test")
    check_model(model.SerializeToString(), kind)
    session = make_session(model.SerializeToString(), 1)
    return lambda row: session.run(None, {"input_ids": row[None], "attention_mask": np.ones_like(row[None])})[0][0]


@pytest.mark.parametrize("kind", get_args(Activation))
def test_function(kind: Activation) -> None:
    """Within two millionths of what is computed by hand; the bits of a number do not depend on those around it."""
    run = function(kind)
    whole = run(WIDE)
    exact = np.array([BY_HAND[kind](x / STEP) for x in WIDE.tolist()])
    assert (np.abs(whole - exact) <= 2e-6 * np.maximum(1, np.abs(exact))).all()
    for size in (1, 2, 3, 5, 7, 15, 16, 17, 33):
        for start in (0, 1, 40, 700, len(WIDE) - size):
            part = run(WIDE[start : start + size].copy())
            assert np.array_equal(part.view(np.uint32), whole[start : start + size].view(np.uint32))


def test_splittable_functions() -> None:
    """A channel can be split where a function is never far from max(u, 0)."""
    for kind, by_hand in BY_HAND.items():
        furthest = max(abs(by_hand(x / STEP) - max(x / STEP, 0)) for x in WIDE.tolist())
        assert (furthest <= 0.2) == (kind in SPLITTABLE), kind


def test_every_function_has_a_name() -> None:
    """What can be computed is what a config can ask for."""
    assert {*ACTIVATIONS.values(), *DENSE_ACTIVATIONS.values()} == set(get_args(Activation))


@pytest.mark.parametrize("name", ["prelu", "xielu", "typo"])
def test_functions_with_weights_are_refused(checkpoint: Checkpoints, name: str) -> None:
    """By name, with those that are known."""
    with pytest.raises(ExportError, match=rf"activation '{name}' is not supported \(gelu, "):
        read_family(read_checkpoint(checkpoint(hidden_act=name)))


@pytest.mark.parametrize(
    "name", slow_but(sorted(set(ACTIVATIONS) - {"gelu", "linear", "swish"}), ("mish", "relu2", "silu"))
)
def test_int8_with_each(checkpoint: Checkpoints, tmp_path: Path, short_receipt: None, name: str) -> None:
    """Quantized well enough, and one vector for each text."""
    manifest = export_model(checkpoint(hidden_act=name), tmp_path / "int8")
    assert manifest.receipt["cosine_to_fp32"]["mean"] > 0.995
    embedder = Embedder(tmp_path / "int8", threads=1)
    texts = ["the river bank", "", "money in the bank at night", "a"]
    for text, found in zip(texts, embedder.encode(texts), strict=True):
        assert np.array_equal(embedder.encode([text])[0].view(np.uint32), found.view(np.uint32))


@pytest.mark.parity
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.skipif(not (find_spec("torch") and find_spec("transformers")), reason="needs torch and transformers")
def test_names_mean_what_transformers_means() -> None:
    """Every name of transformers but those with weights, to the last name; of torch.nn those that take no arguments."""
    import torch
    from transformers.activations import ACT2CLS, ACT2FN

    missing = set(ACT2CLS) - set(ACTIVATIONS)
    assert missing <= {"prelu", "xielu"}
    x = torch.from_numpy((WIDE / STEP).astype(np.float32))
    named = {name: ACT2FN[name] for name in ACTIVATIONS if name in ACT2CLS}
    assert set(ACTIVATIONS) - set(named) <= {"hardswish", "sqrtsoftplus"}  # transformers 5
    named |= {f"torch.nn.{name}": getattr(torch.nn, name)() for name in DENSE_ACTIVATIONS}
    for name, theirs in named.items():
        ours = DENSE_ACTIVATIONS[name[9:]] if name.startswith("torch.nn.") else ACTIVATIONS[name]
        expected = theirs(x).numpy()
        found = function(ours)(WIDE)
        assert (np.abs(found - expected) <= 2e-6 * np.maximum(1, np.abs(expected))).all(), name


@pytest.mark.parametrize("name", ["torch.nn.modules.activation.LeakyReLU", "torch.nn.modules.activation.Softplus"])
def test_dense_module(checkpoint: Checkpoints, tmp_path: Path, short_receipt: None, name: str) -> None:
    """A Dense module with a function of torch's."""
    source = checkpoint(dense=name)
    export_model(source, tmp_path / "fp32", precision="fp32")
    export_model(checkpoint("plain", dense="torch.nn.modules.linear.Identity"), tmp_path / "b", precision="fp32")
    assert json.loads((source / "2_Dense" / "config.json").read_text())["activation_function"] == name
    found = Embedder(tmp_path / "fp32", threads=1).encode(["the river bank"])[0]
    plain = Embedder(tmp_path / "b", threads=1).encode(["the river bank"])[0]
    assert np.abs(found - plain).max() > 1e-3
