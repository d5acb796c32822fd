"""bench/portable.py measures bundles beside each other."""

from pathlib import Path

import pytest

from bench import portable


def test_figures_of_each_bundle(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(portable, "QUERIES", 1)
    found = portable.measure([str(tiny_bundle), "static"], rounds=1)
    assert list(found) == [str(tiny_bundle), "static"]
    assert all(query > 0 and rate > 0 for query, rate in found.values())
    assert portable.peak_mb(str(tiny_bundle)) > 20
