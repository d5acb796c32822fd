"""What the Transformer module gives for a text, as sentence_bert_config.json says it since release 5.4."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge_embed_export.files.reading import optional_json
from edge_embed_runtime.errors import ExportError

# Of these files the first that is there and not empty counts, in all releases.
FILES = tuple(
    f"sentence_{kind}_config.json"
    for kind in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)
# How a model of texts and pictures gives its vectors, as models of this shape (CLIP, SigLIP) are read here.
_TEXTS, _IMAGES = (
    {"method": f"get_{modality}_features", "method_output_name": "pooler_output"} for modality in ("text", "image")
)
OF_TOWERS = ({"text": _TEXTS, "image": _IMAGES}, {"text": _TEXTS})
# What a model loaded for a task calls its vectors of tokens.
TASKS = {"feature-extraction": "last_hidden_state", "fill-mask": "logits"}


def read_task(folder: Path, usual: str) -> str:
    """What the model in `folder` is loaded for, one of TASKS; `usual` where nothing says."""
    path = next((folder / name for name in FILES if optional_json(folder / name)), folder / FILES[0])
    return check_task(path, optional_json(path), usual)


def check_pair_task(path: Path, settings: Mapping[str, Any]) -> None:
    """Raises ExportError for settings by which a pair of texts has other scores than a classifier's numbers."""
    task = settings.get("transformer_task") or "sequence-classification"
    output = settings.get("module_output_name") or "scores"
    modalities = settings.get("modality_config")
    text = {"method": "forward", "method_output_name": "logits"}
    if task != "sequence-classification" or output != "scores" or modalities not in (None, {"text": text}):
        raise ExportError(
            f"{path}: transformer_task is {task!r:.60}, module_output_name {output!r:.60} and modality_config "
            f"{modalities!r:.80}; of cross-encoders only 'sequence-classification' of texts as they stand is supported"
        )


def check_task(path: Path, settings: Mapping[str, Any], usual: str = "feature-extraction") -> str:
    """The task of a file's settings.

    Raises ExportError for settings by which a text has no vectors of tokens, or others, or is not taken as it stands.
    """
    task = settings.get("transformer_task") or usual
    if task not in TASKS:
        raise ExportError(f"{path}: transformer_task is {task!r:.60}, whose model gives no vectors of tokens")
    output = settings.get("module_output_name") or "token_embeddings"
    modalities = settings.get("modality_config")
    if output == "sentence_embedding" and task == "feature-extraction" and modalities in OF_TOWERS:
        return str(task)
    if output != "token_embeddings":
        raise ExportError(f"{path}: module_output_name is {output!r:.60}, expected 'token_embeddings'")
    if modalities is None:
        return str(task)
    text = modalities.get("text") if isinstance(modalities, dict) else None
    if not isinstance(text, dict) or "message" in modalities:
        raise ExportError(
            f"{path}: modality_config is {modalities!r:.80}: texts are no input as they stand, but put into a chat's "
            "template or into another form"
        )
    given = text.get("method_output_name")
    if text.get("method") != "forward" or given not in (TASKS[task], [TASKS[task]]):
        raise ExportError(
            f"{path}: modality_config makes a text's vectors by {text!r:.80}, expected 'forward' and {TASKS[task]!r}"
        )
    return str(task)
