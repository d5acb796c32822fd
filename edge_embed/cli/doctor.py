"""`edge-embed doctor`."""

import os
from collections.abc import Iterator
from typing import Any

import click

from edge_embed.cli.options import BUNDLE_VARIABLE, json_option, show

MEGABYTE = 1_000_000
LEVELS = ("problem", "warning", "note")
VERDICTS = {"ok": "OK", "warnings": "OK, with warnings", "unusable": "unusable"}


@click.command()
@click.argument("bundles", metavar="[FOLDER|minilm|static]...", nargs=-1)
@click.option("--tune", is_flag=True, help="Store the best settings for this machine; every Embedder then uses them.")
@click.option("--forget", is_flag=True, help="Remove what --tune stored; measure nothing.")
@json_option
def doctor(bundles: tuple[str, ...], tune: bool, forget: bool, as_json: bool) -> None:
    """Check this machine: CPU, memory, packages, speed of bundles.

    Give folders of bundles, or names of embedded ones, to compare them; without any, the one in the environment or the
    default is measured. Each native package is tried in its own process, so a package that crashes on this CPU is
    found. The exit status is 1 if edge-embed cannot be used here.
    """
    if forget:
        if bundles or tune:
            raise click.UsageError("--forget cannot be combined with --tune or bundles.")
        _forget(as_json)
        return
    from edge_embed.doctor.examine import examine

    default = os.environ.get(BUNDLE_VARIABLE)
    given = list(dict.fromkeys(bundles)) or ([default] if default else [])
    report = examine(given, tune=tune, show_progress=True).to_json()
    show(report, as_json, lambda: _lines(report))
    if report["verdict"] == "unusable":
        click.get_current_context().exit(1)


def _forget(as_json: bool) -> None:
    from edge_embed_runtime.system import stamps
    from edge_embed_runtime.system.tuning import forget_verdict

    path, passed = forget_verdict(), stamps.forget()
    removed = [f"{one} removed" for one in (path, passed) if one is not None]
    show({"forgotten": None if path is None else str(path)}, as_json, lambda: removed or ["nothing was stored"])


def _lines(report: dict[str, Any]) -> Iterator[str]:
    yield from _row("edge-embed", report["version"])
    yield from _machine_lines(report["machine"])
    for part in report["parts"]:
        yield from _row(part["name"], f"{part['version'] or '-':<10}{'works' if part['works'] else part['problem']}")
    native = report["native"]
    yield from _row("native", native["instruction_set"] or f"no library: {native['reason']}")
    for bundle in report["bundles"]:
        yield from _bundle_lines(bundle)
    if report["bundles"]:
        yield ""
    if (scan := report["scan"]) is not None:
        large = scan["ms_per_million"] * scan["graph_from"] / 1e6
        yield from _row(
            "index",
            f"scan {scan['ms_per_100k']:.2f} ms for 100,000 vectors of {scan['dim']} dimensions; rebuild tries a graph "
            f"from {scan['graph_from']:,} on, where a scan would take about {large:.0f} ms",
        )
    if report["tuned"]:
        yield from _row("tuned", f"stored in {report['tuned']}; remove it with edge-embed doctor --forget")
    yield from _row("verdict", VERDICTS[report["verdict"]])
    for finding in sorted(report["findings"], key=lambda finding: LEVELS.index(finding["level"])):
        yield f"  {finding['level']}: {finding['text']}"


def _row(name: str, value: str) -> Iterator[str]:
    yield f"{name:<13}{value}"


def _size(count: int | None) -> str:
    return "unknown" if count is None else f"{count / MEGABYTE:,.0f} MB"


def _machine_lines(machine: dict[str, Any]) -> Iterator[str]:
    cores, memory = machine["cores"], machine["memory"]
    limits = [f"{cores['affinity']} by affinity"]
    limits += [f"{cores['quota']:g} by cgroup quota"] if cores["quota"] else []
    limits += [f"{cores['physical']} physical"] if cores["physical"] else []
    yield from _row("cpu", f"{machine['cpu']} ({machine['architecture']})")
    yield from _row("features", " ".join(machine["features"]) or "unknown")
    yield from _row("cores", f"{cores['usable']} used: {', '.join(limits)}")
    limit = "no limit" if memory["limit"] is None else f"limit {_size(memory['limit'])}"
    yield from _row("memory", f"{_size(memory['total'])}, {_size(memory['available'])} available, {limit} by cgroup")
    for disk in machine["disk"]:
        where = f"{disk['path']} ({disk['for']})"
        yield from _row("disk", f"{_size(disk['free'])} free in {where}{'' if disk['writable'] else ', not writable'}")
    pages = f", pages of {machine['page_size'] // 1024} KiB" if machine["page_size"] else ""
    libc = f", {machine['libc']}" if machine["libc"] else ""
    yield from _row("system", f"{machine['system']}{libc}{pages}, {machine['python']}")


def _bundle_lines(bundle: dict[str, Any]) -> Iterator[str]:
    yield ""
    if bundle["problem"]:
        yield from _row("bundle", f"{bundle['path'] or 'the embedded one'}: {bundle['problem']}")
        return
    yield from _row("bundle", f"{bundle['name']}, {_size(bundle['bytes'])}, {bundle['path']}")
    peak = f"; peak memory of one query {_size(bundle['peak_rss'])}" if bundle["peak_rss"] else ""
    products = "saturate here: the fast form is wrong" if bundle["saturates"] else "are exact here"
    kinds = {"float": "float32 products", "static": "a table of token vectors, no products"}
    kinds["int8"] = "int8 products that cannot saturate"
    kinds["native"] = "int8 products of the native engine, exact everywhere"
    yield from _row("", kinds.get(bundle["forms"][0]["form"], f"int8 products {products}") + peak)
    counts = max((list(form["texts_per_second"]) for form in bundle["forms"]), key=len)
    heads = "".join(f"{name:>12}" for name in (f"{count} thread{'s' if int(count) > 1 else ''}" for count in counts))
    yield f"{'':<13}{'form':<7}{'golden':>10}{'ms/query':>10}{heads}   (texts/s)"
    for form in bundle["forms"]:
        if form["problem"]:
            yield f"{'':<13}{form['form']:<7}{'wrong':>10}   does not reproduce the golden vectors on this CPU"
            continue
        golden = f"{form['golden_cosine']:.6f}" if bundle["golden_texts"] else "none"
        found = [form["texts_per_second"][count] for count in counts]
        rates = "".join(f"{rate:>12,.0f}" if rate >= 10 else f"{rate:>12.2f}" for rate in found)
        yield f"{'':<13}{form['form']:<7}{golden:>10}{form['ms_per_query']:>10.2f}{rates}"
    if (choice := bundle["choice"]) is not None:
        threads = f"{choice['threads']} thread{'s' if choice['threads'] > 1 else ''}"
        yield from _row("", f"best here: {choice['form']}, {threads}")
