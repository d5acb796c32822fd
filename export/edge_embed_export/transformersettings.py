"""What sentence-transformers says of its Transformer module, in sentence_bert_config.json: what changes vectors is
obeyed, or refused by its name.

`max_seq_length` and `do_lower_case` are of the tokenizer and not looked at here.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge_embed_export.accounting import HARMLESS, refuse_unknown
from edge_embed_export.reading import optional_json
from edge_embed_runtime.errors import ExportError

# The first of these that is there and not empty counts, in all releases.
FILES = tuple(
    f"sentence_{kind}_config.json"
    for kind in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)
# Of the tokenizer; and of models that give a vector for each token.
_OTHERS_READ = ("max_seq_length", "do_lower_case", "query_length", "document_length", "query_expansion")
# Arguments for loading that change no vector, or its precision alone: a bundle has one of its own.
HARMLESS["arguments of the model"] = frozenset({
    "add_pooling_layer", "attn_implementation", "cache_dir", "device_map", "dtype", "local_files_only",
    "low_cpu_mem_usage", "token", "torch_dtype", "trust_remote_code", "unpad_inputs", "use_cache",
    "use_memory_efficient_attention", "use_safetensors",
})  # fmt: skip
HARMLESS["arguments of the tokenizer"] = frozenset({
    "cache_dir", "local_files_only", "token", "trust_remote_code", "use_fast",
})  # fmt: skip
# Old and new names of the arguments that a folder may hand on, by what they are of.
_ARGUMENTS = {
    "model_args": "arguments of the model",
    "model_kwargs": "arguments of the model",
    "config_args": "arguments of the model",
    "config_kwargs": "arguments of the model",
    "tokenizer_args": "arguments of the tokenizer",
    "processor_kwargs": "arguments of the tokenizer",
}
# What a text's vectors of tokens are called, by the task of the model.
TASKS = {"feature-extraction": "last_hidden_state", "fill-mask": "logits"}


def read_settings(folder: Path) -> tuple[Path, dict[str, Any]]:
    """The settings of the Transformer module that lies in `folder`, and the file that holds them."""
    for name in FILES:
        if settings := optional_json(folder / name):
            return folder / name, settings
    return folder / FILES[0], {}


def task_of(path: Path, settings: Mapping[str, Any], usual: str) -> str:
    """What the model is loaded for, one of TASKS. Raises ExportError for settings that make other vectors.

    path:  the file that holds the settings
    usual: where they do not say
    """
    known = ("transformer_task", "modality_config", "module_output_name", "processing_kwargs", "unpad_inputs")
    refuse_unknown(path, settings, (*known, *_OTHERS_READ, *_ARGUMENTS))
    for name in (*_ARGUMENTS, "modality_config", "processing_kwargs"):
        if not isinstance(settings.get(name) or {}, dict):
            raise ExportError(f"{path}: {name} is {settings[name]!r:.60}, expected an object")
    for name, kind in _ARGUMENTS.items():
        refuse_unknown(path, settings.get(name) or {}, HARMLESS[kind], f"argument in {name},")
    task = settings.get("transformer_task") or usual
    if task not in TASKS:
        raise ExportError(f"{path}: transformer_task is {task!r:.60}, whose model gives no vectors of tokens")
    output = settings.get("module_output_name")
    if output not in (None, "token_embeddings"):
        raise ExportError(
            f"{path}: module_output_name is {output!r:.60}; a model is exported by its vectors of tokens "
            "('token_embeddings')"
        )
    _check_modalities(path, settings, TASKS[task])
    for name, value in (settings.get("processing_kwargs") or {}).items():
        if value and name not in ("image", "audio", "video"):
            raise ExportError(f"{path}: processing_kwargs has {name!r}: {value!r:.60}, which may change texts' tokens")
    return str(task)


def _check_modalities(path: Path, settings: Mapping[str, Any], output: str) -> None:
    modalities = settings.get("modality_config")
    if modalities is None:
        return
    if "message" in modalities:
        raise ExportError(
            f"{path}: modality_config has 'message': texts are put into a chat template, for which there is no form"
        )
    text = modalities.get("text")
    given = text.get("method_output_name") if isinstance(text, dict) else None
    if not isinstance(text, dict) or text.get("method") != "forward" or given not in (output, [output]):
        raise ExportError(
            f"{path}: modality_config makes vectors of a text by {text!r:.80}, expected the method 'forward' and its "
            f"{output!r}"
        )
