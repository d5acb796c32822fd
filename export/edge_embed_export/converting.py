"""A checkpoint of any architecture that transformers knows, as an ONNX graph, through torch.

torch's tracing exporter (`dynamo=False`) is used, as optimum does: it gives small graphs of plain operators and needs
no other package. Only safetensors are read, and code in the folder is never run.
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

from edge_embed_export.accounting import is_ignored
from edge_embed_export.formats import missing_weights
from edge_embed_export.onnxfile import (
    FOLDED_AWAY,
    NO_LIMIT,
    Published,
    _check_numbers,
    beside,
    check_operators,
)
from edge_embed_export.pickled import in_place_of
from edge_embed_export.reading import is_there, read_json
from edge_embed_export.tensors import INDEX, WEIGHTS, read_weights
from edge_embed_export.unixcoder import MAX_TOKENS, is_unixcoder, with_mode
from edge_embed_runtime.errors import ExportError, UnsupportedModelError
from edge_embed_runtime.extras import require
from edge_embed_runtime.regular import check_regular

if TYPE_CHECKING:
    import onnx

# The newest operator set that torch's tracing exporter writes well.
TRACED_OPSET = 17
# A trace sees texts of other numbers than 1, which it would take for a constant, and padding.
EXAMPLE = ((3, 11), (8,))
# Two ways to make a mask give vectors that differ by no more than this part of the largest number.
SAME = 1e-5


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
            "transformers has"
        )
    stored, sha256 = read_weights(source)  # whole, and free of NaN
    with _quiet():
        model, needed = _load(source, kind, stored)
        graph = _trace(source, kind, model, needed)
    check_operators(graph, source, FOLDED_AWAY)
    _check_numbers(graph, source)
    definition = source if tokenizer is None else tokenizer
    definition = definition / "tokenizer.json" if definition.is_dir() else definition
    fields = beside(source, names, None if tokenizer is None else definition)
    rows = config.get("max_position_embeddings")
    if isinstance(rows, int) and 2 < rows < NO_LIMIT:
        fields["max_tokens"] = min(fields["max_tokens"] or rows, rows)
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
        **{"use_safetensors": True, "trust_remote_code": False, "local_files_only": True},
        "output_loading_info": True,
    }
    try:
        try:
            model, info = transformers.AutoModel.from_pretrained(source, attn_implementation="eager", **options)
        except (ValueError, TypeError):  # of a model without a choice of attention
            model, info = transformers.AutoModel.from_pretrained(source, **options)
    except (ValueError, TypeError, KeyError, OSError, RuntimeError, ImportError, AttributeError) as error:
        raise UnsupportedModelError(f"{source}: transformers cannot load the architecture {kind!r}: {error}") from error
    _check_loaded(source, stored, info, str(model.base_model_prefix))
    if getattr(model.config, "is_encoder_decoder", False):
        model = model.get_encoder()
    model = model.float().eval()
    takes = inspect.signature(model.forward).parameters
    if "input_ids" not in takes:
        raise UnsupportedModelError(f"{source}: the architecture {kind!r} takes no texts (no input_ids)")
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
                f"its vectors do not depend on it, leave it out of account: --ignore {whole}"
            )


def _trace(source: Path, kind: str, model: Any, takes: Collection[str]) -> "onnx.ModelProto":
    """The graph. What transformers does to make a causal mask cannot be traced: then the mask is made here."""
    torch = require("torch", "general")
    (batch, length), (shorter,) = EXAMPLE
    ids = torch.randint(1, int(model.config.vocab_size), (batch, length), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[1, shorter:] = 0
    try:
        with torch.no_grad():
            plain = _tokens(model, takes, causal=False).eval()
            expected = plain(ids, mask)
            try:
                return _export(plain, ids, mask)
            except Exception:
                if "attention_mask" not in takes:
                    raise
                causal = _tokens(model, takes, causal=True).eval()
                apart = (causal(ids, mask) - expected)[mask.bool()].abs().max()
                if not apart < SAME * expected.abs().max():
                    raise
            return _export(causal, ids, mask)
    except Exception as error:  # of torch, of transformers' code, of what they call
        reason = str(error).strip().split("\n")[0][:300]
        raise UnsupportedModelError(f"{source}: torch cannot export the architecture {kind!r}: {reason}") from error


def _tokens(model: Any, takes: Collection[str], *, causal: bool) -> Any:
    """The model as a module that takes `input_ids` and `attention_mask` and gives vectors of tokens."""
    torch = require("torch", "general")
    options: dict[str, Any] = {"use_cache": False} if "use_cache" in takes else {}

    class Tokens(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: Any, attention_mask: Any) -> Any:
            mask = {"attention_mask": attention_mask} if "attention_mask" in takes else {}
            if causal:  # 0 where a token is seen, [batch, 1, sequence, sequence]
                places = torch.arange(input_ids.shape[1])
                seen = (places[None, :] <= places[:, None])[None, None] & attention_mask.bool()[:, None, None, :]
                mask = {"attention_mask": (1.0 - seen.float()) * torch.finfo(torch.float32).min}
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
