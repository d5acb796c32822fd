"""accounting.py, leftovers.py, owncode.py: nothing of a folder is passed over.

Of every family's small model each tensor is taken away, and tensors and keys that nobody knows are added: all are
refused by their names."""

import json
import re
from collections import ChainMap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders.architectures import HIDDEN, MODELS, Model, write
from builders.bert import Checkpoints
from builders.checkpoints import read_checkpoint
from builders.heads import rewrite, sparse_folder
from click.testing import CliRunner
from safetensors.numpy import load_file, save_file

from edge_embed.cli.main import main
from edge_embed.errors import EdgeEmbedError, ExportError, InputError, SourceError, UnsupportedModelError
from edge_embed_export import export_model
from edge_embed_export.elmo.reading import read_elmo
from edge_embed_export.families.known import read_family
from edge_embed_export.files.accounting import Accounted, Keys, check_ignored, held, ignoring, refuse_unknown
from edge_embed_export.files.tensors import read_tensors, read_weights
from edge_embed_export.modules.folder import Folder
from edge_embed_export.sources.checkpoint import Checkpoint
from edge_embed_export.sources.folding import fold_adapter
from edge_embed_export.static.sources import read_static

pytestmark = pytest.mark.usefixtures("short_receipt")
Array = np.ndarray[Any, Any]
# Model and options: Jina v3 is another one with a task.
CASES: list[tuple[str, dict[str, Any]]] = [(name, make().options) for name, make in MODELS.items()] + [("jina_v3", {})]


def read(folder: Path, **options: Any) -> Checkpoint:
    """The checkpoint, and no family has read anything of it."""
    return read_checkpoint(folder, **options)


def changed(checkpoint: Checkpoint, tensors: Mapping[str, Array] | None = None, **config: Any) -> Checkpoint:
    """The same with other tensors, and more keys in config.json."""
    return replace(
        checkpoint,
        tensors=Accounted(dict(held(checkpoint.tensors) if tensors is None else tensors)),
        config=Keys({**plain(checkpoint.config), **config}),
    )


def plain(keys: Any) -> Any:
    """Keys as plain dicts."""
    return {name: plain(value) for name, value in dict(keys).items()} if isinstance(keys, dict) else keys


@pytest.fixture
def model(tmp_path: Path) -> Callable[..., tuple[Model, Checkpoint]]:
    def make(name: str, **options: Any) -> tuple[Model, Checkpoint]:
        found = MODELS[name]()
        return found, read(write(found, tmp_path / name), **options)

    return make


Models = Callable[..., tuple[Model, Checkpoint]]


def refused(checkpoint: Checkpoint, name: str) -> None:
    """The message has the name, with or without what stands before all names of the file."""
    with pytest.raises(ExportError) as caught:
        read_family(checkpoint)
    said = str(caught.value)
    assert any(f"'{name[start:]}'" in said for start in starts(name)), (name, said)


def starts(name: str) -> Iterator[int]:
    yield 0
    yield from (i + 1 for i, letter in enumerate(name) if letter == ".")


@pytest.mark.parametrize(("name", "options"), CASES)
def test_every_tensor_counts(model: Models, name: str, options: dict[str, Any]) -> None:
    """A checkpoint without any one of its tensors is refused, and the message has its name."""
    made, checkpoint = model(name, **options)
    read_family(checkpoint)
    for lost in made.tensors:
        kept = {key: array for key, array in made.tensors.items() if key != lost}
        refused(changed(checkpoint, kept), lost)


def unknown_names(tensors: Mapping[str, Array]) -> list[str]:
    """Names that no model of these has: at the top, in each module, beside each tensor."""
    modules = {name.rsplit(".", depth)[0] for name in tensors for depth in (1, 2) if name.count(".") >= depth}
    wild = ["extra.weight", "extra", *(f"{module}.q_norm.weight" for module in sorted(modules))]
    biases = [f"{name.removesuffix('weight')}bias" for name in tensors if name.endswith(".weight")]
    return [name for name in [*wild, *biases] if name not in tensors]


