"""What lies next to tokenizer.json and changes what becomes of a text: tokenizer_config.json and older, smaller files.

They are merged as `from_pretrained` of transformers merges them (tokenization_utils_base.py), and read as the release
reads them that the folder was written with: transformers 5 makes tokenizers again, from vocabularies, by their class.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_embed_export.files.accounting import HARMLESS, refuse_unknown
from edge_embed_export.files.reading import check_flag, optional_json
from edge_embed_export.modules.folder import Folder
from edge_embed_runtime.errors import ExportError

TOKENIZER_CONFIG = "tokenizer_config.json"
FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")
# Where neither a folder's class nor its model type says which class it is.
GENERIC = "PreTrainedTokenizer"
# Names of the class that takes tokenizer.json as it stands.
GENERIC_NAMES = frozenset({"PreTrainedTokenizer", "TokenizersBackend", "PythonBackend", "BloomTokenizer"})
# Classes that transformers 4 does not have: whoever wrote the folder, 5 alone reads it.
NEW_CLASSES = frozenset({"Siglip2Tokenizer"})
# Keys that are read here or in classes.py, rebuild.py and vocab.py.
READ = frozenset({
    "add_bos_token", "add_eos_token", "add_prefix_space", "added_tokens_decoder", "auto_map", "backend",
    "do_lower_case", "fix_mistral_regex", "from_slow", "keep_accents", "legacy", "max_len", "model_max_length",
    "split_by_punct", "strip_accents", "tokenize_chinese_chars", "tokenizer_class", "truncation_side", "unk_id",
})  # fmt: skip
# Keys that both libraries pass over, or that change other things than the ids of one text: names and places of files,
# chats, decoding, padding (masked), truncation that every caller sets, special tokens (their ids are in tokenizer.json,
# their text in a text is plain text here), what only tokenizers written in Python do, pairs of texts.
HARMLESS[TOKENIZER_CONFIG] = frozenset({
    "additional_special_tokens", "chat_control_tokens", "chat_template", "clean_text", "clean_up_tokenization_spaces",
    "clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output", "default_chat_template",
    "device_map", "do_basic_tokenize", "errors", "extra_ids", "extra_special_tokens", "files_loaded",
    "grounded_generation_template", "init_inputs", "is_local", "local_files_only", "mask_token_sent", "max_length",
    "model_input_names", "model_specific_special_tokens", "name_or_path", "never_split", "pad_to_multiple_of",
    "pad_token_type_id", "padding", "padding_side", "processor_class", "remove_space", "response_schema",
    "response_template", "return_token_type_ids", "revision", "sp_model_kwargs", "spaces_between_special_tokens",
    "special_tokens_map_file", "split_special_tokens", "stride", "tokenizer_file", "tool_use_template", "torch_dtype",
    "trim_offsets", "truncation", "truncation_strategy", "trust_remote_code", "use_auth_token",
    "use_default_system_prompt", "use_fast", "verbose", "vocab_file", "vocab_type", "wordpieces_prefix",
})  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """What is said next to tokenizer.json.

    path:     of tokenizer_config.json, for errors
    values:   by name, merged
    declared: added tokens by id, where tokenizer_config.json or added_tokens.json has them
    own:      whether tokenizer_config.json itself lists them, so that no other file counts
    version:  the release of transformers that the folder was written with, as it says; "" where it says nothing
    model_type: of config.json
    """

    path: Path
    values: Mapping[str, Any]
    declared: Mapping[int, Mapping[str, Any]]
    own: bool
    version: str
    model_type: str

    @property
    def major(self) -> int:
        """Whose rules hold: 5 or 4. Every release since 4.3 writes its number, so none is an older one."""
        return 5 if self.declared_class in NEW_CLASSES or self.version.split(".")[0] in ("5", "6") else 4

    @property
    def declared_class(self) -> str | None:
        """The class that the folder names, without "Fast"."""
        name = self.values.get("tokenizer_class")
        return None if name is None else str(name).removesuffix("Fast")

    def flag(self, name: str, default: bool | None) -> bool | None:
        """A setting that is true or false, or, where null has a meaning, null."""
        value = self.values.get(name, default)
        return None if value is None else check_flag(value, name, self.path)

    def token(self, name: str, default: str | None = None) -> str | None:
        """The text of a special token."""
        value = self.values.get(name, default)
        value = value.get("content") if isinstance(value, dict) else value
        if value is not None and not isinstance(value, str):
            raise ExportError(f"{self.path}: {name} is {value!r:.40}, expected a token")
        return value


def read_settings(folder: Path, config: Mapping[str, Any], given: Mapping[str, Any], root: Folder) -> Settings:
    """The settings of a tokenizer in a folder. Raises ExportError for a key that is not known.

    config: of the model
    given:  what sentence_bert_config.json passes to the tokenizer, which wins
    root:   the folder of the whole model, whose config_sentence_transformers.json names versions
    """
    path = folder / TOKENIZER_CONFIG
    values = {**optional_json(path), **given}
    own = "added_tokens_decoder" in values
    if not own:
        values |= optional_json(folder / "special_tokens_map.json")
    known = READ | HARMLESS[TOKENIZER_CONFIG]
    unknown = {name: value for name, value in values.items() if not is_token(name, value)}
    refuse_unknown(path, unknown, known)
    if values.get("tokenizer_class") is None:
        values["tokenizer_class"] = config.get("tokenizer_class")
    return Settings(
        path=path,
        values=values,
        declared=_declared(path, values, optional_json(folder / "added_tokens.json")),
        own=own,
        version="5" if values.get("backend") is not None else _version(config, root),
        model_type=str(config.get("model_type") or ""),
    )


def is_token(name: str, value: object) -> bool:
    """Whether a key names a special token or its id: eos_token, image_token, pad_token_id."""
    held = value is None or (isinstance(value, str | dict | int) and not isinstance(value, bool))
    return held and name.endswith(("_token", "_token_id"))


def _version(config: Mapping[str, Any], root: Folder) -> str:
    versions = root.settings.get("__version__")
    said = versions.get("transformers") if isinstance(versions, dict) else None
    # the model's own config is written again whenever the model is
    return str(config.get("transformers_version") or said or "")


def _declared(path: Path, values: Mapping[str, Any], added: Mapping[str, Any]) -> dict[int, Mapping[str, Any]]:
    """Added tokens by id, with their flags; added_tokens.json counts where tokenizer_config.json lists none."""
    try:
        if "added_tokens_decoder" in values:
            listed = values["added_tokens_decoder"].items()
            return {
                int(i): {"content": str(t["content"]), **_flags(t)} for i, t in sorted(listed, key=lambda e: int(e[0]))
            }
        named = [value for name, value in values.items() if name.endswith("_token") and is_token(name, value)]
        named += values.get("additional_special_tokens") or []
        special = {value.get("content") if isinstance(value, dict) else value for value in named}
        return {
            int(number): {"content": token, **_flags({"normalized": token not in special, "special": token in special})}
            for token, number in sorted(added.items(), key=lambda entry: int(entry[1]))
        }
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise ExportError(f"{path}: its added tokens are not numbers with tokens: {error!r:.100}") from error


def _flags(token: Mapping[str, Any]) -> dict[str, bool]:
    """The flags of an AddedToken; a token is normalised unless it is special (tokenizers' default)."""
    special = bool(token.get("special", False))
    return {flag: bool(token.get(flag, not special if flag == "normalized" else False)) for flag in FLAGS}
