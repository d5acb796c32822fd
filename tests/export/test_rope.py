"""Rotary positions: the same model in the words of transformers 4 and 5 is the same bundle; scalings; refusals."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders.architectures import MODELS, VOCAB, Model, decoder, write
from builders.bert import WORDS
from builders.checkpoints import read_checkpoint
from builders.reference import Reference, attend, base_angles, nomic, rotate, silu, split

from edge_embed import Embedder
from edge_embed.errors import ExportError
from edge_embed_export import export_model
from edge_embed_export.families.known import read_family

pytestmark = pytest.mark.usefixtures("short_receipt")

TEXTS = [" ".join(WORDS[i % len(WORDS)] for i in range(3 * n, 4 * n)) for n in (0, 1, 2, 6, 7, 8, 14, 21, 22)]
TRAINED = 8
SCALINGS: dict[str, dict[str, Any]] = {
    "default": {},
    "linear": {"rope_type": "linear", "factor": 4.0},
    "dynamic": {"rope_type": "dynamic", "factor": 3.0},
    "yarn": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": TRAINED, "beta_fast": 4.0},
    "yarn with scales": {
        "rope_type": "yarn",
        "factor": 4.0,
        "original_max_position_embeddings": TRAINED,
        "mscale": 0.7,
        "mscale_all_dim": 1.3,
        "beta_fast": 3.0,
        "beta_slow": 0.5,
        "truncate": False,
    },
    "llama3": {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": TRAINED,
    },
    "longrope": {
        "rope_type": "longrope",
        "short_factor": [1.0, 1.1, 1.2, 1.3, 1.4, 1.5],
        "long_factor": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
        "original_max_position_embeddings": TRAINED,
    },
}


def llama(**config: Any) -> Model:
    """A Llama of 16 tokens of context, whose texts may have 24."""
    merged, tensors = decoder("llama", max_position_embeddings=16, **config)
    return Model(merged, tensors)


def old(scaling: dict[str, Any]) -> dict[str, Any]:
    beside = {"original_max_position_embeddings": TRAINED} if scaling.get("rope_type") == "longrope" else {}
    return {"rope_theta": 5000.0, "rope_scaling": scaling or None, **beside}


def new(scaling: dict[str, Any]) -> dict[str, Any]:
    return {"rope_theta": None, "rope_parameters": {"rope_type": "default", "rope_theta": 5000.0, **scaling}}


def both_bundles(tmp_path: Path, one: Model, other: Model) -> tuple[str, str]:
    """Fingerprints of the bundles of two models."""
    sources = (write(one, tmp_path / "one"), write(other, tmp_path / "other"))
    first, second = (export_model(folder, tmp_path / f"{folder.name}.b", precision="fp32") for folder in sources)
    return first.fingerprint, second.fingerprint


@pytest.mark.parametrize("name", SCALINGS)
def test_both_spellings_are_one_bundle(tmp_path: Path, name: str) -> None:
    """rope_theta and rope_scaling, or rope_parameters."""
    first, second = both_bundles(tmp_path, llama(**old(SCALINGS[name])), llama(**new(SCALINGS[name])))
    assert first == second
    plain = export_model(write(llama(rope_theta=5000.0), tmp_path / "plain"), tmp_path / "plain.b", precision="fp32")
    assert (plain.fingerprint == first) == (name == "default")


def renamed(model: Model, take: dict[str, Any], *drop: str) -> Model:
    config = {name: value for name, value in model.config.items() if name not in drop}
    return Model({**config, **take}, model.tensors, model.pooling)


LAYERS = {
    "gemma3": (
        {
            "full_attention": {"rope_type": "default", "rope_theta": 1000000.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
        },
        ("rope_theta", "rope_local_base_freq"),
    ),
    "gemma3_causal": (
        {
            "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 10000.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
        },
        ("rope_theta", "rope_scaling"),
    ),
    "modernbert": (
        {
            "full_attention": {"rope_type": "default", "rope_theta": 160000.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
        },
        ("global_rope_theta", "local_rope_theta", "global_attn_every_n_layers"),
    ),
}


@pytest.mark.parametrize("name", LAYERS)
def test_spelling_of_each_kind_of_layers(tmp_path: Path, name: str) -> None:
    """Gemma 3 and ModernBERT, whose local layers have a base of their own: transformers 5 nests both."""
    parameters, dropped = LAYERS[name]
    model = MODELS[name]()
    kinds = {"layer_types": ["full_attention", "sliding_attention", "full_attention"]} if name == "modernbert" else {}
    first, second = both_bundles(tmp_path, model, renamed(model, {"rope_parameters": parameters, **kinds}, *dropped))
    assert first == second


def library_nomic() -> Model:
    """NomicBERT as transformers 5 has it: BERT's keys, layers apart."""
    model = MODELS["nomic"]()
    config = {
        "model_type": "nomic_bert",
        "vocab_size": VOCAB,
        "hidden_size": model.config["n_embd"],
        "num_hidden_layers": model.config["n_layer"],
        "num_attention_heads": model.config["n_head"],
        "intermediate_size": model.config["n_inner"],
        "max_position_embeddings": 40,
        "type_vocab_size": 2,
        "hidden_act": "silu",
        "layer_norm_eps": 1e-12,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1000.0},
    }
    names = {
        "encoder.layers": "layers",
        "emb_ln": "embeddings.LayerNorm",
        "attn.out_proj": "self_attn.o_proj",
        "fc11": "up_proj",
        "fc12": "gate_proj",
        "fc2": "down_proj",
        "norm1": "post_attention_layernorm",
        "norm2": "post_mlp_layernorm",
    }
    return Model(config, apart(model, "attn.Wqkv", names))