@pytest.mark.parametrize(("name", "options"), CASES)
def test_no_tensor_is_passed_over(model: Models, name: str, options: dict[str, Any]) -> None:
    """One that nothing reads is refused by its name, wherever it stands: another norm, a bias, another layer."""
    made, checkpoint = model(name, **options)
    names = unknown_names(made.tensors)
    assert len(names) > 8
    for added in names:
        refused(changed(checkpoint, {**made.tensors, added: np.ones(HIDDEN, np.float32)}), added)


UNKNOWN: dict[str, Any] = {
    "attention_temperature": 2.0,
    "use_parallel_residual": True,
    "no_bias": False,
    "logit_scale": 0.5,
    "partial_rotary_factor": 0.5,
    "residual_multiplier": 2,
    "quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True},
    "pruned_heads": {"0": [1]},
    "talking_head": True,
    "a.dotted.key": 1,
}


@pytest.mark.parametrize("name", MODELS)
def test_no_key_is_passed_over(model: Models, name: str) -> None:
    """A key of config.json that may change what is computed is refused with its value; null is none."""
    _, checkpoint = model(name)
    for key, value in UNKNOWN.items():
        with pytest.raises(ExportError, match=rf"\b{re.escape(key)}\b"):
            read_family(changed(checkpoint, **{key: value}))
        read_family(changed(checkpoint, **{key: None}))
    inner = {key: value for key, value in plain(checkpoint.config).items() if isinstance(value, dict)}
    for key, value in inner.items():
        if key in ("task_instructions", "auto_map"):
            continue
        with pytest.raises(ExportError, match=rf"{key}\.unknown'? is 3"):
            read_family(changed(checkpoint, **{key: {**value, "unknown": 3}}))


# Keys and tensors that models of all kinds have and that change nothing.
IDLE_KEYS = {
    "id2label": {"0": "LABEL_0"},
    "initializer_range": 0.02,
    "torch_dtype": "float32",
    "transformers_version": "4.57.6",
    "use_cache": True,
    "is_decoder": False,
    "pruned_heads": {},
    "tie_word_embeddings": True,
    "quantization_config": None,
}
HEADS: dict[str, list[str]] = {
    "bert": ["pooler.dense.weight", "cls.predictions.bias", "cls.seq_relationship.weight"],
    "roberta": ["pooler.dense.bias", "lm_head.layer_norm.weight", "lm_head.decoder.bias"],
    "xlm_roberta": ["roberta.pooler.dense.weight", "lm_head.bias"],
    "distilbert": ["vocab_transform.weight", "vocab_projector.bias"],
    "albert": ["pooler.weight", "predictions.LayerNorm.bias", "sop_classifier.classifier.bias"],
    "electra": ["discriminator_predictions.dense_prediction.weight", "generator_lm_head.bias"],
    "mpnet": ["pooler.dense.weight", "lm_head.dense.weight"],
    "deberta": ["lm_predictions.lm_head.bias", "mask_predictions.classifier.weight", "pooler.dense.bias"],
    "modernbert": ["head.dense.weight", "decoder.bias"],
    "gte": ["new.pooler.dense.weight", "lm_head.norm.bias"],
    "t5": ["lm_head.weight", "decoder.block.0.layer.1.EncDecAttention.q.weight"],
    "qwen2": ["lm_head.weight"],
    "llama": ["layers.0.self_attn.rotary_emb.inv_freq"],
    "jina_v3": ["roberta.pooler.dense.weight"],
}


@pytest.mark.parametrize("name", MODELS)
def test_harmless_keys_and_heads_change_nothing(model: Models, name: str) -> None:
    """What a table lists leaves the weights as they are; of another family it is refused."""
    made, checkpoint = model(name)
    spec, weights = read_family(changed(checkpoint, made.tensors))
    heads = dict.fromkeys(HEADS.get(name, []), np.ones(3, np.float32))
    same, others = read_family(changed(checkpoint, {**made.tensors, **heads}, **IDLE_KEYS))
    assert same == spec
    assert weights.keys() == others.keys()
    assert all(np.array_equal(others[key], weights[key]) for key in weights)
    foreign = "vocab_transform.weight" if name != "distilbert" else "cls.predictions.bias"
    refused(changed(checkpoint, {**made.tensors, foreign: np.ones(3, np.float32)}), foreign)


