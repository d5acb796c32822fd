"""The tables of leftovers.py against transformers itself: what it writes is accounted for, what its code obeys is
obeyed or refused. Extra `parity`, skipped by name where torch and transformers are not installed."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders.bert import WORDS, word_tokenizer
from builders.checkpoints import read_checkpoint
from safetensors.numpy import load_file, save_file

from edge_embed.errors import ExportError
from edge_embed_export import GraphOptions, export_model
from edge_embed_export.families.known import FAMILIES, read_family
from edge_embed_export.transformer.encoder import build
from edge_embed_export.transformer.spec import prepare
from edge_embed_runtime.model.batching import pad
from edge_embed_runtime.model.session import make_session

pytestmark = [
    pytest.mark.parity,
    pytest.mark.skipif(
        not (find_spec("torch") and find_spec("transformers")), reason="needs torch and transformers (extra parity)"
    ),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.usefixtures("short_receipt"),
]
VOCAB = 5 + len(WORDS)
PLAIN = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 40,
    "pad_token_id": 0,
    "bos_token_id": 2,
    "eos_token_id": 3,
}
ROBERTA = {**PLAIN, "pad_token_id": 1}
DECODER = {**PLAIN, "num_key_value_heads": 2, "head_dim": 8}
GEMMA = {**DECODER, "query_pre_attn_scalar": 8, "sliding_window": 6, "num_hidden_layers": 6}
T5 = {"vocab_size": VOCAB, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4, "pad_token_id": 0}
DEBERTA = {
    **PLAIN,
    "relative_attention": True,
    "position_buckets": 8,
    "pos_att_type": ["p2c", "c2p"],
    "share_att_key": True,
    "norm_rel_ebd": "layer_norm",
    "position_biased_input": False,
}
# Small configs by model_type, of whatever the installed transformers has.
CONFIGS: dict[str, dict[str, Any]] = {
    **dict.fromkeys(("bert", "electra", "ernie", "gte"), PLAIN),
    **dict.fromkeys(("roberta", "xlm-roberta", "camembert", "mpnet", "data2vec-text", "jina_embeddings_v3"), ROBERTA),
    **dict.fromkeys(("roberta-prelayernorm", "xlm-roberta-xl"), ROBERTA),
    "megatron-bert": PLAIN,
    "albert": {**PLAIN, "embedding_size": 16, "num_hidden_groups": 2},
    "distilbert": {
        **{"vocab_size": VOCAB, "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48},
        **{"max_position_embeddings": 40, "pad_token_id": 0},
    },
    "deberta-v2": DEBERTA,
    "modernbert": {
        **PLAIN,
        **{"num_hidden_layers": 3, "local_attention": 6, "cls_token_id": 2, "sep_token_id": 3},
        "global_attn_every_n_layers": 2,
    },
    "nomic_bert": {**PLAIN, "head_dim": 8},
    **dict.fromkeys(("t5", "mt5", "umt5"), T5),
    **dict.fromkeys(("llama", "qwen3", "eurobert"), DECODER),
    "qwen2": {key: value for key, value in DECODER.items() if key != "head_dim"},
    "mistral": {**DECODER, "sliding_window": 5},
    "gemma2": GEMMA,
    "gemma3_text": {**GEMMA, "use_bidirectional_attention": True},
}
TEXT = [2, *(5 + i * 7 % (VOCAB - 5) for i in range(28)), 3]


@pytest.fixture
def saved(tmp_path: Path) -> Callable[[str], Path]:
    """The folder of a small random model as the installed transformers saves it; skips what it does not have."""

    def make(kind: str) -> Path:
        import torch
        from transformers import AutoModel
        from transformers.models.auto.configuration_auto import CONFIG_MAPPING

        if kind not in CONFIG_MAPPING or not any(kind in family.types for family in FAMILIES):
            pytest.skip(f"{kind} is not known to the installed transformers, or not to the exporter")
        torch.manual_seed(0)
        model = AutoModel.from_config(CONFIG_MAPPING[kind](**CONFIGS[kind]))
        with torch.no_grad():
            for name, tensor in model.named_parameters():
                centre = float("norm" in name.lower() and name.endswith("weight") and "gemma" not in kind)
                tensor.copy_(torch.randn_like(tensor) * 0.2 + centre)
        model.save_pretrained(tmp_path / kind)
        (tmp_path / kind / "tokenizer.json").write_text(json.dumps(word_tokenizer()))
        if kind == "mpnet":  # whose tokenizer has others where nothing is said
            named = {"bos": "[CLS]", "cls": "[CLS]", "eos": "[SEP]", "sep": "[SEP]", "pad": "[PAD]", "unk": "[UNK]"}
            tokens = {f"{name}_token": token for name, token in {**named, "mask": "[MASK]"}.items()}
            (tmp_path / kind / "tokenizer_config.json").write_text(json.dumps(tokens))
        return tmp_path / kind

    return make


def ours(folder: Path) -> np.ndarray[Any, Any]:
    """The mean of the vectors of TEXT's tokens, of length 1."""
    spec, weights = read_family(replace(read_checkpoint(folder), pooling="mean"))
    session = make_session(build(spec, prepare(spec, weights)).SerializeToString(), threads=1)
    return np.asarray(session.run(None, pad([np.array(TEXT)]))[0][0])


