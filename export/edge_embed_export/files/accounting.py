"""What was read of a folder: a tensor or a key that nothing asked for is harmless, as a table here says, or refused.

Whoever knows better says so by name: `ignoring` holds those names while a model is exported (`--ignore NAME`).
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, TypeVar

from edge_embed_runtime.checks import shown
from edge_embed_runtime.errors import ExportError, InputError


def words(text: str) -> frozenset[str]:
    """The names in a text: "a b" -> {"a", "b"}."""
    return frozenset(text.split())


# Keys that change no vector, by what kind of file they stand in. Of config.json: those of all architectures; what only
# one of them does not read is in families/leftovers.py.
HARMLESS: dict[str, frozenset[str]] = {
    "config.json": words(
        # names, versions, types of numbers
        "_commit_hash _name_or_path architectures auto_map dtype model_type name_or_path tokenizer_class torch_dtype "
        "transformers_version xla_device "
        # how the same numbers are computed
        "_attn_implementation _attn_implementation_autoset _flash_attn_2_enabled attn_implementation "
        "chunk_size_feed_forward deterministic_flash_attn fused_bias_fc fused_dropout_add_ln pretraining_tp "
        "reference_compile return_dict torchscript unpad_inputs use_bfloat16 use_cache use_flash_attn "
        "use_memory_efficient_attention use_reentrant "
        # what is given besides the vectors of tokens
        "output_attentions output_hidden_states output_past output_scores "
        # tensors that the file has or has not; of these the readers take what is there
        "vocab_size pad_vocab_size_multiple tie_word_embeddings tie_weights_ "
        # training
        "attention_dropout attention_probs_dropout_prob attn_pdrop classifier_dropout classifier_dropout_prob "
        "dropout dropout_rate embd_pdrop embedding_dropout gradient_checkpointing hidden_dropout_prob "
        "initializer_cutoff_factor initializer_factor initializer_range lora_dropout_p lora_main_params_trainable "
        "mlp_dropout moe_resid_pdrop pooler_dropout qa_dropout repad_logits_with_grad resid_pdrop "
        "router_aux_loss_coef seq_classif_dropout sparse_pred_ignore_index sparse_prediction summary_first_dropout "
        "summary_last_dropout tf_legacy_loss use_xentropy "
        # heads for other ends: classes, scores, the pooler
        "_num_labels classifier_activation classifier_bias classifier_pooling decoder_bias final_logit_softcapping "
        "finetuning_task id2label label2id loss_function num_labels pooler_fc_size pooler_hidden_act "
        "pooler_hidden_size pooler_num_attention_heads pooler_num_fc_layers pooler_size_per_head pooler_type "
        "problem_type sbert_ce_default_activation_function sentence_transformers summary_activation "
        "summary_proj_to_labels summary_type summary_use_proj "
        # tokens by their ids: the tokenizer's matter
        "begin_suppress_tokens bos_token_id cls_token_id decoder_start_token_id eos_token_id forced_bos_token_id "
        "forced_eos_token_id mask_token_id pad_token_id sep_token_id suppress_tokens unk_token_id "
        # text that is written
        "bad_words_ids diversity_penalty do_sample early_stopping encoder_no_repeat_ngram_size "
        "exponential_decay_length_penalty length_penalty max_length max_new_tokens min_length no_repeat_ngram_size "
        "num_beam_groups num_beams num_return_sequences prefix remove_invalid_values repetition_penalty "
        "return_dict_in_generate task_specific_params temperature top_k top_p typical_p "
        # read elsewhere: dims that a model was trained to be cut to
        "matryoshka_dimensions matryoshka_dims"
    ),
    # of peft: what is read, and what says how it was trained or which layers it belongs to, as its tensors show
    "adapter_config.json": words(
        "alpha_pattern bias lora_alpha lora_bias peft_type r rank_pattern trainable_token_indices use_dora use_rslora "
        "auto_mapping base_model_name_or_path corda_config eva_config exclude_modules fan_in_fan_out inference_mode "
        "layers_pattern modules_to_save "
        "layers_to_transform loftq_config lora_dropout megatron_core peft_version qalora_group_size revision "
        "runtime_config target_modules task_type"
    ),
}

# Tensors of whole numbers that nothing is computed from: positions and types of tokens (0, 1, 2, ... and 0, 0, 0, ...),
# which older releases of transformers stored; causal masks; Swin's offsets of tokens in a window; the steps of a batch
# norm's training.
WHOLE = r"(.+\.)?(position_ids|token_type_ids|attn\.bias|relative_position_index|num_batches_tracked)"

Value = TypeVar("Value")


class Accounted(Mapping[str, Value]):
    """A mapping that remembers the names whose values were asked for. `in` and iteration ask for nothing."""

    def __init__(self, held: Mapping[str, Value]) -> None:
        self._held = held
        self._read: set[str] = set()

    def __getitem__(self, name: str) -> Value:
        value = self._held[name]
        self._read.add(name)
        return value

    def __contains__(self, name: object) -> bool:
        return name in self._held

    def __iter__(self) -> Iterator[str]:
        return iter(self._held)

    def __len__(self) -> int:
        return len(self._held)

    def unread(self) -> list[str]:
        """Names that nothing asked for, in the order of the file."""
        return [name for name in self._held if name not in self._read]


def held(mapping: Mapping[str, Value]) -> Mapping[str, Value]:
    """A mapping to look at, or to copy, without asking for what is in it."""
    return mapping._held if isinstance(mapping, Accounted) else mapping


class Keys(dict[str, Any]):
    """An object of a JSON file that remembers which of its keys were asked for; objects in it are such as well.

    `{**keys}`, `dict(keys)`, `items()` and `values()` ask for all of them: a ChainMap asks for none.
    """

    def __init__(self, held: Mapping[str, Any]) -> None:
        super().__init__({name: Keys(value) if isinstance(value, dict) else value for name, value in held.items()})
        self._read: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        value = super().__getitem__(name)
        self._read.add(name)
        return value

    def __iter__(self) -> Iterator[str]:  # without it dict(keys) would copy past __getitem__
        return super().__iter__()

    def get(self, name: str, default: Any = None) -> Any:
        return self[name] if name in self else default  # noqa: SIM401 - this is get itself

    def peek(self, *path: str) -> Any:
        """A value by the names on the way to it, None where there is none; this does not ask for it."""
        found: Any = self
        for name in path:
            found = dict.get(found, name) if isinstance(found, dict) else None
        return found

    def items(self) -> Any:
        self._read.update(self)
        return super().items()

    def values(self) -> Any:
        self._read.update(self)
        return super().values()

    def unread(self) -> Iterator[tuple[tuple[str, ...], Any]]:
        """Keys that nothing asked for, each with the names on the way to it, and their values."""
        for name, value in super().items():
            if name not in self._read:
                yield (name,), value
            elif isinstance(value, Keys):
                yield from (((name, *inner), found) for inner, found in value.unread())


def refuse_unknown(path: Path, content: Mapping[str, Any], known: Collection[str], what: str = "key") -> None:
    """Raise ExportError for the first key of a small JSON file that is not known.

    known: what the caller reads, and what HARMLESS says of such a file
    """
    for name, value in content.items():
        if name not in known and not is_ignored(name):
            raise ExportError(
                f"{path}: the {what} {name!r} ({value!r:.60}) is not known, and it may change the vectors; if it does "
                f"not, leave it out of account: --ignore {name}",
                code="unknown_name",
                path=path,
                name=name,
            )


def refuse_tensors(path: Path, tensors: Mapping[str, Any], names: Iterable[str], what: str) -> None:
    """Raise ExportError for the first of some tensors that nothing reads.

    path: the file or folder that holds them
    what: that does not read them, as in "a Dense module"
    """
    for name in names:
        if not is_ignored(name):
            raise ExportError(
                f"{path}: the tensor {name!r} {list(held(tensors)[name].shape)} has no place in {what}: the model may "
                "compute something that the bundle would not. If its vectors do not depend on it, leave it out of "
                f"account: --ignore {name}",
                code="unknown_name",
                path=path,
                name=name,
            )


def check_whole(path: Path, name: str, kind: str) -> None:
    """Raise ExportError for a tensor of other numbers than floats, unless it is known what it is for."""
    if not re.fullmatch(WHOLE, name) and not is_ignored(name):
        raise ExportError(
            f"{path}: the tensor {name!r} holds numbers of type {kind}: weights are floats of 16, 32 or 64 bits. "
            "If these are quantised weights, take the checkpoint that they were made from; if nothing depends on the "
            f"tensor, leave it out of account: --ignore {name}",
            code="unknown_name",
            path=path,
            name=name,
        )


def check_shard(index: Path, listed: Mapping[str, str], file: Path, found: Collection[str]) -> None:
    """Raise ExportError where a shard holds other tensors than the index says."""
    here = {name for name, shard in listed.items() if shard == file.name}
    for name in sorted(here - set(found)):
        if not re.fullmatch(WHOLE, name) and not is_ignored(name):
            raise ExportError(f"{file} has no tensor {name!r}, which {index.name} says is there", path=file, name=name)
    for name in sorted(set(found) - here):
        if not is_ignored(name):
            where = f"says is in {listed[name]}, so it is there twice" if name in listed else "does not name"
            raise ExportError(
                f"{file}: the tensor {name!r} is one that {index.name} {where}",
                code="unknown_name",
                path=file,
                name=name,
            )


def harmless_of_adapter(name: str, value: object) -> bool:
    """Whether a key of adapter_config.json is read here, says how it was trained, or is switched off."""
    if name == "init_lora_weights":  # these take a part out of the model's own weights first
        return not str(value).startswith(("pissa", "olora", "corda", "loftq", "lora_ga"))
    known = name in HARMLESS["adapter_config.json"] or not value
    return known or is_ignored(name)


# What the caller of an export says is not to be accounted for, and which of it was in the way. In a context, because
# files are read in many places and none of them should have to hand this on.
_ignored: ContextVar[dict[str, bool] | None] = ContextVar("ignored", default=None)


@contextmanager
def ignoring(names: Iterable[str]) -> Iterator[None]:
    """While this lasts, tensors and keys of these names are left out of account."""
    token = _ignored.set(dict.fromkeys(names, False))
    try:
        yield
    finally:
        _ignored.reset(token)


def is_ignored(name: str) -> bool:
    """Whether a tensor or key that is about to be refused is to be left out of account; it counts as used then."""
    ignored = _ignored.get()
    if ignored is None or name not in ignored:
        return False
    ignored[name] = True
    return True


def check_ignored() -> list[str]:
    """What to note of names that were ignored. Raises InputError for one that was nowhere in the way."""
    ignored = _ignored.get() or {}
    idle = [name for name, used in ignored.items() if not used]
    if idle:
        raise InputError(
            f"there is nothing to ignore under the name {idle[0]!r:.80}: no tensor or key of this name is refused",
            option="ignore",
            value=shown(idle[0]),
        )
    return [f"left out of account, as was asked: {', '.join(ignored)}"] if ignored else []