# Keys of published models' config.json besides those of the small models here.
PUBLISHED: dict[str, dict[str, Any]] = {
    "bert": {  # LaBSE, MiniLM
        **{
            "directionality": "bidi",
            "pooler_fc_size": 768,
            "pooler_num_attention_heads": 12,
            "pooler_num_fc_layers": 3,
        },
        **{"pooler_size_per_head": 128, "pooler_type": "first_token_transform", "gradient_checkpointing": False},
        **{"position_embedding_type": "absolute", "classifier_dropout": None, "hidden_dropout_prob": 0.1},
    },
    "xlm_roberta": {"output_past": True, "bos_token_id": 0, "attention_probs_dropout_prob": 0.1},
    "distilbert": {"tie_weights_": True, "sinusoidal_pos_embds": False, "qa_dropout": 0.1, "seq_classif_dropout": 0.2},
    "albert": {
        **{"down_scale_factor": 1, "gap_size": 0, "net_structure_type": 0, "num_memory_blocks": 0},
        **{"layers_to_keep": [], "classifier_dropout_prob": 0.1},
    },
    "electra": {"summary_activation": "gelu", "summary_last_dropout": 0.1, "summary_type": "first"},
    "deberta": {"pooler_dropout": 0, "pooler_hidden_act": "gelu", "pooler_hidden_size": 768, "legacy": True},
    "modernbert": {
        **{"layer_norm_eps": 1e-5, "position_embedding_type": "absolute", "decoder_bias": True, "mlp_dropout": 0.0},
        **{"classifier_pooling": "mean", "sparse_prediction": False, "sparse_pred_ignore_index": -100},
        **{"repad_logits_with_grad": False, "deterministic_flash_attn": False, "initializer_cutoff_factor": 2.0},
    },
    "nomic": {  # nomic-embed-text-v1.5
        **{"attn_pdrop": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0, "causal": False, "dense_seq_output": True},
        **{"fused_bias_fc": True, "fused_dropout_add_ln": True, "max_trained_positions": 2048, "use_xentropy": True},
        **{"pad_vocab_size_multiple": 64, "parallel_block": False, "parallel_block_tied_norm": False},
        **{"reorder_and_upcast_attn": False, "rotary_emb_interleaved": False, "rotary_emb_scale_base": None},
        **{"rotary_scaling_factor": None, "scale_attn_by_inverse_layer_idx": False, "scale_attn_weights": True},
        **{"summary_first_dropout": 0.0, "summary_proj_to_labels": True, "summary_use_proj": True},
        **{"summary_type": "cls_index", "use_flash_attn": True},
        "auto_map": {"AutoConfig": "nomic-ai/nomic-bert-2048--configuration_hf_nomic_bert.NomicBertConfig"},
    },
    "nomic_moe": {  # nomic-embed-text-v2-moe
        **{"add_pooling_layer": False, "expert_choice_router": False, "ffn_div": 1, "moe_impl": "megablocks"},
        **{"moe_normalize_expert_weights": False, "moe_resid_pdrop": 0.0, "num_shared_experts": 0},
        "router_aux_loss_coef": 0.1,
    },
    "jina_v2": {"model_max_length": 8192, "emb_pooler": "mean", "attn_implementation": None},
    "jina_v3": {
        **{"emb_pooler": "mean", "load_trained_adapters": True, "lora_dropout_p": 0.0, "output_past": True},
        **{"lora_main_params_trainable": False, "matryoshka_dimensions": [16, 8], "truncate_dim": None},
        **{"use_flash_attn": True, "use_reentrant": False},
    },
    "gte": {  # gte-multilingual-base
        **{"logn_attention_clip1": False, "logn_attention_scale": False, "unpad_inputs": True},
        **{"use_memory_efficient_attention": True, "attention_probs_dropout_prob": 0.0},
    },
    "t5": {
        **{"dense_act_fn": "gelu_new", "is_gated_act": True, "is_encoder_decoder": True, "num_decoder_layers": 2},
        **{"n_positions": 512, "output_past": True, "classifier_dropout": 0.0, "dropout_rate": 0.1},
        **{"initializer_factor": 1.0, "task_specific_params": {"summarization": {"prefix": "summarize: "}}},
    },
    "codet5p": {"is_encoder_decoder": False, "num_decoder_layers": 2, "is_gated_act": False},
    "qwen2": {  # gte-Qwen2-1.5B-instruct
        **{"is_causal": False, "use_sliding_window": False, "max_window_layers": 28, "sliding_window": None},
        **{"attention_dropout": 0.0, "use_mrope": False},
        "auto_map": {"AutoModel": "modeling_qwen.Qwen2Model", "AutoModelForCausalLM": "modeling_qwen.Qwen2ForCausalLM"},
    },
    "llama": {"pretraining_tp": 1, "attention_bias": False, "mlp_bias": False},
    "nvembed": {  # NV-Embed-v2
        **{"add_eos": True, "add_pad_token": True, "is_mask_instruction": True, "mask_type": "b"},
        **{"hidden_size": 4096, "padding_side": "right"},
        "auto_map": {"AutoConfig": "configuration_nvembed.NVEmbedConfig", "AutoModel": "modeling_nvembed.NVEmbedModel"},
    },
    "gemma3": {"_sliding_window_pattern": 6, "attention_bias": False, "final_logit_softcapping": None},
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_models_are_not_refused(model: Models, name: str) -> None:
    """Their config.json files have keys of training, of other heads and of other code."""
    _, checkpoint = model(name)
    read_family(changed(checkpoint, **PUBLISHED[name]))


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("nomic", "causal", True),
        ("jina_v3", "emb_pooler", "cls"),
        ("jina_v3", "truncate_dim", 8),
        ("jina_v3", "load_trained_adapters", False),
        ("qwen2", "use_mrope", True),
        ("distilbert", "is_decoder", True),
        ("mpnet", "add_cross_attention", True),
        ("nomic", "parallel_block_tied_norm", True),
        ("mpnet", "position_embedding_type", "relative_key"),
    ],
)
def test_values_that_change_something(model: Models, name: str, key: str, value: object) -> None:
    """Keys that are harmless under one value are refused with another."""
    _, checkpoint = model(name)
    with pytest.raises(ExportError, match=rf"{key}\W.*{value}"):
        read_family(changed(checkpoint, **{key: value}))


