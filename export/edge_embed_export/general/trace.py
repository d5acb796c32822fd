"""A model of transformers as an ONNX graph: by optimum where it has the architecture, else by torch alone.

Both use torch's tracing exporter (`dynamo=False`), which gives small graphs of plain operators. Tracing is not trusted:
what the graph gives is compared with torch on a batch with padding, and on a long text, where a lost window shows.
"""

import io
import tempfile
from collections.abc import Collection
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_embed_export.general.signature import INPUTS, Foreign
from edge_embed_runtime.errors import UnsupportedModelError
from edge_embed_runtime.extras import is_installed, require

if TYPE_CHECKING:
    import onnx

# The newest operator set that torch's tracing exporter writes well.
TRACED_OPSET = 17
# A trace sees texts of other numbers than 1, which it would take for a constant, and padding.
EXAMPLE = ((3, 11), (8,))
# Two ways to make a mask give vectors that differ by no more than this part of the largest number.
SAME = 1e-5
# The same of torch and onnxruntime, which add up in other orders.
EQUAL = 1e-4
OPTIMUM = "optimum"
# How a model is given its mask: as it is; one for all layers, causal, or with a window too; one for each kind of layer.
MASKS = ("plain", "causal", "window", "windows")


def trace(
    source: Path, kind: str, model: Any, takes: Collection[str], long: int
) -> tuple["onnx.ModelProto", tuple[str, ...]]:
    """The graph, and notes of how it was made. Raises UnsupportedModelError where no way gives torch's vectors.

    What transformers does to make a causal mask cannot be traced by torch alone, or loses its windows: then masks are
    made here.

    kind:  the architecture
    takes: the inputs of the model
    long:  tokens of the long text that the graph must give torch's vectors for
    """
    windows = getattr(model.config, "sliding_window", None)
    masks = MASKS[: 1 if "attention_mask" not in takes else 4 if windows else 2]
    examples: _Examples | None = None
    notes: list[str] = []
    reasons: list[str] = []
    with require("torch", "general").no_grad():
        for way in (*([OPTIMUM] if is_installed("optimum.exporters.onnx") else []), *masks):
            try:
                examples = examples or _Examples(model, takes, long)
                graph = _by_optimum(model, kind) if way == OPTIMUM else _by_torch(model, takes, way, examples)
                if graph is not None:
                    examples.check(graph)
                    return graph, (f"converted through {_releases()}",) if way == OPTIMUM else tuple(notes)
            except Exception as error:  # noqa: BLE001 - of torch, of optimum, of transformers' code, of what they call
                reason = str(error).strip().split("\n")[0][:300]
                if way == OPTIMUM:
                    notes.append(f"converted through torch alone: {reason}")
                else:
                    reasons.append(reason)
    raise UnsupportedModelError(
        f"{source}: torch cannot export the architecture {kind!r}: {reasons[0]}", architecture=kind
    )


class _Examples:
    """A batch with padding and a long text, and the vectors of tokens that torch gives for them."""

    def __init__(self, model: Any, takes: Collection[str], long: int) -> None:
        torch = require("torch", "general")
        (batch, length), (shorter,) = EXAMPLE
        random, vocab = torch.Generator().manual_seed(0), int(model.config.vocab_size)
        self.ids = torch.randint(1, vocab, (batch, length), generator=random)
        self.mask = torch.ones_like(self.ids)
        self.mask[1, shorter:] = 0
        self.longer = torch.randint(1, vocab, (1, long), generator=random)
        plain = _tokens(model, takes, "plain").eval()
        self.expected = plain(self.ids, self.mask)
        self.expected_of_longer = plain(self.longer, torch.ones_like(self.longer))

    def fits(self, found: Any, part: float) -> bool:
        """Whether vectors for the batch are torch's; those of padding do not count."""
        real = self.mask.bool()
        return _apart(found[real], self.expected[real]) < part

    def check(self, graph: "onnx.ModelProto") -> None:
        """Raise ValueError where a graph gives other vectors than torch."""
        torch, foreign = require("torch", "general"), Foreign(graph, "last_hidden_state")

        def run(ids: Any, mask: Any) -> Any:
            return torch.from_numpy(foreign.run(ids.numpy(), mask.numpy()))

        if not self.fits(run(self.ids, self.mask), EQUAL):
            raise ValueError("of texts with padding the graph gives other vectors than torch")
        found = run(self.longer, torch.ones_like(self.longer))
        if not _apart(found, self.expected_of_longer) < EQUAL:
            apart = float((found - self.expected_of_longer).abs().max())
            raise ValueError(
                f"of {self.longer.shape[1]} tokens the graph gives other vectors than torch, by {apart:.2g}"
            )


