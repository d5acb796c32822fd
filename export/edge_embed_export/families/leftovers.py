"""What may be left over when a family has read its checkpoint: which tensors and keys change no vector of a text, and
why. Everything else is refused by its name.

Sources: the configuration and model classes of transformers 4.57 and 5.24, and for models with code of their own that
code.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge_embed_export.files.accounting import HARMLESS, Accounted, Keys, held, is_ignored, refuse_tensors, words
from edge_embed_export.sources.checkpoint import Checkpoint
from edge_embed_export.sources.purpose import SCORING
from edge_embed_runtime.errors import ExportError
from edge_embed_runtime.vectors.kinds import DENSE, KINDS, MULTI, Kind

BERT = ("bert", "jina_bert", "nomic_bert", "ernie", "megatron-bert")
ROBERTA = (
    *("roberta", "xlm-roberta", "camembert", "jina_embeddings_v3", "mpnet"),
    *("data2vec-text", "roberta-prelayernorm", "xlm-roberta-xl"),
)
DEBERTA = ("deberta", "deberta-v2")
GTE = ("new", "gte")
T5 = ("t5", "mt5", "umt5", "codet5p_embedding")
DECODERS = (
    *("mistral", "ministral", "qwen2", "qwen3", "llama", "llama_bidirec", "gemma", "gemma2", "gemma3_text"),
    *("nvembed", "eurobert", "ultrabert"),
)

# Text towers, and folders of both towers.
CLIP = ("clip", "clip_text_model", "metaclip_2", "metaclip_2_text_model")
CLAP = ("clap", "clap_text_model", "clap_audio_model")
SIGLIP = ("siglip", "siglip_text_model")
BLIP = ("blip-2",)
OPEN_CLIP = ("open_clip",)
BERT_TOWERS = ("chinese_clip", "altclip")
TOWERS = (*CLIP, *SIGLIP, *BLIP, *OPEN_CLIP, *BERT_TOWERS)
DINO = ("dinov2", "dinov2_with_registers")


@dataclass(frozen=True)
class Spare:
    """Tensors that change no vector.

    names:  a regular expression of the whole name
    types:  values of `model_type`; none means all
    same:   the name of a tensor that they must equal to be spare, as a replacement for `names`
    kinds:  of what kind the model must be exported: a sparse model needs the head of its masked language model
    scores: they belong to a model that scores texts, whose encoder is wanted
    """

    names: str
    types: tuple[str, ...] = ()
    same: str | None = None
    kinds: tuple[Kind, ...] = (DENSE, MULTI)
    scores: bool = False


ALL = tuple(KINDS.values())
LINEAR = r"(weight|bias)"
SPARE: tuple[Spare, ...] = (
    # The pooler: a layer and tanh on the first token, for classes. No folder of sentence-transformers asks for it:
    # where one does (module_output_name), its reader refuses.
    Spare(rf"(\w+\.)?pooler\.dense\.{LINEAR}", (*BERT, *ROBERTA, *DEBERTA, *GTE), kinds=ALL),
    Spare(rf"(albert\.)?pooler\.{LINEAR}", ("albert",), kinds=ALL),
    # Angles of rotary embedding, which transformers computes from config.json whatever the file says.
    Spare(r"(\w+\.)*rotary_emb\.(original_)?inv_freq", kinds=ALL),
    # Heads of masked language models. What follows them in a sparse model is read before.
    Spare(rf"cls\.predictions\.(bias|decoder\.{LINEAR}|transform\.(dense|LayerNorm)\.{LINEAR})", (*BERT, *DEBERTA)),
    Spare(rf"cls\.seq_relationship\.{LINEAR}", BERT, kinds=ALL),
    Spare(rf"lm_head\.(bias|(dense|layer_norm|decoder)\.{LINEAR})", ROBERTA),
    Spare(rf"vocab_(transform|layer_norm|projector)\.{LINEAR}", ("distilbert",)),
    Spare(rf"(head\.(dense|norm)|decoder)\.{LINEAR}", ("modernbert",)),
    Spare(rf"predictions\.(bias|(LayerNorm|dense|decoder)\.{LINEAR})", ("albert",)),
    Spare(rf"sop_classifier\.classifier\.{LINEAR}", ("albert",)),
    Spare(rf"generator_(predictions\.(LayerNorm|dense)|lm_head)\.{LINEAR}", ("electra",)),
    Spare(rf"discriminator_predictions\.(dense|dense_prediction)\.{LINEAR}", ("electra",)),
    Spare(rf"lm_predictions\.lm_head\.(bias|(dense|LayerNorm)\.{LINEAR})", DEBERTA),
    Spare(rf"mask_predictions\.(dense|LayerNorm|classifier)\.{LINEAR}", DEBERTA),
    Spare(rf"lm_head\.(dense|norm|decoder)\.{LINEAR}", GTE),
    # What a decoder makes words of, often its table of tokens once more.
    Spare(rf"(model\.|embedding_model\.)?lm_head\.{LINEAR}", DECODERS),
    # T5: the half that writes, and the table of tokens under its other names.
    Spare(r"decoder\.(block|final_layer_norm)\..+", T5),
    Spare(r"lm_head\.weight", T5),
    Spare(r"(?:encoder|decoder)\.embed_tokens\.weight", T5, same="shared.weight"),
    # The head that scores a picture and a text read together.
    Spare(rf"itm_head\.{LINEAR}", BLIP),
    # What looks at pictures, of a folder without an image tower.
    Spare(r"query_tokens|qformer\.encoder\.layer\.\d+\.(crossattention|intermediate_query|output_query)\..+", BLIP),
    # What stands in the place of patches that a model was trained to guess.
    Spare(r"(\w+\.)?embeddings\.mask_token", DINO, kinds=ALL),
    # What writes captions.
    Spare(r"text_decoder\..+", OPEN_CLIP, kinds=ALL),
    # What a picture model's similarities are multiplied by and moved by, which changes no order.
    Spare(r"logit_(scale|bias)", TOWERS, kinds=ALL),
    Spare(r"logit_scale_[at]", CLAP, kinds=ALL),
    # Whisper's half that writes.
    Spare(r"((model\.)?decoder\..+|proj_out\.weight)", ("whisper",), kinds=ALL),
    # Heads of classifiers and cross-encoders.
    Spare(rf"((pre_)?classifier(\.(dense|out_proj))?|score|qa_outputs)\.{LINEAR}", scores=True),
)

# Keys that an architecture's own code does not read, or that say how large tensors are; by `model_type`, or by
# `position_embedding_type` where that makes another model of it (alibi: Jina v2, rotary: Jina v3).
_BERT = "max_position_embeddings type_vocab_size "
_T5 = "is_decoder is_encoder_decoder n_positions num_decoder_layers scale_decoder_outputs "
OF_FAMILY: dict[str, frozenset[str]] = {
    "alibi": words("hidden_act"),  # feed_forward_type names it
    # prompts and adapters are read where a task is chosen
    "rotary": words("lora_alpha lora_rank task_instructions"),
    "bert": words(_BERT + "directionality model_max_length"),
    **dict.fromkeys((*ROBERTA, "electra", "megatron-bert"), words(_BERT)),
    "ernie": words(_BERT + "task_type_vocab_size"),
    # the table of positions is in the file, whatever made it
    "distilbert": words("max_position_embeddings sinusoidal_pos_embds"),
    "albert": words(
        _BERT + "embedding_size down_scale_factor gap_size layers_to_keep net_structure_type num_memory_blocks"
    ),
    **dict.fromkeys(DEBERTA, words("legacy padding_idx")),
    # norm_eps and rotary positions are what it reads; the published files have these as well
    "modernbert": words("layer_norm_eps position_embedding_type"),
    # of GPT-2's configuration, which the code does not read
    "nomic_bert": words(
        "dense_seq_output ffn_div moe_impl reorder_and_upcast_attn scale_attn_by_inverse_layer_idx scale_attn_weights "
        "max_trained_positions"
    ),
    **dict.fromkeys(GTE, words("logn_attention_clip1 type_vocab_size")),
    **dict.fromkeys(("t5", "mt5", "umt5"), words(_T5)),
    "codet5p_embedding": words(_T5 + "embed_dim"),
    # where layer_types says which layers have windows, this is not asked
    **dict.fromkeys(("qwen2", "qwen3"), words("max_window_layers")),
    # hidden_activation is what they read; the published files have the other as well
    "gemma2": words("cache_implementation hidden_act sliding_window_size"),
    "eurobert": words("clf_pooling hidden_dropout mask_token"),
    "ultrabert": words("prediction_head_size"),
    "llama": words("layer_types sliding_window"),  # the library gives it no windows
    "gemma3_text": words("hidden_act sliding_window_pattern _sliding_window_pattern"),
    # Sizes of tensors; vectors are normalised anyway. The code asks for neither add_eos nor mask_type: an end token is
    # put behind every text, and every token sees all. is_mask_instruction and padding_side: see prompts.left_out
    "nvembed": words(
        "add_eos add_pad_token hidden_dim hidden_size is_mask_instruction latent_dim mask_type mult num_latents_value "
        "output_normalize padding_side"
    ),
}
OF_FAMILY |= {
    # who reads no image tower has tensors of it left
    **dict.fromkeys(CLIP, words("logit_scale_init_value max_position_embeddings projection_dim vision_config")),
    **dict.fromkeys(SIGLIP, words("max_position_embeddings vision_config")),
    **dict.fromkeys(
        BERT_TOWERS,
        words(
            "logit_scale_init_value max_position_embeddings project_dim projection_dim type_vocab_size vision_config"
        ),
    ),
    # what tensors there are, and how large, the file shows; the front end is read from its own file
    **dict.fromkeys(
        DINO,
        words(
            "apply_layernorm drop_path_rate image_size layerscale_value mlp_ratio num_register_tokens out_features "
            "out_indices reshape_hidden_states stage_names use_mask_token"
        ),
    ),
    "open_clip": words(
        "attn_pooler_queries custom_text init_logit_bias init_logit_scale ls_init_value mlp_ratio "
        "multimodal_cfg nonscalar_logit_scale output_tokens patch_dropout pos_embed_type preprocess_cfg timm_drop "
        "timm_drop_path timm_model_pretrained"
    ),
    # the language model that writes captions is not in the models that compare; the towers count the queries that they
    # have, and say how wide what they look at is
    "blip-2": words(
        "cross_attention_frequency encoder_hidden_size image_token_id image_token_index max_position_embeddings "
        "num_query_tokens text_config use_decoder_only_language_model vision_config"
    ),
}
# Sizes of tensors, training, and of the whole model what its two halves repeat.
OF_FAMILY |= dict.fromkeys(
    CLAP,
    words(
        _BERT + "aff_block_r drop_path_rate fusion_hidden_act fusion_num_hidden_layers hidden_size initializer_factor "
        "logit_scale_init_value num_classes num_hidden_layers projection_dim projection_hidden_act"
    ),
)
# Of texts, which it would write; how it was trained.
OF_FAMILY["whisper"] = words(
    "activation_dropout apply_spec_augment begin_suppress_tokens classifier_proj_size decoder_attention_heads "
    "decoder_ffn_dim decoder_layerdrop decoder_layers decoder_start_token_id encoder_layerdrop forced_decoder_ids "
    "init_std is_encoder_decoder mask_feature_length mask_feature_min_masks mask_feature_prob mask_time_length "
    "mask_time_min_masks mask_time_prob max_length max_target_positions median_filter_width num_hidden_layers "
    "suppress_tokens use_weighted_layer_sum"
)
OF_FAMILY["jina_bert"] = OF_FAMILY["bert"]

# Values under which keys change nothing, where no family reads them. null is such a value of every key.
NEUTRAL: dict[str, tuple[object, ...]] = {
    "add_cross_attention": (False,),
    "add_pooling_layer": (False, True),
    "adapters": ({}, {"adapters": {}}),
    "causal": (False,),
    "emb_pooler": ("mean",),
    "is_causal": (False,),
    "is_decoder": (False,),
    "is_encoder_decoder": (False,),
    "load_trained_adapters": (True,),
    "parallel_block_tied_norm": (False,),
    "position_embedding_type": ("absolute",),
    "pruned_heads": ({},),
    "tie_encoder_decoder": (False,),
    "use_bidirectional_attention": (False,),
    "use_mrope": (False,),
    "use_reg_tokens": (False,),
}


def _is(name: str) -> Callable[[Keys], object]:
    return lambda config: config.peek(name)


def _head_size(config: Keys) -> object:
    hidden, heads = config.peek("hidden_size"), config.peek("num_attention_heads")
    return hidden // heads if isinstance(hidden, int) and isinstance(heads, int) and heads > 0 else None


def _forward(config: Keys) -> list[str]:
    """T5's feed_forward_proj in its parts: ["gated", "gelu_new"]."""
    usual = "relu" if config.peek("model_type") in ("t5", "codet5p_embedding") else "gated-gelu"
    named = str(config.peek("feed_forward_proj") or usual)
    return ["gated", "gelu_new"] if named == "gated-gelu" else named.split("-")


