"""Rotary positions, windows and directions against transformers, 4 and 5: folders that the installed one writes."""

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders.bert import WORDS, word_tokenizer

from edge_embed import Embedder
from edge_embed_export import export_model

pytestmark = [
    pytest.mark.parity,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.usefixtures("short_receipt"),
    pytest.mark.skipif(
        not (find_spec("torch") and find_spec("transformers")), reason="needs torch and transformers (extra parity)"
    ),
]

LENGTHS = (2, 3, 4, 5, 6, 8, 9, 15, 16, 17, 18, 31, 32, 33, 63, 64, 65, 66, 95, 96)
LIMIT, CONTEXT, TRAINED = 96, 64, 16
ENCODER: dict[str, Any] = {
    "vocab_size": 5 + len(WORDS),
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": CONTEXT,
    "pad_token_id": 0,
    "bos_token_id": 2,
    "eos_token_id": 3,
}
DECODER = {**ENCODER, "num_key_value_heads": 2, "head_dim": 12}
HEADLESS = {**ENCODER, "num_key_value_heads": 2}
GEMMA = {**DECODER, "sliding_window": 8, "query_pre_attn_scalar": 12, "num_hidden_layers": 7}
MODERN = {**ENCODER, "local_attention": 8, "cls_token_id": 2, "sep_token_id": 3, "num_hidden_layers": 5}
BASES = {"global_rope_theta": 4000.0, "local_rope_theta": 300.0}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": TRAINED}
SCALINGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "linear": {"rope_type": "linear", "factor": 4.0},
    "dynamic": {"rope_type": "dynamic", "factor": 3.0},
    "yarn": YARN,
    "yarn scales": {
        **YARN,
        "mscale": 0.7,
        "mscale_all_dim": 1.3,
        "beta_fast": 8.0,
        "beta_slow": 2.0,
        "truncate": False,
    },
    "yarn factor": {**YARN, "attention_factor": 1.25, "beta_fast": 16},
    "llama3": {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 32,
    },
    "longrope": {
        "rope_type": "longrope",
        "short_factor": [1.0, 1.1, 1.2, 1.3, 1.4, 1.5],
        "long_factor": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
    },
}


def scaled(name: str, spelling: str) -> dict[str, Any]:
    beside = {"original_max_position_embeddings": TRAINED} if name == "longrope" else {}
    if spelling == "4":
        return {**DECODER, **beside, "rope_theta": 5000.0, "rope_scaling": SCALINGS[name] or None}
    parameters = {"rope_type": "default", "rope_theta": 5000.0, **SCALINGS[name], **beside}
    return {**DECODER, "rope_parameters": parameters}


def nested(full: dict[str, Any], local: dict[str, Any]) -> dict[str, Any]:
    return {"rope_parameters": {"full_attention": full, "sliding_attention": local}}


WINDOWED = {"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 1}
MIXED = ["sliding_attention", "full_attention", "sliding_attention"]
PLAIN = {"rope_type": "default"}
# name: (model_type, config, the first release of transformers that reads it so)
CASES: dict[str, tuple[str, dict[str, Any], int]] = {
    **{
        f"{kind} {name} {spelling}": (kind, scaled(name, spelling), int(spelling))
        for kind in ("llama", "qwen3")
        for name in SCALINGS
        for spelling in "45"
    },
    "mistral": ("mistral", {**DECODER, "sliding_window": 5}, 4),
    "mistral without windows": ("mistral", {**DECODER, "sliding_window": None}, 4),
    "mistral both sides": ("mistral", {**DECODER, "sliding_window": 5, "is_causal": False}, 5),
    "llama both sides": ("llama", {**DECODER, "is_causal": False}, 5),
    "llama with biases": ("llama", {**DECODER, "attention_bias": True, "mlp_bias": True}, 4),
    "ministral": ("ministral", {**DECODER, "sliding_window": 5, "layer_types": MIXED}, 4),
    "qwen2": ("qwen2", HEADLESS, 4),
    "qwen2 with windows": ("qwen2", {**HEADLESS, **WINDOWED}, 4),
    "qwen2 both sides": ("qwen2", {**HEADLESS, **WINDOWED, "is_causal": False}, 5),
    "gemma3": ("gemma3_text", GEMMA, 4),
    "gemma3 both sides": ("gemma3_text", {**GEMMA, "use_bidirectional_attention": True}, 4),
    "gemma3 odd window": ("gemma3_text", {**GEMMA, "use_bidirectional_attention": True, "sliding_window": 9}, 5),
    "gemma3 scaled": (
        "gemma3_text",
        {**GEMMA, "rope_theta": 3000.0, "rope_local_base_freq": 500.0, "rope_scaling": SCALINGS["linear"]},
        4,
    ),
    "gemma3 nested": (
        "gemma3_text",
        {**GEMMA, **nested({**YARN, "rope_theta": 3000.0}, {**SCALINGS["linear"], "rope_theta": 700.0})},
        5,
    ),
    "modernbert": ("modernbert", MODERN, 4),
    "modernbert bases": ("modernbert", {**MODERN, **BASES, "global_attn_every_n_layers": 2}, 4),
    "modernbert yarn": ("modernbert", {**MODERN, **BASES, "rope_scaling": YARN}, 4),
    "modernbert nested": (
        "modernbert",
        {
            **MODERN,
            "layer_types": ["sliding_attention", "full_attention", *MIXED],
            **nested({**PLAIN, "rope_theta": 3000.0}, {**PLAIN, "rope_theta": 70.0}),
        },
        5,
    ),
    "eurobert": ("eurobert", {**HEADLESS, "rope_parameters": {**PLAIN, "rope_theta": 2500.0}}, 5),
    "eurobert 4": ("eurobert", {**HEADLESS, "rope_theta": 2500.0, "rope_scaling": None}, 5),
    "eurobert with biases": ("eurobert", {**HEADLESS, "attention_bias": True, "mlp_bias": True}, 5),
    "ultrabert": ("ultrabert", {**HEADLESS, "sliding_window": 5}, 5),
    "nomic_bert wide heads": ("nomic_bert", {**ENCODER, "head_dim": 12}, 5),
    **{
        f"{kind}{end}": (kind, {**ENCODER, **more}, 5)
        for kind in ("nomic_bert", "jina_embeddings_v3", "gte")
        for end, more in (
            ("", {}),
            (" own names", {}),
            (" base", {"rope_parameters": {**PLAIN, "rope_theta": 777.0}}),
            (" dynamic", {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 777.0}}),
        )
    },
}
# Keys of transformers 4 that version 5 turns into its own when it reads a config.
OLD_KEYS = ("rope_theta", "rope_scaling", "rope_local_base_freq", "original_max_position_embeddings", *BASES)


