"""A short part of soak.py: every answer of threads and processes on one index is one that must be."""

from pathlib import Path

from builders import soak


def test_threads_on_one_index(tmp_path: Path) -> None:
    """Eight threads write and search through one object; each finds its own documents as it wrote them last."""
    result = soak.run_threads(tmp_path, 150)
    assert result["wrong"] == []
    assert result["requests"] >= 8 * 120


def test_a_writer_and_two_readers(tmp_path: Path) -> None:
    """Three processes: readers see what was acknowledged before they asked, and nothing but whole committed states."""
    result = soak.run_processes(tmp_path, 4)
    assert result["whole"]
    for name in ("writer", "reader 0", "reader 1"):
        assert result[name]["wrong"] == []
        assert result[name]["requests"] > 20