def test_table_of_tokens_under_two_names(model: Models) -> None:
    """T5 stores it up to three times; another one under the second name is refused."""
    made, checkpoint = model("t5")
    table = made.tensors["shared.weight"]
    read_family(changed(checkpoint, {**made.tensors, "encoder.embed_tokens.weight": table}))
    refused(
        changed(checkpoint, {**made.tensors, "decoder.embed_tokens.weight": 2 * table}), "decoder.embed_tokens.weight"
    )


@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        ("bert", {"head_dim": 8}, {"head_dim": 16}),
        ("deberta", {"attention_head_size": 8}, {"attention_head_size": 4}),
        ("distilbert", {"hidden_size": 32, "num_hidden_layers": 2}, {"num_attention_heads": 2}),
        ("t5", {"dense_act_fn": "gelu_new", "is_gated_act": True, "hidden_size": 32}, {"dense_act_fn": "relu"}),
        ("t5_plain", {"dense_act_fn": "relu", "is_gated_act": False}, {"is_gated_act": True}),
    ],
)
def test_keys_that_repeat_others(model: Models, name: str, right: dict[str, Any], wrong: dict[str, Any]) -> None:
    """They must say the same."""
    _, checkpoint = model(name)
    read_family(changed(checkpoint, **right))
    refused(changed(checkpoint, **wrong), next(iter(wrong)))


def test_head_of_a_classifier(model: Models) -> None:
    """Its tensors are spare where the folder says that it is one, which `purpose` asks about."""
    made, checkpoint = model("bert")
    tensors = {**made.tensors, "classifier.weight": np.ones((1, HIDDEN), np.float32)}
    refused(changed(checkpoint, tensors), "classifier.weight")
    read_family(changed(checkpoint, tensors, architectures=["BertForSequenceClassification"]))