# Keys that repeat what others say, by `model_type`, where no family reads them: what their values must be then.
_T5_REPEATED: dict[str, Callable[[Keys], object]] = {
    "hidden_size": _is("d_model"),
    "num_attention_heads": _is("num_heads"),
    "num_hidden_layers": _is("num_layers"),
    "head_dim": _is("d_kv"),
    "dense_act_fn": lambda config: _forward(config)[-1],
    "is_gated_act": lambda config: _forward(config)[0] == "gated",
}
REPEATED: dict[str, dict[str, Callable[[Keys], object]]] = {
    "": {"head_dim": _head_size, "attention_head_size": _head_size},  # of all others
    "distilbert": {
        "hidden_size": _is("dim"),
        "num_attention_heads": _is("n_heads"),
        "num_hidden_layers": _is("n_layers"),
    },
    "nomic_bert": {
        "hidden_size": _is("n_embd"),
        "num_attention_heads": _is("n_head"),
        "num_hidden_layers": _is("n_layer"),
        "max_position_embeddings": _is("n_positions"),
        "head_dim": _head_size,
    },
    **dict.fromkeys(T5, _T5_REPEATED),
}

ADVICE = {
    "quantization_config": "the weights are quantised: take the checkpoint that they were made from",
    "pruned_heads": "heads were taken out: save the model as it is then, with its numbers of heads",
}


