"""What stands behind the last layer of a model that scores pairs of texts: the head of its sequence classification.

Sources: the classes ...ForSequenceClassification of transformers 4.57 and 5.24.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from edge_embed_export.families.reader import Reader
from edge_embed_export.sources.checkpoint import Checkpoint
from edge_embed_export.transformer.activations import Activation
from edge_embed_export.transformer.spec import NORM_EPS, Spec, Step, Weights
from edge_embed_runtime.errors import ExportError, UnsupportedModelError
from edge_embed_runtime.vectors.kinds import RERANK


@dataclass(frozen=True)
class Classifier:
    """Names of a head's parts in a checkpoint.

    dense:      a linear layer on the pooled vector; where a model's name stands before its tensors it stands before
                this one too, if `inside` says so
    activation: behind it; `setting` names a field of the config that says another
    final:      the layer that gives the numbers
    norm:       behind the activation
    poolings:   what `classifier_pooling` can be; the first where it is not said
    """

    dense: str
    activation: Activation
    final: str
    inside: bool = False
    setting: str = ""
    norm: str = ""
    poolings: tuple[str, ...] = ("cls",)


_BERT = Classifier("pooler.dense", "tanh", "classifier", inside=True)
_ROBERTA = Classifier("classifier.dense", "tanh", "classifier.out_proj")
_DEBERTA = Classifier("pooler.dense", "gelu", "classifier", setting="pooler_hidden_act")
# by model_type
CLASSIFIERS: dict[str, Classifier] = {
    **dict.fromkeys(("bert", "ernie", "megatron-bert"), _BERT),
    "albert": replace(_BERT, dense="pooler"),
    **dict.fromkeys(
        ("roberta", "xlm-roberta", "camembert", "data2vec-text", "roberta-prelayernorm", "xlm-roberta-xl", "mpnet"),
        _ROBERTA,
    ),
    "electra": replace(_ROBERTA, activation="gelu"),
    "distilbert": Classifier("pre_classifier", "relu", "classifier"),
    **dict.fromkeys(("deberta", "deberta-v2"), _DEBERTA),
    "modernbert": Classifier(
        "head.dense",
        "gelu",
        "classifier",
        setting="classifier_activation",
        norm="head.norm",
        poolings=("cls", "mean"),
    ),
}


def check_classifier(checkpoint: Checkpoint, *, known: bool) -> None:
    """Raise UnsupportedModelError for a model whose head is not known. known: its family is that of the library's"""
    kind = checkpoint.architecture
    if kind not in CLASSIFIERS or not known:
        raise UnsupportedModelError(
            f"{checkpoint.folder}: the sequence classification head of {kind!r} models"
            f"{'' if known else ' with code of their own'} is not known to this exporter (known: "
            f"{', '.join(sorted(CLASSIFIERS))}); --kind dense exports its encoder, to embed with",
            architecture=kind,
        )


def with_classifier(checkpoint: Checkpoint, spec: Spec, weights: Weights) -> tuple[Spec, Weights]:
    """An encoder with the head that gives scores of pairs."""
    read, head = Reader(checkpoint, ""), CLASSIFIERS[checkpoint.architecture]
    dense = _inside(read, head.dense) if head.inside else head.dense
    activation = read.activation(head.setting, head.activation) if head.setting else head.activation
    bias = bool(read.config.get("classifier_bias", False)) if head.norm else True
    read.linear("projection.0", dense, bias=bias)
    steps = [Step("linear", activation)]
    if head.norm:
        _norm(read, head.norm)
        steps.append(Step("norm"))
    read.linear("head.classifier", head.final)
    labels = read.weights["head.classifier.weight"].shape[1]
    _check_labels(read, labels)
    fields: dict[str, Any] = {"kind": RERANK, "projections": tuple(steps), "of_tokens": 0, "pooled": 0, "dim": labels}
    pooling = read.config.get("classifier_pooling") or head.poolings[0] if head.norm else head.poolings[0]
    if pooling not in head.poolings:
        raise read.error(f"classifier_pooling {pooling!r:.40} is not supported ({', '.join(head.poolings)} are)")
    types = "embedding.type" in weights
    return replace(spec, pooling=pooling, types=types, **fields), {**weights, **read.weights}


def _inside(read: Reader, name: str) -> str:
    """A layer that stands behind the model's name, as `bert.pooler.dense`."""
    found = [tensor for tensor in read.checkpoint.tensors if f".{tensor}".endswith(f".{name}.weight")]
    return min(found, key=len).removesuffix(".weight") if found else name


def _norm(read: Reader, name: str) -> None:
    """ModernBERT's, whose file has a bias where its config says so."""
    if read.epsilon("norm_eps", NORM_EPS) != NORM_EPS:
        raise read.error(f"norm_eps {read.config.get('norm_eps')!r:.40} is not supported ({NORM_EPS} is)")
    read.norm("projection.1", name, bias=bool(read.config.get("norm_bias", False)))
    weight = read.weights["projection.1.weight"]
    read.weights.setdefault("projection.1.bias", np.zeros(len(weight), np.float32))


def _check_labels(read: Reader, labels: int) -> None:
    """Refuse a config that says another number of labels than the last layer has."""
    named, count = read.config.get("id2label"), read.config.get("num_labels")
    said = len(named) if isinstance(named, dict) else count
    if said is not None and said != labels:
        raise ExportError(
            f"{read.checkpoint.folder}: config.json has {said!r:.40} labels, and the classifier {labels}: they do not "
            "belong together"
        )
