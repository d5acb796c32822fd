"""A row of the table, and what many rows have in common."""

from dataclasses import dataclass, field
from typing import Any

# What every config is shrunk to.
SMALL = {"hidden_size": 32, "num_attention_heads": 4, "num_hidden_layers": 2, "intermediate_size": 48}


@dataclass(frozen=True)
class Row:
    """One public model.

    network, vocabulary: names in networks.py and vocabularies.py
    config:     config.json besides what the vocabulary says
    tokenizer:  tokenizer_config.json besides what the vocabulary says
    modules:    after the transformer, in their order: ("Pooling", {...}), ("Dense", {...}), ("Normalize", {}); None is
                a folder of transformers alone
    limit:      sentence_bert_config.json's max_seq_length
    settings:   config_sentence_transformers.json
    bert:       sentence_bert_config.json besides the limit
    kind:       of vectors: "dense", "sparse" or "multi"
    options:    what `export_model` is told
    reference:  of models that are code of their own: its name in tests/reference.py
    since:      the major release of transformers that has the architecture
    """

    name: str
    network: str
    vocabulary: str
    config: dict[str, Any]
    modules: tuple[tuple[str, dict[str, Any]], ...] | None
    tokenizer: dict[str, Any] = field(default_factory=dict)
    limit: int | None = None
    settings: dict[str, Any] | None = None
    bert: dict[str, Any] = field(default_factory=dict)
    kind: str = "dense"
    options: dict[str, Any] = field(default_factory=dict)
    reference: str = ""
    since: int = 4

    @property
    def folder(self) -> str:
        return self.name.rsplit("/", 1)[-1]


ROWS: dict[str, Row] = {}


def add(
    name: str, network: str, vocabulary: str, config: dict[str, Any], *modules: tuple[str, dict[str, Any]], **said: Any
) -> None:
    plain = said.pop("plain", False)
    ROWS[name] = Row(name, network, vocabulary, config, None if plain else modules, **said)


def pooling(mode: str, *, prompt: bool | None = None, new: bool = False) -> tuple[str, dict[str, Any]]:
    """A Pooling module: of older releases, which list every mode, or of current ones."""
    if new:
        return "Pooling", {"embedding_dimension": 32, "pooling_mode": mode, "include_prompt": prompt is not False}
    modes = ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken")
    said = {f"pooling_mode_{one}": one == mode for one in (modes if prompt is not None else modes[:4])}
    if mode not in modes[:4]:
        said = {f"pooling_mode_{one}": one == mode for one in modes}
    told = {} if prompt is None else {"include_prompt": prompt}
    return "Pooling", {"word_embedding_dimension": 32, **said, **told}


def dense(
    outputs: int, activation: str = "torch.nn.modules.linear.Identity", *, bias: bool = False, inputs: int = 32
) -> tuple[str, dict[str, Any]]:
    return "Dense", {"in_features": inputs, "out_features": outputs, "bias": bias, "activation_function": activation}


UNIT = ("Normalize", {})
MEAN, CLS, LAST = pooling("mean_tokens"), pooling("cls_token"), pooling("lasttoken", prompt=True)


def versions(library: str, transformers: str, torch: str = "1.9.0+cu102", **said: Any) -> dict[str, Any]:
    """config_sentence_transformers.json."""
    own = {"sentence_transformers": library, "transformers": transformers, "pytorch": torch}
    return {"__version__": own, **said}


OLD = versions("2.0.0", "4.6.1", "1.8.1")
BERT = {
    "architectures": ["BertModel"],
    "attention_probs_dropout_prob": 0.1,
    "classifier_dropout": None,
    "gradient_checkpointing": False,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "initializer_range": 0.02,
    "layer_norm_eps": 1e-12,
    "max_position_embeddings": 512,
    "model_type": "bert",
    "position_embedding_type": "absolute",
    "torch_dtype": "float32",
    "transformers_version": "4.30.0",
    "type_vocab_size": 2,
    "use_cache": True,
    **SMALL,
}
XLMR = {
    **BERT,
    "architectures": ["XLMRobertaModel"],
    "layer_norm_eps": 1e-05,
    "max_position_embeddings": 514,
    "model_type": "xlm-roberta",
    "output_past": True,
    "type_vocab_size": 1,
}
ROBERTA = {**XLMR, "architectures": ["RobertaModel"], "model_type": "roberta"}