def test_own_code(model: Models) -> None:
    """auto_map is refused unless it names the classes that the family was written after, or it is to be ignored."""
    for name, known in (
        ("gte", "Alibaba-NLP/new-impl--modeling.NewModel"),
        ("nomic", "nomic-ai/nomic-bert-2048--modeling_hf_nomic_bert.NomicBertModel"),
        ("jina_v2", "jinaai/jina-bert-implementation--modeling_bert.JinaBertModel"),
        ("jina_v3", "jinaai/xlm-roberta-flash-implementation--modeling_lora.XLMRobertaLoRA"),
        ("nvembed", "modeling_nvembed.NVEmbedModel"),
        ("codet5p", "modeling_codet5p_embedding.CodeT5pEmbeddingModel"),
    ):
        _, checkpoint = model(name)
        read_family(changed(checkpoint, auto_map={"AutoModel": known}))
        with pytest.raises(UnsupportedModelError, match=r"auto_map.*x\.OtherModel.*never run.*--ignore auto_map"):
            read_family(changed(checkpoint, auto_map={"AutoModel": "x.OtherModel"}))
    _, checkpoint = model("bert")
    own = changed(checkpoint, auto_map={"AutoModel": "modeling_bert.JinaBertModel", "AutoTokenizer": ["x.Y", None]})
    with pytest.raises(UnsupportedModelError, match="JinaBertModel"):  # BERT with absolute positions is none
        read_family(own)
    with ignoring(["auto_map"]):
        read_family(own)
    _, checkpoint = model("qwen2")
    for said in ({"is_causal": False}, {"is_causal": True}):
        read_family(changed(checkpoint, auto_map={"AutoModel": "modeling_qwen.Qwen2Model"}, **said))
        with pytest.raises(UnsupportedModelError, match="OtherModel"):
            read_family(changed(checkpoint, auto_map={"AutoModel": "x.OtherModel"}, **said))


# reading of files


def test_quantised_weights_are_named(tmp_path: Path) -> None:
    """Whole numbers that stand for weights are no weights; positions are left out."""
    floats = {"x": np.ones(3, np.float32), "embeddings.position_ids": np.arange(4)}
    save_file(floats, tmp_path / "a.safetensors")
    assert list(read_tensors(tmp_path / "a.safetensors")) == ["x"]
    for name, array in (("q.weight", np.ones(3, np.int8)), ("q.weight_packed", np.ones(3, np.uint8))):
        save_file({**floats, name: array}, tmp_path / "a.safetensors")
        with pytest.raises(
            ExportError, match=rf"tensor '{name}' holds numbers of type [IU]8.*quantised.*--ignore {name}"
        ):
            read_tensors(tmp_path / "a.safetensors")
    with ignoring(["q.weight_packed"]):
        assert list(read_tensors(tmp_path / "a.safetensors")) == ["x"]