def apart(model: Model, fused: str, names: dict[str, str]) -> Any:
    """Tensors under the library's names, queries, keys and values in tensors of their own."""
    tensors = {}
    for stored, array in model.tensors.items():
        name = stored
        for theirs, ours in names.items():
            name = name.replace(theirs, ours)
        if f".{fused}." in name:
            for part, rows in zip("qkv", np.split(array, 3), strict=True):
                tensors[name.replace(fused, f"self_attn.{part}_proj")] = rows
        else:
            tensors[name] = array
    return tensors


def library_gte() -> tuple[Model, Model]:
    model = renamed(MODELS["gte"](), {"rope_scaling": None})
    config = {
        **{k: v for k, v in model.config.items() if k not in ("rope_theta", "rope_scaling", "position_embedding_type")},
        "model_type": "gte",
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
    }
    names = {
        "encoder.layer": "layers",
        "new.": "",
        "attention.o_proj": "self_attn.o_proj",
        "attn_ln": "post_attention_layernorm",
        "mlp_ln": "post_mlp_layernorm",
    }
    tensors = apart(model, "attention.qkv_proj", names)
    for name in [name for name in tensors if "up_gate_proj" in name]:
        both = np.split(tensors.pop(name), 2)
        tensors |= {name.replace("up_gate", part): rows for part, rows in zip(("up", "gate"), both, strict=True)}
    return model, Model(config, tensors, model.pooling)


def library_jina() -> tuple[Model, Model]:
    """Jina v3 without its adapters."""
    model = MODELS["jina_v3"]()
    plain = {
        name.replace(".parametrizations.weight.original", ".weight"): array
        for name, array in model.tensors.items()
        if ".lora_" not in name
    }
    own = {key: value for key, value in model.config.items() if not key.startswith(("lora_", "task_"))}
    config = {k: v for k, v in own.items() if k not in ("position_embedding_type", "rotary_emb_base")}
    config |= {"model_type": "jina_embeddings_v3"}
    config |= {"rope_parameters": {"rope_type": "default", "rope_theta": 20000.0}}
    names = {
        "roberta.": "",
        "encoder.layers": "layers",
        "emb_ln": "embeddings.LayerNorm",
        "mixer.out_proj": "self_attn.o_proj",
        "norm1": "post_attention_layernorm",
        "norm2": "post_mlp_layernorm",
    }
    stored = Model(own, plain)  # type: ignore[arg-type]
    return stored, Model(config, apart(stored, "mixer.Wqkv", names))


@pytest.mark.parametrize(
    "pair", [lambda: (MODELS["nomic"](), library_nomic()), library_gte, library_jina], ids=["nomic", "gte", "jina_v3"]
)
def test_models_that_moved_into_the_library(tmp_path: Path, pair: Callable[[], tuple[Model, Model]]) -> None:
    """The same weights under the names of the model's own code and of transformers 5."""
    first, second = pair()
    embedders = []
    for model, name in ((first, "own"), (second, "library")):
        export_model(write(model, tmp_path / name), tmp_path / f"{name}.b", precision="fp32")
        embedders.append(Embedder(tmp_path / f"{name}.b", threads=1))
    texts = TEXTS
    assert np.array_equal(*(embedder.encode(texts) for embedder in embedders))


def test_names_of_the_library_in_fused_tensors(tmp_path: Path) -> None:
    """transformers 5 writes NomicBERT with its own keys and the tensors as they were."""
    model = MODELS["nomic"]()
    first, second = both_bundles(tmp_path, model, Model(library_nomic().config, model.tensors))
    assert first == second


