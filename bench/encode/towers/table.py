"""The result as text: candidates are rows, ours first."""

from collections.abc import Iterator
from typing import Any

from bench.common import OURS
from bench.encode.towers.run import ratios
from bench.report import head, number, table

THINGS = {"image": "images", "audio": "sounds"}


def lines(result: dict[str, Any]) -> Iterator[str]:
    """The table of a run, what reading costs, and notes."""
    yield from head(result)
    if result["model"]["random"]:
        yield "random weights of the real layout"
    yield ""
    batches = [str(batch) for batch in result["settings"]["batches"]]
    ours = {batch: dict(ratios(result, batch)) for batch in batches}
    things = THINGS[result["modality"]]
    headings = [f"\n{things}, one core"]
    for batch in batches:
        headings += [f"batch {batch}\nper CPU s", "CPU ms\neach", "ours\nis"]
    headings += ["cosine\nmean", "\nlowest", "peak\nRSS MB", "first\nvector s"]
    rows = []
    for name, facts in result["candidates"].items():
        row = [facts["title"]]
        for batch in batches:
            rate = facts.get("batches", {}).get(batch, {}).get("per_cpu_second")
            factor = ours[batch].get(name)
            row += [number(rate, ".2f"), number(rate and 1e3 / rate, ".1f"), f"{factor:.2f} x" if factor else ""]
        row += [number(facts.get(f"cosine_{which}"), ".5f") for which in ("mean", "min")]
        row += [number(facts.get("peak_rss_mb"), ".0f"), number(facts.get("seconds_to_first_vectors"), ".2f")]
        rows.append(row)
    yield from table(headings, rows)
    if result["reading"]:
        yield ""
        yield from _reading(result["reading"])
    for facts in result["candidates"].values():
        if "reason" in facts:
            yield f"{facts['title']}: {facts['reason']}"
    yield from result["notes"]


def _reading(read: dict[str, float]) -> Iterator[str]:
    """CPU milliseconds beside the model's own."""
    model = read["model_ms"]
    named = {
        "large_full_ms": f"a JPEG of 12 megapixels ({read['large_bytes'] / 1e6:.1f} MB), decoded in full",
        "large_scaled_ms": "the same, decoded scaled",
        "small_full_ms": "a JPEG of 640 x 480",
    }
    rows = [[title, number(read[name], ".1f"), number(read[name] / model, ".2f")] for name, title in named.items()]
    rows.append([f"the model of {OURS}", number(model, ".1f"), ""])
    yield from table(["reading a picture", "CPU ms", "of the model"], rows)
    yield f"cosine of scaled to full: mean {read['cosine_scaled_mean']:.5f}, lowest {read['cosine_scaled_min']:.5f}"
