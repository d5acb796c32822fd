"""The report of a bundle: what its manifest says, and where it stands between quality, bytes and speed."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edge_embed.embedder import BUNDLES, bundle_path
from edge_embed.report.page import facts, section, table
from edge_embed.report.svg import Axis, Point, scatter
from edge_embed.report.tiers import TIERS
from edge_embed_runtime.bundle.manifest import MANIFEST, Manifest, read_manifest

# Has a line for every layer.
LONG = "recipes"
QUALITY = "nDCG@10"


def bundle_sections(path: Path) -> Iterator[str]:
    """Raises BundleError for what is no bundle."""
    manifest = read_manifest(path / MANIFEST)
    yield section("What it is", "", facts(_what(manifest)))
    yield _quality_against_bytes(manifest)
    yield _quality_against_speed(path, manifest)
    receipt = {name: value for name, value in manifest.receipt.items() if name != "truncate_dims"}
    yield section("Receipt", "What the exporter measured, on texts that it did not calibrate with.", facts(receipt))
    for name, tower in manifest.towers.items():
        told = {
            "receipt": tower.receipt,
            "architecture": tower.architecture,
            "quantization": _short(tower.quantization),
        }
        yield section(f"Model for {name}", "", facts(told))
    yield section("Quantization", "", facts({**_short(manifest.quantization), "codes": manifest.codes}))
    yield section("Where it comes from", "", facts(manifest.provenance))
    golden = [[entry.text] for entry in manifest.golden]
    yield section("Golden texts", "Every load embeds these and compares with stored vectors.", table(["text"], golden))


def _what(manifest: Manifest) -> dict[str, Any]:
    return {
        "name": manifest.name,
        "kind": manifest.output.label,
        "inputs": list(manifest.modalities),
        "bytes": sum(record.size for record in manifest.files.values()),
        "numbers in a vector": manifest.dim,
        "longest text, in tokens": manifest.max_tokens,
        "architecture": manifest.architecture,
        "prompts": manifest.prompts,
        "engine": manifest.engine,
        "fingerprint": manifest.fingerprint,
        "files": {name: record.size for name, record in manifest.files.items()},
    }


def _quality_against_bytes(manifest: Manifest) -> str:
    """How vectors are stored, whole and truncated, by what the receipt measured."""
    judged = _figures(manifest.receipt, "retrieval")
    rows = [(manifest.dim, tier, value) for tier, value in _figures(judged, "ndcg@10").items()]
    for dim, measured in _figures(manifest.receipt, "truncate_dims").items():
        rows += [(int(dim), tier, value) for tier, value in _figures(measured, "ndcg@10").items()]
    rows = [row for row in rows if row[1] in TIERS]
    names = list(TIERS)
    points = [Point(TIERS[tier](dim), value, f"{tier} {dim}", names.index(tier)) for dim, tier, value in rows]
    said = f"How well stored vectors find, on {judged.get('set', 'the set of the receipt')}. Numbers: vectors' length."
    plot = scatter("Quality against bytes", points, Axis("bytes of a vector", log=True), Axis(QUALITY, most=1))
    listed = [[dim, tier, TIERS[tier](dim), value] for dim, tier, value in rows]
    cells = table(["numbers", "stored as", "bytes", QUALITY], listed)
    return section("Quality against bytes", said, plot, cells)


def _quality_against_speed(path: Path, manifest: Manifest) -> str:
    """This bundle, its own model in float32, and embedded bundles that were measured alike."""
    judged, speed = _figures(manifest.receipt, "retrieval"), _figures(manifest.receipt, "speed")
    rows = _speeds(manifest)
    for name in BUNDLES:
        other = read_manifest(bundle_path(name) / MANIFEST)
        alike = _figures(other.receipt, "retrieval").get("set") == judged.get("set")
        same_cpu = _figures(other.receipt, "speed").get("cpu") == speed.get("cpu")
        if other.fingerprint != manifest.fingerprint and alike and same_cpu:
            rows += _speeds(other)[:1]
    if not rows:
        return ""
    points = [Point(rate, value, name, group) for group, (name, rate, value) in enumerate(rows)]
    said = f"As the exporters measured, on {speed.get('cpu', 'their CPUs')}, one thread. This machine: edge-embed bench"
    axes = Axis("tokens in a second of one core", log=True), Axis(QUALITY, most=1)
    plot = scatter("Quality against speed", points, *axes)
    listed = table(["model", "tokens/s", QUALITY], ([name, int(rate), value] for name, rate, value in rows))
    return section("Quality against speed", f"{said} --bundle {path.name}.", plot, listed)


def _speeds(manifest: Manifest) -> list[tuple[str, float, float]]:
    """Name, tokens per CPU second and quality, as exported and in float32, where the receipt has them."""
    judged, speed = _figures(manifest.receipt, "retrieval"), _figures(manifest.receipt, "speed")
    rows = (
        (manifest.name, speed.get("tokens_per_cpu_second"), _figures(judged, "ndcg@10").get("float")),
        (f"{manifest.name}, float32", speed.get("tokens_per_cpu_second_fp32"), judged.get("ndcg@10_fp32")),
    )
    return [(name, float(rate), float(value)) for name, rate, value in rows if rate is not None and value is not None]


def _short(quantization: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in quantization.items() if name != LONG}


def _figures(values: Any, name: str) -> dict[str, Any]:
    """A table in a receipt, which may hold anything."""
    found = values.get(name) if isinstance(values, dict) else None
    return found if isinstance(found, dict) else {}