def saved(kind: str, config: dict[str, Any], folder: Path, *, own_names: bool) -> Path:
    """The folder of a random model as the library writes it; with the keys of version 4 where the case has them."""
    import torch
    from transformers import AutoConfig, AutoModel

    model = AutoModel.from_config(AutoConfig.for_model(kind, **json.loads(json.dumps(config))))
    random = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, weight in sorted(model.named_parameters()):
            noise = torch.randn(weight.shape, generator=random)
            if weight.ndim == 1 and "norm" in name.lower() and name.endswith("weight"):
                weight.add_(noise * 0.1)
            else:
                weight.copy_(noise * 0.3)
    model.save_pretrained(folder, **({"save_original_format": False} if own_names else {}))
    path = folder / "config.json"
    written = json.loads(path.read_text())
    if any(key in config for key in OLD_KEYS):
        for key in ("rope_parameters", "layer_types"):
            written.pop(key, None)
        written |= {key: config[key] for key in (*OLD_KEYS, "global_attn_every_n_layers") if key in config}
        if "rope_parameters" in config:
            written["rope_parameters"] = config["rope_parameters"]
    path.write_text(json.dumps(written))
    (folder / "tokenizer.json").write_text(json.dumps(word_tokenizer()))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_mean_tokens": True}))
    kinds = (("Transformer", ""), ("Pooling", "1_Pooling"))
    listed = [
        {"idx": i, "path": path, "type": f"sentence_transformers.models.{k}"} for i, (k, path) in enumerate(kinds)
    ]
    (folder / "modules.json").write_text(json.dumps(listed))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": LIMIT}))
    return folder


def library_vectors(folder: Path, embedder: Embedder, texts: list[str]) -> np.ndarray[Any, Any]:
    """Each text by a model that has seen no other: the library's remembers the longest."""
    import torch
    from transformers import AutoModel

    model = AutoModel.from_pretrained(folder).eval()
    changing = "dynamic" in str(getattr(getattr(model, "rotary_emb", None), "rope_type", ""))
    rows = []
    for text in texts:
        model = AutoModel.from_pretrained(folder).eval() if changing else model
        ids = torch.from_numpy(embedder.tokenizer.encode(text).astype(np.int64))[None]
        with torch.no_grad():
            hidden = model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
        rows.append(torch.nn.functional.normalize(hidden.mean(1)).numpy()[0])
    return np.stack(rows)


@pytest.mark.parametrize("name", CASES)
def test_rotary_positions_agree_with_the_library(tmp_path: Path, name: str) -> None:
    """Texts of 2 tokens up to the limit, around the lengths that models were trained with; one vector for a text."""
    import transformers

    kind, config, since = CASES[name]
    if int(transformers.__version__.split(".")[0]) < since:
        pytest.skip(f"transformers {since} reads this so")
    source = saved(kind, config, tmp_path / "source", own_names=name.endswith("own names"))
    export_model(source, tmp_path / "bundle", precision="fp32")
    embedder = Embedder(tmp_path / "bundle", threads=1)
    random = np.random.default_rng(3)
    texts = [" ".join(random.choice(WORDS, length - 2)) for length in LENGTHS]
    found = embedder.encode(texts)
    assert [len(embedder.tokenizer.encode(text)) for text in texts] == list(LENGTHS)
    alone = np.vstack([embedder.encode([text]) for text in texts])
    assert np.array_equal(found.view(np.uint32), alone.view(np.uint32))
    assert np.abs(found - library_vectors(source, embedder, texts)).max() < 1e-5