def shards(folder: Path, files: dict[str, list[str]], index: dict[str, str]) -> Path:
    folder.mkdir()
    for file, names in files.items():
        save_file({name: np.ones(2, np.float32) for name in names}, folder / file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    return folder


def test_shards_hold_what_their_index_says(tmp_path: Path) -> None:
    """A tensor in two shards, one that the index does not name, and one that no shard has."""
    files = {"1.safetensors": ["a"], "2.safetensors": ["b"]}
    index = {"a": "1.safetensors", "b": "2.safetensors"}
    assert sorted(read_weights(shards(tmp_path / "whole", files, index))[0]) == ["a", "b"]
    for number, (changes, said) in enumerate(
        (
            (
                {"2.safetensors": ["a", "b"]},
                "2.safetensors: the tensor 'a' .* is in 1.safetensors, so it is there twice",
            ),
            ({"2.safetensors": ["b", "c"]}, "2.safetensors: the tensor 'c' is one that .*index.json does not name"),
            ({"1.safetensors": ["d"]}, "1.safetensors has no tensor 'a', which .*index.json says is there"),
        )
    ):
        with pytest.raises(ExportError, match=said):
            read_weights(shards(tmp_path / str(number), {**files, **changes}, index))


def test_layer_norm_under_both_names(tmp_path: Path) -> None:
    """gamma is weight: of two one would be lost."""
    save_file(
        {f"x.LayerNorm.{name}": np.ones(2, np.float32) for name in ("gamma", "beta", "weight")},
        tmp_path / "model.safetensors",
    )
    with pytest.raises(ExportError, match=r"'x\.LayerNorm\.weight' is there twice"):
        read_weights(tmp_path)


def test_static_model_with_more_tensors(tmp_path: Path) -> None:
    """A table with something beside it is not taken for the table alone."""
    (tmp_path / "config.json").write_text('{"model_type": "model2vec"}')
    table = np.ones((25, 4), np.float32)
    save_file({"embeddings": table, "projection": table}, tmp_path / "model.safetensors")
    with pytest.raises(ExportError, match=r"the tensor 'projection' \[25, 4\] has no place in a model2vec model"):
        read_static(Folder(tmp_path))


def test_elmo_options(tmp_path: Path) -> None:
    """A key that is not known, in any of its parts."""
    cnn = {"activation": "relu", "embedding": {"dim": 4}, "filters": [[1, 4]], "n_highway": 1, "n_characters": 262}
    lstm = {"dim": 8, "n_layers": 2, "projection_dim": 4}
    for part, named in ((cnn, "char_cnn.pooling"), (lstm, "lstm.peepholes")):
        part[named.split(".")[1]] = "on"
        (tmp_path / "options.json").write_text(json.dumps({"char_cnn": cnn, "lstm": lstm}))
        with pytest.raises(ExportError, match=rf"options\.json: the key '{named}' \('on'\) is not known"):
            read_elmo(tmp_path)
        del part[named.split(".")[1]]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("layer_replication", [[0, 2]]),
        ("use_qalora", True),
        ("lora_bias", True),
        ("bias", "all"),
        ("init_lora_weights", "pissa"),
    ],
)
def test_adapter_keys(tmp_path: Path, key: str, value: object) -> None:
    """What makes another sum of an adapter is refused; how it was trained is not asked."""
    tensors = {"a.weight": np.zeros((4, 6), np.float32)}
    pair = {"a.lora_A.weight": np.ones((2, 6), np.float32), "a.lora_B.weight": np.ones((4, 2), np.float32)}
    save_file(
        {f"base_model.model.{name}": array for name, array in pair.items()}, tmp_path / "adapter_model.safetensors"
    )
    config = {
        "peft_type": "LORA",
        "r": 2,
        "lora_alpha": 4,
        "lora_dropout": 0.1,
        "bias": "none",
        "target_modules": ["a"],
    }
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    assert fold_adapter(tensors, tmp_path)["a.weight"][0, 0] == 4
    (tmp_path / "adapter_config.json").write_text(json.dumps({**config, key: value}))
    with pytest.raises(ExportError, match=key):
        fold_adapter(tensors, tmp_path)


def test_head_of_a_sparse_model_is_whole(checkpoint: Checkpoints) -> None:
    """Each of its tensors counts; a bias under two names must be one."""
    source = sparse_folder(checkpoint())
    stored = load_file(source / "model.safetensors")
    for lost in [name for name in stored if name.startswith("cls.")]:
        save_file({name: array for name, array in stored.items() if name != lost}, source / "model.safetensors")
        with pytest.raises(ExportError, match="head of a masked language model" if "dense.weight" in lost else lost):
            read_family(read(source))
    rewrite(source, stored)
    bias = stored["cls.predictions.bias"]
    rewrite(source, {"cls.predictions.decoder.bias": bias})
    read_family(read(source))
    rewrite(source, {"cls.predictions.decoder.bias": bias + 1})
    with pytest.raises(ExportError, match=r"'cls.predictions.bias' and 'cls.predictions.decoder.bias' differ"):
        read_family(read(source))
    rewrite(source, {"cls.predictions.decoder.bias": bias})
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": False}))
    with pytest.raises(ExportError, match=r"no tensor 'cls.predictions.decoder.weight'"):
        read_family(read(source))


# what the caller says


