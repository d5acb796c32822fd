"""A checkpoint of any architecture that transformers knows, as an ONNX graph, through torch.

torch's tracing exporter (`dynamo=False`) is used, as optimum does: it gives small graphs of plain operators and needs
no other package. Code in the folder is never run, and no pickle but by torch.load(weights_only=True).

Tracing is not trusted: what the graph gives is compared with torch on long texts, where a window that was lost shows.
"""

import contextlib
import inspect
import io
import logging
import os
import sys
import warnings
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime

from edge_embed_export.families.unixcoder import MAX_TOKENS, is_unixcoder, with_mode
from edge_embed_export.modules.text import NO_LIMIT
from edge_embed_export.sources.accounting import is_ignored
from edge_embed_export.sources.files import is_there, read_json
from edge_embed_export.sources.formats import missing_weights
from edge_embed_export.sources.onnxfile import (
    FOLDED_AWAY,
    Published,
    _check_numbers,
    beside,
    check_operators,
)
from edge_embed_export.sources.pickled import in_place_of
from edge_embed_export.sources.tensors import INDEX, WEIGHTS, read_weights
from edge_embed_runtime.errors import ExportError, UnsupportedModelError
from edge_embed_runtime.extras import require
from edge_embed_runtime.system.files import check_regular

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
# Tokens of the texts that are compared, where the model takes as many; past a window where it has a longer one.
LONG, PAST, LONGEST_WINDOW = 1152, 64, 4096
# Ways to hand a mask over: as it is; one for all layers, causal or with a window besides; one for each kind of layer.
MASKS = ("plain", "causal", "window", "windows")


def convert(source: Path, *, tokenizer: Path | None = None, names: tuple[str, ...] = ()) -> Published:
    """The model of a folder with config.json and model.safetensors, as a graph that gives vectors of tokens.

    Raises SourceError and ExportError for a folder without these, UnsupportedModelError for an architecture that
    transformers does not know, or that torch cannot export, MissingExtraError without torch.
    """
    for file in source.iterdir() if source.is_dir() else ():
        if file.exists() and not file.is_dir():
            check_regular(file)  # transformers opens what it finds
    config = read_json(source / "config.json")
    if not any(is_there(source / name) or in_place_of(source / name) for name in (WEIGHTS, INDEX)):
        raise missing_weights(source / WEIGHTS)
    kind = config.get("model_type", "unknown")
    if config.get("auto_map") and kind not in _known_types():
        raise UnsupportedModelError(
            f"{source}: the architecture {kind!r} is code in the folder itself, which is never run, and none that "
            "transformers has",
            architecture=kind,
        )
    stored, sha256 = read_weights(source)  # whole, and free of NaN
    definition = source if tokenizer is None else tokenizer
    definition = definition / "tokenizer.json" if definition.is_dir() else definition
    fields = beside(source, names, None if tokenizer is None else definition)
    rows = config.get("max_position_embeddings")
    if isinstance(rows, int) and 2 < rows < NO_LIMIT:
        fields["max_tokens"] = min(fields["max_tokens"] or rows, rows)
    with _quiet():
        model, needed = _load(source, kind, stored)
        graph = _trace(source, kind, model, needed, _long(model.config, fields["max_tokens"]))
    check_operators(graph, source, FOLDED_AWAY)
    _check_numbers(graph, source)
    if is_unixcoder(source, config, fields["tokenizer"]):
        limit = min(fields["max_tokens"] or MAX_TOKENS, MAX_TOKENS)
        fields |= {"tokenizer": with_mode(fields["tokenizer"]), "max_tokens": limit}
    return Published(source, source, graph, sha256=sha256, **fields)


