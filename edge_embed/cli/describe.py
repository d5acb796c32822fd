"""A bundle's manifest as lines for people, and as one object for programs."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_embed.cli.options import shorten
from edge_embed_runtime.bundle.manifest import Manifest
from edge_embed_runtime.checks import listed
from edge_embed_runtime.vectors.kinds import RERANK

if TYPE_CHECKING:
    from edge_embed_runtime.embed.loadedbundle import LoadedBundle

# Has a line for every layer; only --json shows it.
LONG = "recipes"
# Sections of the receipt with lines of their own.
TABLES = ("truncate_dims", "adapters")


def bundle_facts(manifest: Manifest) -> dict[str, Any]:
    facts = json.loads(manifest.to_json())
    facts["golden"] = [golden["text"] for golden in facts["golden"]]
    for tower in facts.get("towers", {}).values():
        tower["golden"] = [golden["name"] for golden in tower["golden"]]
    facts.pop("native", None)  # numbers for the engine
    facts["engine"] = manifest.engine
    if manifest.layers:  # without their offsets
        facts["layers"] = [layer.value for layer in manifest.layers]
    return dict(facts)


def bundle_lines(path: Path, manifest: Manifest) -> Iterator[str]:
    size = sum(record.size for record in manifest.files.values())
    yield f"{manifest.name}  {path}  {size / 1e6:.1f} MB, fingerprint {manifest.fingerprint}"
    if manifest.has_text:
        limits = f"dim {manifest.dim}, texts up to {manifest.max_tokens} tokens, {manifest.pooling} pooling"
        limits = _pair_limits(manifest) if manifest.output is RERANK else limits
        yield f"  {manifest.output.label:<13} {limits}"
        yield f"  architecture  {_plain(manifest.architecture)}"
    else:
        yield f"  {manifest.output.label:<13} dim {manifest.dim}, no model for texts"
    yield from _tower_lines(manifest)
    yield from _adapter_lines(manifest)
    if manifest.side:
        yield f"  side          {manifest.side}: the other role has its own network, in another bundle"
    if manifest.default_role:
        yield f"  default role  {manifest.default_role}: its prompt is put before texts without a role"
    if manifest.left_out:
        yield "  left out      the tokens of a prompt do not count in a text's vector"
    for section in ("prompts", "quantization", "codes", "receipt", "provenance"):
        for key, value in getattr(manifest, section).items():
            if key != LONG and not (section == "receipt" and key in TABLES):
                yield f"  {section:<13} {key}: {shorten(_plain(value), 240)}"  # the frame's centre is long
    if manifest.has_text and "verified" not in manifest.provenance:  # as in releases before it was there
        yield "  provenance    verified: not verified against the reference"
    yield from _truncation_lines(manifest)


def _tower_lines(manifest: Manifest) -> Iterator[str]:
    """The models for other inputs than texts."""
    if manifest.space:
        yield f"  space         {manifest.space}"
    for name, tower in manifest.towers.items():
        yield f"  {name:<13} {_plain(tower.architecture)}"
        for section in ("front", "quantization", "receipt", "provenance"):
            said = {key: value for key, value in getattr(tower, section).items() if key != LONG}
            yield f"  {name:<13} {section}: {shorten(_plain(said), 240)}"


def engine_lines(model: "LoadedBundle") -> Iterator[str]:
    """What runs a bundle here, and why not the engine that it was made for."""
    if model.engine:
        why = f"; made for {model.manifest.engine}, but {model.engine_reason}" if model.engine_reason else ""
        yield f"  engine        {model.engine}{why}"


def _pair_limits(manifest: Manifest) -> str:
    """What a cross-encoder reads and does with its numbers."""
    head, types = manifest.head, "read" if manifest.head["types"] else "not read"
    what = f"{listed(head['labels'])} of pairs up to {manifest.max_tokens} tokens"
    return f"{what}, {head['activation']}, types of tokens are {types}"


def _adapter_lines(manifest: Manifest) -> Iterator[str]:
    measured = _table(manifest, "adapters")
    for adapter in manifest.adapters:
        roles = f" (of {', '.join(adapter.roles)})" if adapter.roles else ""
        prompt = f", prompt {adapter.prompt!r:.60}" if adapter.prompt else ""
        found = measured.get(adapter.name)
        cosine = f": cosine_to_fp32 {_plain(found)}" if found else ""
        yield f"  adapter       {adapter.name}{roles}{prompt}{cosine}"


def _truncation_lines(manifest: Manifest) -> Iterator[str]:
    """The quality of truncated vectors."""
    measured = _table(manifest, "truncate_dims")
    if manifest.truncation:
        yield "  truncated     after a layer norm over the whole vector"
    for named in (dim for dim in manifest.truncate_dims if str(dim) not in measured):
        yield f"  truncated to  {named}: trained for"
    for dim, figures in measured.items():
        trained = "trained for" if figures.get("trained") else "not trained for"
        tiers, agreement = _plain(figures.get("ndcg@10")), figures.get("spearman")
        yield f"  truncated to  {dim}: {trained}; ndcg@10 {tiers}; spearman of cosines to whole {agreement}"


def _table(manifest: Manifest, section: str) -> dict[str, dict[str, Any]]:
    """Rows of a table of the receipt by name. A manifest may hold anything: what is not a table is left out."""
    found = manifest.receipt.get(section)
    return {k: v for k, v in found.items() if isinstance(v, dict)} if isinstance(found, dict) else {}


def _plain(value: Any) -> str:
    """{"a": 1, "b": {"c": 2}} -> a 1, b (c 2)."""
    if not isinstance(value, dict):
        return str(value)
    return ", ".join(f"{k} ({_plain(v)})" if isinstance(v, dict) else f"{k} {v}" for k, v in value.items())