def of_length(model: Model, tokens: int) -> np.ndarray[Any, Any]:
    """Angles of a text by hand: dynamic NTK and LongRoPE look at its length."""
    config = model.config
    size = config.get("head_dim", 8)
    said = config.get("rope_scaling") or {}
    if "rotary_scaling_factor" in config:
        said = {"rope_type": "dynamic", "factor": config["rotary_scaling_factor"]}
    base = config.get("rope_theta", config.get("rotary_emb_base"))
    most = config.get("max_trained_positions", config.get("max_position_embeddings"))
    if said["rope_type"] == "dynamic":
        if tokens > most:
            base *= (said["factor"] * tokens / most - (said["factor"] - 1)) ** (size / (size - 2))
        return base_angles(size, base)
    divisors = said["long_factor"] if tokens > TRAINED else said["short_factor"]
    return base_angles(size, base) / np.array(divisors)


def by_hand(model: Model, ids: list[int]) -> np.ndarray[Any, Any]:
    """Llama's vector of one text: the mean of its tokens."""
    config, t = model.config, Reference(model, eps=model.config["rms_norm_eps"])
    angles, heads, shared = of_length(model, len(ids)), config["num_attention_heads"], config["num_key_value_heads"]
    longer = config["rope_scaling"]["rope_type"] == "longrope"
    grown = math.sqrt(1 + math.log(16 / TRAINED) / math.log(TRAINED)) if longer else 1.0
    hidden = np.triu(np.full((len(ids), len(ids)), -1e9), 1)
    x = t["embed_tokens.weight"][ids]
    for i in range(config["num_hidden_layers"]):
        y = t.rms(x, f"layers.{i}.input_layernorm")
        q, k, v = (
            split(t.linear(y, f"layers.{i}.self_attn.{part}_proj"), n)
            for part, n in (("q", heads), ("k", shared), ("v", shared))
        )
        q, k = rotate(q, angles) * grown, rotate(k, angles) * grown
        k, v = (np.repeat(part, heads // shared, axis=0) for part in (k, v))
        x = x + t.linear(attend(q, k, v, hidden), f"layers.{i}.self_attn.o_proj")
        y = t.rms(x, f"layers.{i}.post_attention_layernorm")
        inner = silu(t.linear(y, f"layers.{i}.mlp.gate_proj")) * t.linear(y, f"layers.{i}.mlp.up_proj")
        x = x + t.linear(inner, f"layers.{i}.mlp.down_proj")
    pooled = t.rms(x, "norm").mean(0)
    return np.asarray(pooled / np.linalg.norm(pooled))


def nomic_by_hand(model: Model, ids: list[int], monkeypatch: pytest.MonkeyPatch) -> np.ndarray[Any, Any]:
    with monkeypatch.context() as patched:
        patched.setattr("builders.reference.base_angles", lambda *_: of_length(model, len(ids)))
        pooled = nomic(model, ids).mean(0)
    return np.asarray(pooled / np.linalg.norm(pooled))


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("name", ["dynamic", "longrope", "nomic"])
def test_angles_by_the_length_of_a_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, precision: str
) -> None:
    """Each text turns as if it were alone, at the model's context, one token below and above it, and at the limit;
    the same bits in any batch."""
    if name == "nomic":
        model = renamed(MODELS["nomic"](), {"rotary_scaling_factor": 2.0, "max_trained_positions": TRAINED})
    else:
        model = llama(**old(SCALINGS[name]))
    export_model(write(model, tmp_path / "source"), tmp_path / "bundle", precision=precision, floor=-1)
    embedder = Embedder(tmp_path / "bundle", threads=1)
    vectors = embedder.encode(TEXTS)
    lengths = [len(embedder.tokenizer.encode(text)) for text in TEXTS]
    assert {2, 3, TRAINED, TRAINED + 1, 16, 23, 24} <= set(lengths)
    alone = np.vstack([embedder.encode([text]) for text in TEXTS])
    assert np.array_equal(vectors.view(np.uint32), alone.view(np.uint32))
    padded = embedder.network.run([embedder.tokenizer.encode(text) for text in TEXTS])
    assert np.array_equal(vectors.view(np.uint32), padded.view(np.uint32))
    for text, found in zip(TEXTS, vectors, strict=True):
        ids = embedder.tokenizer.encode(text).tolist()
        expected = nomic_by_hand(model, ids, monkeypatch) if name == "nomic" else by_hand(model, ids)
        assert np.abs(found - expected).max() < 1e-5 if precision == "fp32" else found @ expected > 0.98


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (new({"rope_type": "su"}), r"config.json: rope_parameters.rope_type is 'su', which is not supported"),
        (new({"factor": 4.0}), r"rope_parameters.factor is 4.0, which is not known for .* 'default'"),
        (new({**SCALINGS["linear"], "extra": 1}), r"rope_parameters.extra is 1, which is not known"),
        (old({**SCALINGS["yarn"], "finetuned": True}), r"rope_scaling.finetuned is True, which is not known"),
        (new({"rope_type": ["yarn"]}), r"rope_parameters.rope_type is \['yarn'\], which is not supported"),
        (new({**SCALINGS["yarn"], "rope_theta": 1}), r"rope_parameters.rope_theta is 1.0, expected more than 1"),
        (new({"rope_type": "linear"}), r"rope_parameters.factor is None, expected a positive number"),
        (new({"rope_type": "linear", "factor": "4"}), r"rope_parameters.factor is '4'"),
        (
            new({**SCALINGS["longrope"], "long_factor": [1.0]}),
            r"rope_parameters.long_factor is \[1.0\], expected a list",
        ),
        (new({"partial_rotary_factor": 0.5}), r"rope_parameters.partial_rotary_factor is 0.5"),
        ({"partial_rotary_factor": 0.5}, r"config.json: partial_rotary_factor is 0.5"),
        (
            {"rope_theta": 1.0, "rope_parameters": {"rope_theta": 2.0}},
            r"rope_theta is 1.0, and rope_parameters.rope_theta",
        ),
        ({**old(SCALINGS["linear"]), "rope_parameters": {"rope_type": "default"}}, r"rope_scaling is .*says otherwise"),
        (
            {"rope_parameters": {"full_attention": {"rope_theta": 1.0}}},
            r"rope_parameters is .*one entry for all layers",
        ),
        ({"rope_parameters": [1]}, r"rope_parameters is \[1\], expected an object"),
        (new({**SCALINGS["yarn"], "truncate": "no"}), r"rope_parameters.truncate is 'no'"),
        (new({**SCALINGS["llama3"], "low_freq_factor": 5.0}), r"high_freq_factor is 4.0, expected more than"),
        (old({**SCALINGS["linear"], "type": "yarn"}), r"rope_scaling.type is 'yarn', and rope_type 'linear'"),
        (
            {"rope_scaling": SCALINGS["longrope"]},
            r"rope_scaling.original_max_position_embeddings is 8.0, which transformers 4 and transformers 5 read",
        ),
        (
            {**new(SCALINGS["yarn"]), "original_max_position_embeddings": 9},
            r"original_max_position_embeddings is 8, and .* next to it 9",
        ),
    ],
)
def test_what_is_not_understood_is_refused(tmp_path: Path, config: dict[str, Any], message: str) -> None:
    """By the file, the key and its value."""
    with pytest.raises(ExportError, match=message):
        read_family(read_checkpoint(write(llama(**config), tmp_path / "source")))