def _known_types() -> set[str]:
    require("torch", "general")
    transformers = require("transformers", "general")
    return set(transformers.models.auto.configuration_auto.CONFIG_MAPPING_NAMES)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what torch and transformers print and warn of while they trace.

    torch prints a whole graph from C++, past `sys.stdout`, so the file descriptor is pointed elsewhere meanwhile.
    """
    before, stdout = logging.root.manager.disable, os.dup(1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    logging.disable(logging.ERROR)
    sys.stdout.flush()
    os.dup2(nowhere, 1)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        sys.stdout.flush()
        os.dup2(stdout, 1)
        os.close(stdout)
        os.close(nowhere)
        logging.disable(before)


def _load(source: Path, kind: str, stored: Collection[str]) -> tuple[Any, Collection[str]]:
    """The encoder, and those of our inputs that it takes."""
    require("torch", "general")
    transformers = require("transformers", "general")
    options = {
        **{"trust_remote_code": False, "local_files_only": True},
        **({"use_safetensors": True} if any(is_there(source / name) for name in (WEIGHTS, INDEX)) else {}),
        "output_loading_info": True,
    }
    try:
        try:
            model, info = transformers.AutoModel.from_pretrained(source, attn_implementation="eager", **options)
        except (ValueError, TypeError):  # of a model without a choice of attention
            model, info = transformers.AutoModel.from_pretrained(source, **options)
    except (ValueError, TypeError, KeyError, OSError, RuntimeError, ImportError, AttributeError) as error:
        raise UnsupportedModelError(
            f"{source}: transformers cannot load the architecture {kind!r}: {error}", architecture=kind
        ) from error
    _check_loaded(source, stored, info, str(model.base_model_prefix))
    if getattr(model.config, "is_encoder_decoder", False):
        model = model.get_encoder()
    model = model.float().eval()
    takes = inspect.signature(model.forward).parameters
    if "input_ids" not in takes:
        raise UnsupportedModelError(
            f"{source}: the architecture {kind!r} takes no texts (no input_ids)", architecture=kind
        )
    return model, takes


def _check_loaded(source: Path, stored: Collection[str], info: Mapping[str, Collection[str]], prefix: str) -> None:
    """Raise ExportError where transformers made up a tensor, or left one of the encoder's unread; it does both quietly.

    prefix: what stands before the encoder's tensors where the file holds a model with a head
    """
    for name in sorted(info["missing_keys"]):
        if "pooler" not in name.split("."):  # vectors of tokens do not depend on it
            raise ExportError(f"{source}: the weights have no tensor {name!r}; the checkpoint is not complete")
    inside = f"{prefix}." if any(name.startswith(f"{prefix}.") for name in stored) else ""
    for name in sorted(info["unexpected_keys"]):
        whole = name if name in stored else inside + name
        spare = "pooler" in name.split(".") or name.endswith(("inv_freq", "position_ids", "token_type_ids"))
        if whole.startswith(inside) and not spare and not is_ignored(whole):
            raise ExportError(
                f"{source}: the tensor {whole!r} has no place in the model that transformers makes of the folder. If "
                f"its vectors do not depend on it, leave it out of account: --ignore {whole}",
                code="unknown_name",
                name=whole,
            )


def _long(config: Any, limit: int | None) -> int:
    """Tokens of the text that torch and the graph are compared with; of a table of positions two rows may be spare."""
    rows = getattr(config, "max_position_embeddings", None) or limit
    window = getattr(config, "sliding_window", None)
    past = window + PAST if isinstance(window, int) and window <= LONGEST_WINDOW else 0
    return min(max(LONG, past), rows - 2) if isinstance(rows, int) and rows > 2 else max(LONG, past)


def _trace(source: Path, kind: str, model: Any, takes: Collection[str], long: int) -> "onnx.ModelProto":
    """The graph. What transformers does to make a causal mask cannot be traced, or loses its windows: then masks are
    made here. long: tokens of the texts that it must give torch's vectors for"""
    torch = require("torch", "general")
    (batch, length), (shorter,) = EXAMPLE
    random, vocab = torch.Generator().manual_seed(0), int(model.config.vocab_size)
    ids = torch.randint(1, vocab, (batch, length), generator=random)
    mask = torch.ones_like(ids)
    mask[1, shorter:] = 0
    longer = torch.randint(1, vocab, (1, long), generator=random)
    reasons = []
    with torch.no_grad():
        ways = MASKS if "attention_mask" in takes else MASKS[:1]
        for way in ways if getattr(model.config, "sliding_window", None) else ways[:2]:
            try:
                plain = _tokens(model, takes, "plain").eval()
                short, expected = plain(ids, mask), plain(longer, torch.ones_like(longer))
                module = _tokens(model, takes, way).eval()
                if not _same(module(ids, mask)[mask.bool()], short[mask.bool()], SAME):
                    continue
                graph = _export(module, ids, mask)
                found = _run(graph, longer)
                if _same(found, expected, EQUAL):
                    return graph
                apart = float((found - expected).abs().max())
                reasons.append(f"of {long} tokens the graph gives other vectors than torch, by {apart:.2g}")
            except Exception as error:  # noqa: BLE001 - of torch, of transformers' code, of what they call
                reasons.append(str(error).strip().split("\n")[0][:300])
    raise UnsupportedModelError(
        f"{source}: torch cannot export the architecture {kind!r}: {reasons[0]}", architecture=kind
    )


def _same(found: Any, expected: Any, part: float) -> bool:
    return bool((found - expected).abs().max() < part * expected.abs().max())


def _run(graph: "onnx.ModelProto", ids: Any) -> Any:
    """The vectors of tokens that a graph gives for a text."""
    torch = require("torch", "general")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
    fed = {"input_ids": ids.numpy(), "attention_mask": np.ones(tuple(ids.shape), np.int64)}
    needed = {value.name for value in session.get_inputs()}
    (found,) = session.run(["last_hidden_state"], {name: array for name, array in fed.items() if name in needed})
    return torch.from_numpy(found)


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


def _export(module: Any, ids: Any, mask: Any) -> "onnx.ModelProto":
    torch, onnx = require("torch", "general"), require("onnx", "export")
    axes, content = {0: "batch", 1: "sequence"}, io.BytesIO()
    torch.onnx.export(
        module,
        (ids, mask),
        content,
        input_names=["input_ids", "attention_mask"],
        output_names=["last_hidden_state"],
        dynamic_axes=dict.fromkeys(("input_ids", "attention_mask", "last_hidden_state"), axes),
        opset_version=TRACED_OPSET,
        dynamo=False,
    )
    return onnx.ModelProto.FromString(content.getvalue())