def test_ignored_names(checkpoint: Checkpoints, tmp_path: Path) -> None:
    """A tensor and a key are left out of account where asked; the bundle says so and is the same otherwise."""
    source = checkpoint()
    export_model(source, tmp_path / "plain", precision="fp32", name="x")
    rewrite(source, {"adapter.scale": np.ones(3, np.float32)})
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps({**config, "novel_key": 7}))
    command = ["export", str(source), str(tmp_path / "out"), "--precision", "fp32", "--name", "x"]
    for said in ("novel_key", "adapter.scale"):
        run = CliRunner().invoke(main, command)
        assert run.exit_code == 1
        assert f"--ignore {said}" in run.output
        command += ["--ignore", said]
    run = CliRunner().invoke(main, command)
    assert run.exit_code == 0, run.output
    assert "left out of account, as was asked: novel_key, adapter.scale" in run.output
    notes = json.loads((tmp_path / "out" / "manifest.json").read_text())["provenance"]["notes"]
    assert notes.endswith("left out of account, as was asked: novel_key, adapter.scale")
    assert (tmp_path / "out" / "model.onnx").read_bytes() == (tmp_path / "plain" / "model.onnx").read_bytes()
    with pytest.raises(ExportError, match="novel_key"):  # it holds for one export alone
        export_model(source, tmp_path / "again")


def test_adapters_hide_nothing(checkpoint: Checkpoints, tmp_path: Path) -> None:
    """Of a model with adapters kept apart an unknown tensor is refused as well."""
    source, adapter = checkpoint(), tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 1, "lora_alpha": 1}))
    name = "base_model.model.encoder.layer.0.output.dense.lora_{}.weight"
    inner = load_file(source / "model.safetensors")["encoder.layer.0.output.dense.weight"].shape[1]
    pair = {name.format("A"): np.ones((1, inner), np.float32), name.format("B"): np.ones((HIDDEN, 1), np.float32)}
    save_file(pair, adapter / "adapter_model.safetensors")
    rewrite(source, {"encoder.layer.0.output.gate": np.ones(3, np.float32)})
    for options in ({"adapter": adapter}, {"adapters": {"law": adapter}}):
        with pytest.raises(ExportError, match=r"'encoder\.layer\.0\.output\.gate' \[3\] has no place"):
            export_model(source, tmp_path / "out", **options)


def test_names_that_are_not_in_the_way(checkpoint: Checkpoints, tmp_path: Path) -> None:
    """Nothing of that name, or something that is read."""
    source = checkpoint()
    for name in ("nothing", "hidden_size", "embeddings.LayerNorm.bias"):
        with pytest.raises(InputError, match=f"nothing to ignore under the name '{name}'"):
            export_model(source, tmp_path / "out", ignore=[name])
    assert not (tmp_path / "out").exists()
    assert check_ignored() == []


def test_small_files(tmp_path: Path) -> None:
    """refuse_unknown: file, key and value, unless it is to be ignored."""
    with pytest.raises(EdgeEmbedError, match=r"x\.json: the key 'b' \(2\) is not known.*--ignore b"):
        refuse_unknown(Path("x.json"), {"a": 1, "b": 2}, {"a"})
    with ignoring(["b"]):
        refuse_unknown(Path("x.json"), {"a": 1, "b": 2}, {"a"})
        assert check_ignored() == ["left out of account, as was asked: b"]


def test_keys_remember_what_was_asked_for() -> None:
    """Also those of objects in them; a ChainMap asks for one, a copy for all."""
    keys = Keys({"a": 1, "b": {"c": 2, "d": {"e": 3}}, "f": 4})
    assert "a" in keys
    assert list(keys) == ["a", "b", "f"]
    assert keys.peek("b", "d", "e") == 3
    assert keys.peek("a", "x") is None
    assert dict(keys.unread()) == {("a",): 1, ("b",): {"c": 2, "d": {"e": 3}}, ("f",): 4}
    assert ChainMap({"z": 0}, keys)["a"] == 1
    assert keys["b"].get("c") == 2
    assert keys.get("missing") is None
    assert dict(keys.unread()) == {("b", "d"): {"e": 3}, ("f",): 4}
    assert isinstance(keys["b"], dict)
    assert {**keys} == {"a": 1, "b": {"c": 2, "d": {"e": 3}}, "f": 4}
    assert dict(keys.unread()) == {("b", "d"): {"e": 3}}


def test_a_folder_without_tokenizer_still_says_so(tmp_path: Path) -> None:
    """Accounting comes after what is missing."""
    with pytest.raises(SourceError, match="is missing"):
        read(tmp_path)
