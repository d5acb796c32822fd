"""A model of the table: its bundle, one vector for each text, and how far from the reference that is."""

import contextlib
import importlib
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from builders import reference
from builders.architectures import Model

from edge_embed import Embedder
from edge_embed_export import export_model
from edge_embed_export.options import ExportOptions
from edge_embed_export.receipt import dense, finish
from edge_embed_export.verify import compare as verifying
from edge_embed_export.verify import reference as referencing
from edge_embed_export.verify import texts as verifytexts
from edge_embed_runtime.bundle.manifest import Manifest
from zoo.folders import arrays, config, dense_arrays, write
from zoo.models import Row
from zoo.vocabularies import VOCABULARIES

# Tokens of the longest texts: those of 8,192 take a minute each.
LONGEST = 600
# Models' own code, in tests/reference.py and here.
BY_HAND = {
    **reference.REFERENCES,
    "qwen2_both": lambda model, ids: reference.both_sided_mistral(
        reference.Reference(model, eps=model.config["rms_norm_eps"]), model.config, ids
    ),
}
TEXTS = ["the river bank", "", "a", "Where is the bank?\n", "数据 保留", "money at the bank and in the house 🚲 " * 9]


@dataclass(frozen=True)
class Facts:
    """What docs/models.md says of a model and no machine changes."""

    holds: str
    family: str
    prompts: str
    pooling: str
    limit: int


def facts(row: Row, manifest: Manifest) -> Facts:
    modules = [kind for kind, _ in row.modules or ()]
    parts = (
        ["transformers alone"]
        if row.modules is None
        else ["sentence-transformers", *([", ".join(modules)] if modules else [])]
    )
    roles = [f"{role}: {manifest.prompts[role]!r}" for role in ("query", "document") if manifest.prompts.get(role)]
    general = manifest.architecture.get("graph") == "general"
    return Facts(
        holds=": ".join(parts),
        family=f"{manifest.architecture['family']}, general path" if general else str(manifest.architecture["family"]),
        prompts="; ".join(roles).replace("\\n", "⏎").replace("|", "¦"),
        pooling=manifest.pooling,
        limit=0 if manifest.architecture["family"] == "static" else manifest.max_tokens,
    )


def export(row: Row, folder: Path, target: Path, precision: str = "fp32") -> Manifest:
    """The bundle of a row's folder, which no reference was asked about."""
    options = {"floor": -1.0, "verify": "skip", "source_name": row.name, **row.options}
    return export_model(folder, target, precision=precision, **options)


def one_vector(bundle: Path, kind: str) -> bool:
    """Whether a text has the same numbers, bit for bit, alone, in a batch and in a batch of its own padding."""
    embedder = Embedder(bundle, threads=1)
    whole = vectors(embedder, TEXTS, kind)
    parts = [vectors(embedder, [text], kind)[0] for text in TEXTS] + vectors(embedder, TEXTS[:2], kind)
    return all(np.array_equal(a, b) for a, b in zip([*whole, *whole[:2]], parts, strict=True))


def vectors(embedder: Embedder, texts: list[str], kind: str) -> list[np.ndarray[Any, Any]]:
    if kind == "dense":
        return list(embedder.encode(texts))
    if kind == "multi":
        return list(embedder.encode_multi(texts))
    return [np.concatenate([vector.ids.astype(np.float32), vector.weights]) for vector in embedder.encode_sparse(texts)]


def difference(row: Row, folder: Path, bundle: Path) -> float:
    """The largest difference of any number to the reference: the libraries, or the model's own code done by hand."""
    embedder = Embedder(bundle, threads=1)
    if row.reference:
        return by_hand(row, embedder)
    said = row.options
    verifier = verifying.Verifier(folder, ExportOptions(max_tokens=said.get("max_tokens")))
    with in_this_process():
        verified = verifier(embedder)
    assert isinstance(verified, dict), f"{row.name}: {verified}"
    return float(verified["largest_difference"])