def _apart(found: Any, expected: Any) -> float:
    """The largest difference, as a part of the largest number."""
    return float((found - expected).abs().max() / expected.abs().max())


def _by_optimum(model: Any, kind: str) -> "onnx.ModelProto":
    """The graph that optimum's exporter of this architecture makes. Raises ImportError and LookupError without one."""
    onnx = require("onnx", "export")
    try:
        from optimum.exporters.onnx import export
        from optimum.exporters.tasks import TasksManager
    except ImportError as error:
        why = str(error).partition(" (")[0]  # without this machine's path
        raise ImportError(
            f"{_releases()} cannot be imported with transformers {version('transformers')}: {why}"
        ) from error
    try:
        tasks = TasksManager.get_supported_tasks_for_model_type(kind, "onnx", library_name="transformers")
        config = tasks["feature-extraction"](model.config)
    except KeyError:
        raise LookupError(f"{_releases()} has no exporter for the architecture {kind!r}") from None
    if not INPUTS.keys() >= config.inputs.keys():  # as with an encoder and its decoder
        raise LookupError(f"optimum's exporter of {kind!r} takes {', '.join(config.inputs)}")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        export(model, config, file, opset=TRACED_OPSET)
        return onnx.load(file)


def _releases() -> str:
    return " and ".join(f"{package} {version(package)}" for package in ("optimum", "optimum-onnx"))


def _by_torch(model: Any, takes: Collection[str], way: str, examples: _Examples) -> Any:
    """The graph that torch makes with one way of MASKS, or None where that gives other vectors."""
    torch, onnx = require("torch", "general"), require("onnx", "export")
    module = _tokens(model, takes, way).eval()
    if not examples.fits(module(examples.ids, examples.mask), SAME):
        return None
    axes, content = {0: "batch", 1: "sequence"}, io.BytesIO()
    torch.onnx.export(
        module,
        (examples.ids, examples.mask),
        content,
        input_names=["input_ids", "attention_mask"],
        output_names=["last_hidden_state"],
        dynamic_axes=dict.fromkeys(("input_ids", "attention_mask", "last_hidden_state"), axes),
        opset_version=TRACED_OPSET,
        dynamo=False,
    )
    return onnx.ModelProto.FromString(content.getvalue())


def _tokens(model: Any, takes: Collection[str], way: str) -> Any:
    """The model as a module that takes `input_ids` and `attention_mask` and gives vectors of tokens. way: of MASKS"""
    torch = require("torch", "general")
    options: dict[str, Any] = {"use_cache": False} if "use_cache" in takes else {}
    window = getattr(model.config, "sliding_window", None)

    class Tokens(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: Any, attention_mask: Any) -> Any:
            mask = {"attention_mask": attention_mask} if "attention_mask" in takes else {}
            if way != "plain":  # 0 where a token is seen, [batch, 1, sequence, sequence]
                places = torch.arange(input_ids.shape[1])
                back = places[:, None] - places[None, :]
                seen = (back >= 0)[None, None] & attention_mask.bool()[:, None, None, :]
                least = torch.finfo(torch.float32).min
                full: Any = (1.0 - seen.float()) * least
                if way != "causal":
                    near = (1.0 - (seen & (back < window)[None, None]).float()) * least
                    full = near if way == "window" else {"full_attention": full, "sliding_attention": near}
                mask = {"attention_mask": full}
            return self.model(input_ids=input_ids, return_dict=True, **options, **mask)[0]

    return Tokens()