def account(checkpoint: Checkpoint) -> None:
    """Raise ExportError for a tensor or key of a checkpoint that its family did not read, and that is not harmless."""
    kind = checkpoint.architecture
    config = checkpoint.config if isinstance(checkpoint.config, Keys) else Keys(checkpoint.config)
    for path, value in config.unread():
        if not _is_harmless(config, kind, path, value) and not is_ignored(".".join(path)):
            raise _unknown_key(checkpoint.folder / "config.json", kind, path, value)
    if isinstance(checkpoint.tensors, Accounted):
        unread = [name for name in checkpoint.tensors.unread() if not _is_spare(checkpoint, name)]
        refuse_tensors(checkpoint.folder, checkpoint.tensors, unread, f"a {kind} model as it is known here")


def _unknown_key(file: Path, kind: str, path: tuple[str, ...], value: object) -> ExportError:
    name = ".".join(path)
    why = (
        f"it is not known for {kind} models, and may change what they compute; if it does not, leave it out of account"
    )
    advice = ADVICE.get(path[-1], f"{why}: --ignore {name}")
    return ExportError(
        f"{file}: the key {name!r} is {value!r:.60}: {advice}", code="unknown_name", path=file, name=name
    )


def _is_harmless(config: Keys, kind: str, path: tuple[str, ...], value: object) -> bool:
    *outer, last = path
    if value is None or value in NEUTRAL.get(last, ()):
        return True
    if any(part.startswith("rope_") for part in outer):  # of positions everything counts
        return last == "type" and config.peek(*outer, "rope_type") == value
    if any(part in HARMLESS["config.json"] for part in path):
        return True
    inner = config.peek(*outer)
    kinds = kind, str(inner.peek("model_type")).removeprefix("bidir_"), str(config.peek("position_embedding_type"))
    if any(last in OF_FAMILY.get(known, ()) for known in kinds):
        return True
    repeated = REPEATED.get(kind, REPEATED[""]).get(last)
    return repeated is not None and repeated(inner) == value


def _is_spare(checkpoint: Checkpoint, name: str) -> bool:
    tensors = held(checkpoint.tensors)
    for spare in _rows(checkpoint):
        found = re.fullmatch(spare.names, name)
        if found and spare.same is None:
            return True
        if found and spare.same is not None and spare.same in tensors:
            return np.array_equal(np.asarray(tensors[name]), np.asarray(tensors[spare.same]))
    return False


def _rows(checkpoint: Checkpoint) -> Iterator[Spare]:
    """The rows of SPARE that are for a checkpoint."""
    named = checkpoint.config.get("architectures")  # harmless, whoever asks
    scores = any(SCORING.search(str(name)) for name in (named if isinstance(named, list) else ()))
    for spare in SPARE:
        of_type = not spare.types or checkpoint.architecture in spare.types
        if of_type and checkpoint.head.kind in spare.kinds and (scores or not spare.scores):
            yield spare
