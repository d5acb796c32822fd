"""How a Pooling module's folder says that vectors of tokens become one: in the form of sentence-transformers since 5.4,
or in the booleans of the releases before."""

from pathlib import Path
from typing import Any

from edge_embed_export.files.accounting import HARMLESS, refuse_unknown
from edge_embed_export.files.reading import check_flag, optional_json
from edge_embed_export.options import Pooling
from edge_embed_runtime.errors import ExportError

MODES: dict[str, Pooling] = {
    "cls": "cls",
    "max": "max",
    "mean": "mean",
    "mean_sqrt_len_tokens": "mean_sqrt_len",
    "weightedmean": "weighted_mean",
    "lasttoken": "last",
}
# The booleans of old, in the order in which vectors of several stand one behind the other.
FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
# The width of a token's vector, which the model has in any case.
HARMLESS["a pooling"] = frozenset({"embedding_dimension", "word_embedding_dimension"})


def read_pooling(folder: Path) -> Pooling:
    """The poolings, joined by "+". Whether they count the tokens of a prompt is not read here.

    Where nothing is chosen, or there is no config.json, it is what the class takes then: the mean.
    """
    path = folder / "config.json"
    config = optional_json(path)
    refuse_unknown(path, config, (*FLAGS, *HARMLESS["a pooling"], "pooling_mode", "include_prompt"))
    given = config.get("pooling_mode")
    modes = _flagged(path, config) if given is None else given
    modes = [modes] if isinstance(modes, str) else modes
    if not isinstance(modes, list) or not modes or not all(isinstance(m, str) and m in MODES for m in modes):
        raise ExportError(f"{path}: pooling_mode {given!r:.80} is not supported; expected one or more of {list(MODES)}")
    return "+".join(MODES[mode] for mode in modes)


def _flagged(path: Path, config: dict[str, Any]) -> list[str]:
    modes = [mode for name, mode in FLAGS.items() if check_flag(config.get(name, False), name, path)]
    mean = "pooling_mode_mean_tokens"
    if modes and mean not in config:
        # then releases before 5.4 put the mean behind the others, and later ones do not
        raise ExportError(
            f"{path} does not say {mean}, which releases of sentence-transformers take differently: add it"
        )
    return modes or ["mean"]