def theirs(folder: Path) -> np.ndarray[Any, Any]:
    import torch
    from transformers import AutoModel

    model = AutoModel.from_pretrained(folder, attn_implementation="eager").eval().float()
    if getattr(model.config, "is_encoder_decoder", False):
        model = model.get_encoder()
    ids = torch.tensor([TEXT])
    with torch.no_grad():
        hidden = model(input_ids=ids, attention_mask=torch.ones_like(ids))[0][0].mean(0)
    return np.asarray(torch.nn.functional.normalize(hidden, dim=0).numpy())


@pytest.mark.parametrize("kind", CONFIGS)
def test_what_transformers_saves_is_accounted_for(kind: str, saved: Callable[[str], Path]) -> None:
    """Every tensor and key that save_pretrained writes is read or harmless, and the model is the same."""
    folder = saved(kind)
    assert np.abs(ours(folder) - theirs(folder)).max() < 1e-5


STRINGS: dict[str, list[Any]] = {
    "hidden_act": ["relu", "gelu_new"],
    "hidden_activation": ["relu"],
    "activation": ["relu"],
    "position_embedding_type": ["relative_key", "relative_key_query"],
    "feed_forward_proj": ["gated-relu", "silu"],
    "dense_act_fn": ["gelu", "silu"],
    "norm_rel_ebd": ["none"],
    "pos_att_type": [["c2p"], "c2p"],
}
# The text has no padding token only as long as these are what they are; the others are sizes of tensors.
FIXED = {"model_type", "pad_token_id"}


def flipped(name: str, value: object) -> Iterator[object]:
    """Other values for a key of a config."""
    if name in FIXED:
        return
    if name in STRINGS:
        yield from STRINGS[name]
    elif isinstance(value, bool):
        yield not value
    elif isinstance(value, int):
        yield from (value + 1, 2 * value)
    elif isinstance(value, float):
        yield value * 3 + 0.1
    elif name == "pruned_heads":
        yield {"0": [1]}
    elif name == "layer_types" and isinstance(value, list):
        yield from (value[::-1], ["full_attention"] * len(value))
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from ({**value, key: other} for other in flipped(key, inner))
    elif value is None:
        yield from (True, 2, 0.5)


def attempt(run: Callable[[Path], np.ndarray[Any, Any]], folder: Path) -> np.ndarray[Any, Any] | None:
    try:
        return run(folder)
    except Exception:  # what a config that cannot be ends in, there and here  # noqa: BLE001
        return None


@pytest.mark.slow
@pytest.mark.parametrize("kind", CONFIGS)
def test_no_key_of_a_config_class_is_passed_over(kind: str, saved: Callable[[str], Path]) -> None:
    """Another value of any attribute changes nothing in transformers, or ours with it, or it is refused."""
    from transformers import AutoConfig

    folder = saved(kind)
    assert np.abs(ours(folder) - theirs(folder)).max() < 1e-5
    path = folder / "config.json"
    written = json.loads(path.read_text())
    attributes = json.loads(json.dumps(AutoConfig.from_pretrained(folder).to_dict(), default=str))
    for name, value in {**attributes, **written}.items():
        for other in flipped(name, value):
            path.write_text(json.dumps({**written, name: other}))
            reference, found = attempt(theirs, folder), attempt(ours, folder)
            if reference is not None and found is not None:
                assert np.abs(reference - found).max() < 1e-5, (name, value, other)


def test_general_path_accounts_for_tensors(saved: Callable[[str], Path], tmp_path: Path) -> None:
    """transformers makes up what is missing and drops what it does not know: both are refused, heads are not."""
    folder = saved("bert")
    options: dict[str, Any] = {"graph": GraphOptions(convert=True, pooling="mean"), "precision": "fp32"}
    stored = load_file(folder / "model.safetensors")
    encoder = {name: array for name, array in stored.items() if "pooler" not in name}
    head = {"cls.predictions.bias": np.ones(3, np.float32)}

    def write(tensors: dict[str, Any]) -> None:
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})

    write({**{f"bert.{name}": array for name, array in encoder.items()}, **head})
    export_model(folder, tmp_path / "out", **options)
    lost = "encoder.layer.1.output.dense.bias"
    write({name: array for name, array in encoder.items() if name != lost})
    with pytest.raises(ExportError, match=rf"no tensor '{lost}'"):
        export_model(folder, tmp_path / "no", **options)
    added = "encoder.layer.1.attention.q_norm.weight"
    write({**encoder, added: np.ones(8, np.float32)})
    with pytest.raises(ExportError, match=rf"'{added}' has no place.*--ignore {added}"):
        export_model(folder, tmp_path / "no", **options)
    export_model(folder, tmp_path / "ignored", ignore=[added], **options)
