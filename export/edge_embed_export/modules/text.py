"""What sentence_bert_config.json says of the Transformer module: the limit of a text, lower case, and arguments.

Source: models/Transformer.py of sentence-transformers 5.1 and base/modules/transformer.py of 6.2.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge_embed_export.files.accounting import HARMLESS, refuse_unknown
from edge_embed_export.files.reading import check_flag, check_size, is_there, optional_json
from edge_embed_export.modules.folder import Folder
from edge_embed_export.modules.task import FILES, check_pair_task, check_task
from edge_embed_runtime.errors import ExportError
from edge_embed_runtime.vectors.kinds import DENSE, MULTI, RERANK, Kind

READ = frozenset({
    "config_args", "config_kwargs", "do_lower_case", "document_length", "max_seq_length", "modality_config",
    "model_args", "model_kwargs", "module_output_name", "processing_kwargs", "processor_kwargs", "query_expansion",
    "query_length", "tokenizer_args", "transformer_task",
})  # fmt: skip
SIDES = ("query_length", "document_length", "query_expansion")
HARMLESS["sentence_bert_config.json"] = frozenset({"unpad_inputs", "backend"})
# Arguments that say how a file is found or a model computed, not what comes out.
LOADING = frozenset({
    "add_pooling_layer", "attn_implementation", "cache_dir", "device_map", "dtype", "local_files_only",
    "low_cpu_mem_usage", "revision", "subfolder", "token", "torch_dtype", "trust_remote_code", "use_auth_token",
    "use_cache", "use_fast", "use_safetensors",
})  # fmt: skip
# A tokenizer_config.json without a limit has a number of thirty digits.
NO_LIMIT = 10**6


@dataclass(frozen=True)
class TextModule:
    """What a folder says of the module that reads texts.

    path:      of the file, whether it is there or not
    limit:     tokens of a text
    lower:     whether texts are lowered
    tokenizer: settings that replace those of tokenizer_config.json
    sides:     what is said of queries and documents apart (see sources/colbert.py)
    release:   (major, minor) of the sentence-transformers that wrote the folder; None where it does not say
    """

    path: Path
    limit: int | None = None
    lower: bool = False
    tokenizer: Mapping[str, Any] = field(default_factory=dict)
    release: tuple[int, int] | None = None
    sides: Mapping[str, Any] = field(default_factory=dict)

    @property
    def old(self) -> bool:
        """Whether the release strips texts, and lowers them itself; the current one counts where none is named."""
        return self.release is not None and self.release < (5, 4)


def read_text_module(folder: Path, root: Folder, kind: Kind = DENSE) -> TextModule:
    """Read the file in the module's own folder, or in the folder of the whole model.

    kind: what the model gives; only where that is a vector for each token there are settings for queries and documents
          apart

    Raises ExportError for a key that is not known, or that changes vectors in a way that no bundle has.
    """
    places = [place / name for place in (folder, root.path) for name in FILES]
    path = next((place for place in places if is_there(place)), root.path / FILES[0])
    values = optional_json(path)
    refuse_unknown(path, values, READ | HARMLESS["sentence_bert_config.json"])
    for name in ("model_args", "model_kwargs", "config_args", "config_kwargs"):
        refuse_unknown(path, _object(path, values, name), LOADING, f"argument of {name}")
    if kind is RERANK:
        check_pair_task(path, values)
    else:
        check_task(path, values)
    sides = {name: values[name] for name in SIDES if values.get(name) is not None}
    if sides and kind is not MULTI:
        name, value = next(iter(sides.items()))
        raise ExportError(f"{path}: {name} {value!r:.60} is not supported; max_seq_length is, for both sides")
    limit = values.get("max_seq_length")
    asked = _processing(path, values)
    lower = values.get("do_lower_case")
    arguments = {**_object(path, values, "tokenizer_args"), **_object(path, values, "processor_kwargs")}
    return TextModule(
        path=path,
        limit=asked if asked is not None else None if limit is None else check_size(limit, "max_seq_length", path),
        lower=lower is not None and check_flag(lower, "do_lower_case", path),
        tokenizer={name: value for name, value in arguments.items() if name not in LOADING},
        release=release_of(root),
        sides=sides,
    )


def limit_of(text: TextModule, settings: Mapping[str, Any], path: Path) -> int | None:
    """Tokens of a text, special ones among them: max_seq_length, or else what tokenizer_config.json has.

    The table of positions limits it as well, for every family by its own rule. settings: of tokenizer_config.json
    """
    if text.limit is not None:
        return text.limit
    # `max_len` is what old releases of transformers wrote
    said = settings.get("model_max_length", settings.get("max_len"))
    if said is None or (isinstance(said, int | float) and said >= NO_LIMIT):
        return None
    return check_size(said, "model_max_length", path)


def _object(path: Path, values: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = values.get(name) or {}
    if not isinstance(value, dict):
        raise ExportError(f"{path}: {name} is {value!r:.40}, expected an object")
    return value


def _processing(path: Path, values: Mapping[str, Any]) -> int | None:
    """The limit that `processing_kwargs` sets, of all that it may set."""
    given = _object(path, values, "processing_kwargs")
    # templates of chats are for messages, other kinds of input are none of ours
    refuse_unknown(
        path, given, {"text", "common", "chat_template", "audio", "image", "video"}, "part of processing_kwargs"
    )
    asked: dict[str, Any] = {**_object(path, given, "text"), **_object(path, given, "common")}
    limit = asked.pop("max_length", None)
    if asked.pop("truncation", True) not in (True, "longest_first", "only_first"):
        raise ExportError(f"{path}: processing_kwargs turn truncation off; a bundle always has a limit")
    refuse_unknown(
        path,
        asked,
        {"padding", "return_tensors", "pad_to_multiple_of", "padding_side"},
        "argument of processing_kwargs",
    )
    return None if limit is None else check_size(limit, "max_length", path)


def release_of(root: Folder) -> tuple[int, int] | None:
    """(major, minor) of the sentence-transformers that wrote a folder; None where it does not say."""
    versions = root.settings.get("__version__")
    said = versions.get("sentence_transformers") if isinstance(versions, dict) else None
    found = re.match(r"(\d+)\.(\d+)", str(said))
    return (int(found[1]), int(found[2])) if found else None
