"""LoRA adapters (arXiv:2106.09685) that stay apart from the base: chosen when the model runs.

A family reads the model once as it is and once with each adapter added. What differs is of low rank, and is factorised
again under the graph's own names: so every family has adapters, whatever it splits, turns or scales, and knows nothing
of them. Next to a linear layer NAME, or the table `embedding.word`, stand

    NAME.lora_a.weight [n, R]  NAME.lora_a.bias [R]  NAME.lora_b.weight [R, m]  NAME.lora_ends [adapters + 1]

where R are the ranks of all adapters, one after the other; those of adapter i, counted from 1, are ends[i - 1]:ends[i].
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edge_embed_export.families import jina
from edge_embed_export.families.known import read_family
from edge_embed_export.files.accounting import held
from edge_embed_export.files.pickled import in_place_of
from edge_embed_export.files.reading import sha256_of
from edge_embed_export.sources.checkpoint import Checkpoint
from edge_embed_export.sources.folding import ADAPTER, fold_adapter
from edge_embed_export.sources.prompts import ALIASES
from edge_embed_export.transformer.spec import Array, Spec, Weights
from edge_embed_runtime.bundle.adapters import BASE, MAX_ADAPTERS, Adapter
from edge_embed_runtime.bundle.manifest import Manifest
from edge_embed_runtime.checks import check_text
from edge_embed_runtime.errors import ExportError, InputError

# The task that stands for all of a model's own adapters.
EVERY_TASK = "all"
TABLE = "embedding.word"
# Ranks that are tried one after the other: what an adapter changes has few, but how many it does not say for products
# that a family takes apart. Beyond the last an adapter is no smaller than the weights.
RANKS = (16, 64, 256, 512)
# What rounding leaves in a difference of two float32 matrices, in parts of their largest number.
ROUNDING = 2.0**-23


@dataclass(frozen=True)
class Variant:
    """A model with one adapter added, and what the manifest says about the adapter."""

    adapter: Adapter
    checkpoint: Checkpoint
    sha256: str | None = None


def read_variants(
    checkpoint: Checkpoint, given: Mapping[str, str | os.PathLike[str]], *, every_task: bool
) -> list[Variant]:
    """The adapters of peft folders by name, and those of the model's own tasks (Jina v3).

    Raises InputError for names that cannot be, ExportError for a model without tasks.
    """
    tasks = jina.tasks(checkpoint) if every_task else []
    if every_task and not tasks:
        raise ExportError(f"{checkpoint.folder}: task {EVERY_TASK!r} means every adapter of the model; it has none")
    names = [*tasks, *given]
    for name in names:
        if not check_text(name, "the name of an adapter").strip() or not name.isprintable() or name == BASE:
            raise InputError(f"an adapter cannot be named {name!r:.60}")
    if len(set(names)) < len(names) or len(names) > MAX_ADAPTERS:
        raise InputError(f"there are {len(names)} adapters; at most {MAX_ADAPTERS} with names that differ can be")
    roles = _roles(names)
    instructions = jina.instructions(checkpoint)
    own = [Adapter(task, roles[task], instructions.get(task, "")) for task in tasks]
    variants = [Variant(adapter, replace(checkpoint, task=adapter.name)) for adapter in own]
    for name, folder in ((name, Path(folder)) for name, folder in given.items()):
        changed = replace(checkpoint, tensors=fold_adapter(dict(held(checkpoint.tensors)), folder))
        digest = sha256_of(in_place_of(folder / ADAPTER[1]) or folder / ADAPTER[1])
        variants.append(Variant(Adapter(name, roles[name]), changed, digest))
    return variants


def _roles(names: Sequence[str]) -> dict[str, list[str]]:
    """The roles of each adapter: those that are called as it is, here or by other models."""
    found: dict[str, list[str]] = {name: [] for name in names}
    for role, aliases in ALIASES.items():
        first = next((alias for alias in aliases if alias in found), None)
        if first is not None:
            found[first].append(role)
    return found


def with_adapters(manifest: Manifest, variants: Sequence[Variant]) -> Manifest:
    """What the manifest says about adapters: their names, and of which file each is that was given."""
    hashes = {variant.adapter.name: variant.sha256 for variant in variants if variant.sha256}
    provenance = {**manifest.provenance, **({"adapters_sha256": hashes} if hashes else {})}
    return replace(manifest, adapters=[variant.adapter for variant in variants], provenance=provenance)


def add_adapters(spec: Spec, weights: Weights, variants: Sequence[Variant]) -> dict[str, Array]:
    """The weights of a model with those of its adapters.

    Raises ExportError for an adapter that changes something else than linear layers and the embedding table.
    """
    parts: dict[str, list[tuple[Array, Array]]] = {}
    for number, variant in enumerate(variants):
        for name, first, second in _changes(spec, weights, variant):
            empty = [(first[:, :0], second[:0])]
            found = parts.setdefault(name, [])
            found += empty * (number - len(found))  # adapters before this one leave the layer as it is
            found.append((first, second))
    added = dict(weights)
    for name, found in parts.items():
        first, second = found[0]
        pairs = found + [(first[:, :0], second[:0])] * (len(variants) - len(found))
        ranks = [len(second) for _, second in pairs]
        added[f"{name}.lora_a.weight"] = np.hstack([first for first, _ in pairs])
        added[f"{name}.lora_a.bias"] = np.zeros(sum(ranks), np.float32)
        added[f"{name}.lora_b.weight"] = np.vstack([second for _, second in pairs])
        added[f"{name}.lora_ends"] = np.cumsum([0, *ranks]).astype(np.float32)
    return added


def _changes(spec: Spec, weights: Weights, variant: Variant) -> Iterator[tuple[str, Array, Array]]:
    """The linear layers that an adapter changes, with the factors of the change."""
    name = variant.adapter.name
    its, changed = read_family(variant.checkpoint)
    if its != spec or changed.keys() != weights.keys():
        raise ExportError(f"the adapter {name!r} makes another model of {variant.checkpoint.folder}; fold it in")
    found = False
    for key, weight in weights.items():
        if changed[key] is weight or np.array_equal(changed[key], weight):
            continue
        linear = key.endswith(".weight") and weight.ndim == 2 and not key.endswith(".router.weight")
        if not linear and key != TABLE:
            raise ExportError(
                f"the adapter {name!r} changes {key}, which only linear layers and the table of tokens can keep "
                "apart; fold it in instead: --adapter FOLDER or --task NAME"
            )
        found = True
        factors = low_rank(changed[key].astype(np.float64) - weight, float(np.abs(changed[key]).max()))
        if factors is None:
            raise ExportError(f"the adapter {name!r} changes {key} by more than rank {RANKS[-1]}; fold it in instead")
        yield key if key == TABLE else key.removesuffix(".weight"), *factors
    if not found:
        raise ExportError(f"the adapter {name!r} changes nothing: its weights are zero")


def low_rank(change: Any, largest: float) -> tuple[Array, Array] | None:
    """Factors [n, r] and [r, m] of a change [n, m], alike in size; None where no rank of RANKS is enough.

    largest: magnitude in the matrices that the change is the difference of, which tells what is rounding

    The range is found from products with random vectors (arXiv:0909.4061): exact where they are more than the rank.
    """
    n, m = change.shape
    noise = ROUNDING * largest * (np.sqrt(n) + np.sqrt(m))
    random = np.random.default_rng(0)
    for columns in RANKS:
        basis = np.linalg.qr(change @ random.standard_normal((m, min(columns, n, m))))[0]
        left, values, right = np.linalg.svd(basis.T @ change, full_matrices=False)
        rank = int((values > noise).sum())
        if rank < columns:
            root = np.sqrt(values[:rank])
            first, second = (basis @ left[:, :rank]) * root, root[:, None] * right[:rank]
            return first.astype(np.float32), second.astype(np.float32)
    return None