@contextlib.contextmanager
def in_this_process() -> Iterator[None]:
    """The reference's program called here, which saves importing torch for each model."""

    def run(request: dict[str, Any], *, lenient: bool = False) -> tuple[list[Any], dict[str, Any]]:
        request = json.loads(json.dumps(request))
        with contextlib.redirect_stderr(io.StringIO()):
            if request["why"]:  # which a model without a network does not answer
                return [], {}
            return referencing.answer_rows(request)

    changes = {"run_reference": run, "installed": lambda: True, "_longest": lambda e: min(e.max_tokens, LONGEST)}
    with contextlib.ExitStack() as stack:
        for name, change in changes.items():
            stack.enter_context(patch.object(verifying, name, change))
        yield


def by_hand(row: Row, embedder: Embedder) -> float:
    """Against tests/reference.py, for the tokens that the bundle itself makes."""
    settings = config(row, VOCABULARIES[row.vocabulary](**row.tokenizer))
    stored = arrays(row, settings)
    if not settings.get("type_vocab_size", 1):  # without types there is nothing to add
        stored["new.embeddings.token_type_embeddings.weight"] = np.zeros((1, settings["hidden_size"]), np.float32)
    settings.setdefault("head_dim", settings.get("hidden_size", 0) // settings.get("num_attention_heads", 1))
    model = Model(settings, stored, options=row.options)  # type: ignore[arg-type]
    worst = 0.0
    asked = verifytexts.asked_texts(embedder.tokenizer, (None, "query", "document"), min(embedder.max_tokens, 60))
    for text in {one.text for one in asked}:
        tokens = embedder.tokenizer.encode(text).tolist()
        if len(tokens) > LONGEST // 4:
            continue
        states = BY_HAND[row.reference](model, tokens)
        pooled = {"cls": states[0], "last": states[-1], "mean": states.mean(0)}[embedder.manifest.pooling]
        for kind, said in row.modules or ():
            if kind == "Dense":
                pooled = _dense(pooled, said)
        worst = max(worst, float(np.abs(embedder.encode([text])[0] - pooled / np.linalg.norm(pooled)).max()))
    return worst


def _dense(x: np.ndarray[Any, Any], said: dict[str, Any]) -> np.ndarray[Any, Any]:
    linear = dense_arrays(said)
    return np.asarray(x @ linear["linear.weight"].T + linear.get("linear.bias", 0))


def saved_again(folder: Path, target: Path, kind: str) -> Path:
    """The folder as the installed sentence-transformers saves it, but for the name of the release: by that the white
    space around texts is taken off or not."""
    library: Any = importlib.import_module("sentence_transformers")
    name = referencing.CLASSES[kind]
    with contextlib.redirect_stderr(io.StringIO()):
        model = getattr(library, name)(str(folder), device="cpu", local_files_only=True)
        model.save_pretrained(str(target))
    path, own = target / "config_sentence_transformers.json", folder / "config_sentence_transformers.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    before = json.loads(own.read_text(encoding="utf-8")) if own.exists() else {}
    settings.pop("__version__", None)
    path.write_text(json.dumps(settings | ({"__version__": before["__version__"]} if before else {})))
    return target


@contextlib.contextmanager
def few_texts() -> Iterator[None]:
    """Receipts over an eighth of the texts, and of no retrieval: random weights find nothing."""
    judged = finish.records("judged")
    few = [judged[0], {**judged[-1], "relevant": ["p000"]}]
    texts = finish.calibration_texts
    changes = {"records": lambda _: few, "calibration_texts": lambda part: texts(part)[::8]}
    with contextlib.ExitStack() as stack:
        for name, change in changes.items():
            stack.enter_context(patch.object(finish, name, change))
        stack.enter_context(patch.object(dense, "SPEED_ROUNDS", 1))
        yield


def environment() -> int:
    """The major release of transformers that is installed."""
    return int(version("transformers").partition(".")[0])


def measure(row: Row, work: Path) -> dict[str, Any]:
    """Everything that a row of docs/models.md says."""
    folder = write(row, work)
    with few_texts():
        manifest = export(row, folder, work / "fp32")
        quantized = export(row, folder, work / "int8", "int8")
    return {
        **vars(facts(row, manifest)),
        "difference": difference(row, folder, work / "fp32"),
        "against": "its own code by hand"
        if row.reference
        else f"sentence-transformers {version('sentence-transformers')}",
        "int8": quantized.receipt["cosine_to_fp32"]["mean"],
        "one_vector": one_vector(work / "fp32", row.kind) and one_vector(work / "int8", row.kind),
    }
