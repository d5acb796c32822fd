"""What a folder says of a model that scores pairs of texts, a cross-encoder: its activation, its labels, its modules.

Source: cross_encoder/CrossEncoder.py of sentence-transformers 5.1 and cross_encoder/model.py of 6.2.
"""

from collections.abc import Mapping
from typing import Any

from edge_embed_export.modules.classes import module_class
from edge_embed_export.modules.folder import SETTINGS, Folder
from edge_embed_export.modules.listed import Modules
from edge_embed_export.sources.heads import Head
from edge_embed_export.tokenizer.files import Text
from edge_embed_runtime.embed.reranker import ACTIVATIONS
from edge_embed_runtime.errors import ExportError, UnsupportedModelError
from edge_embed_runtime.vectors.kinds import RERANK

# What releases before 4.0 wrote into config.json.
OLD_ACTIVATION = "sbert_ce_default_activation_function"
# By the last part of the name of torch's class.
NAMES = {"Sigmoid": "sigmoid", "Identity": "identity"}


def pair_modules(folder: Folder) -> Modules:
    """The modules of a cross-encoder: a Transformer, and nothing behind it.

    Raises UnsupportedModelError for a model without a sequence classification head, and for other modules.
    """
    if folder.classifier is None:
        named = folder.config.get("architectures")
        raise UnsupportedModelError(
            f"{folder.path}: config.json names {named!r:.80}, which has no sequence classification head: of "
            "cross-encoders only models with one (...ForSequenceClassification) are supported",
            architecture=str(folder.config.get("model_type")),
        )
    found = Modules(folder.path, kind=RERANK)
    for number, entry in enumerate(folder.modules):
        kind, path = module_class(str(entry["type"])), str(entry["path"])
        if kind != "Transformer" or number or path not in ("", "."):
            raise UnsupportedModelError(
                f"{folder.path / 'modules.json'}: module {number}, {entry['type']!r:.80}, is none of a cross-encoder "
                "that is supported: those have a Transformer in the folder itself, and nothing behind it"
            )
    return found


def pair_head(folder: Folder, text: Text) -> Head:
    """The head of a cross-encoder, without what its weights say."""
    config = folder.config
    facts = {"activation": _activation(folder), "labels": labels_of(config)}
    return Head(RERANK, types=text.types, facts=facts)


def labels_of(config: Mapping[str, Any]) -> list[str]:
    """Names of a model's numbers by `id2label`, [] where it has none."""
    named = config.get("id2label")
    if not isinstance(named, dict):
        return []
    return [str(name) for _, name in sorted(named.items(), key=lambda item: int(item[0]))]


def _activation(folder: Folder) -> str:
    """What the model's numbers go through: a name of ACTIVATIONS.

    The first place counts that says it; where none does, one number goes through a sigmoid and several stay as they
    are, as in sentence-transformers.
    """
    own = folder.config.get("sentence_transformers")
    places = (
        (SETTINGS, folder.settings.get("activation_fn")),
        ("config.json", own.get("activation_fn") if isinstance(own, dict) else None),
        ("config.json", folder.config.get(OLD_ACTIVATION)),
    )
    file, said = next(((file, said) for file, said in places if said is not None), ("", None))
    if said is None:
        return ""
    name = str(said)
    last = name.rsplit(".", 1)[-1]
    if not name.startswith("torch.") or NAMES.get(last) not in ACTIVATIONS:
        raise ExportError(
            f"{folder.path / file}: the activation {name!r:.80} is not supported ("
            f"{', '.join(f'torch.nn.{known}' for known in NAMES)} are)"
        )
    return NAMES[last]