@pytest.mark.parametrize(
    ("name", "config", "message"),
    [
        ("gemma3", {"rope_parameters": {"rope_theta": 1.0}}, "rope_parameters.rope_theta is 1.0, expected objects"),
        ("gemma3", {"layer_types": ["chunked_attention"] * 3}, "layer_types names 'chunked_attention'"),
        ("modernbert", {"layer_types": ["full_attention"] * 3}, "global_attn_every_n_layers is 2 and layer_types"),
        ("nomic", {"hidden_size": 31}, "hidden_size is 31 and n_embd 32: expected the same"),
        ("nomic", {"causal": True}, "causal True is not supported"),
        ("gte", {"rope_scaling": {"type": "ntk", "factor": 2.0, "x": 1}}, "rope_scaling.x is 1, which is not known"),
    ],
)
def test_families_refuse(tmp_path: Path, name: str, config: dict[str, Any], message: str) -> None:
    with pytest.raises(ExportError, match=message):
        read_family(read_checkpoint(write(renamed(MODELS[name](), config), tmp_path / "source")))


def test_gte_with_mixed_b(tmp_path: Path) -> None:
    """NTK scaling with a divisor for each pair, as its own code computes it."""
    scaling = {"type": "ntk", "factor": 2.0, "mixed_b": 0.5}
    model = renamed(MODELS["gte"](), {"rope_scaling": scaling})
    _, weights = read_family(read_checkpoint(write(model, tmp_path / "source")))
    grown = math.log(2.0) / 4**0.5
    angles = base_angles(8, 10000.0) / np.exp([grown * n**0.5 for n in (1, 2, 3, 4)])
    assert np.abs(weights["rotary.all.sin"][1] - np.sin(angles)).max() < 1e-6
