"""`find`, `values`, `update`, and `delete --where`, as a user types them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders.commands import run, run_json
from builders.files import alter

from edge_embed import Document, Index
from edge_embed.cli.main import COMMANDS, GROUPS

DOCUMENTS = [
    Document(f"n/{i}", f"A note about {'ferries' if i % 2 else 'cats'}, number {i}. " * 20,
             {"lang": ("en", "de", "fr")[i % 3], "year": 2000 + i, "tags": ["all", f"t{i % 2}"], "isbn": f"00{i}"})
    for i in range(9)
]  # fmt: skip


@pytest.fixture
def index(tmp_path: Path) -> Path:
    path = tmp_path / "a.db"
    with Index.create(path, space="s", dim=4) as made:
        made.add_vectors(DOCUMENTS, np.random.default_rng(0).standard_normal((9, 4)))
    return path


def metadata(index: Path, key: str) -> Any:
    with Index.open(index, read_only=True) as opened:
        (found,) = opened.get_many(key)
    assert found is not None
    return found.metadata


def test_find_for_people_and_programs(index: Path) -> None:
    """A few lines for each document, one object for all, or an object on each line: the last two with whole texts."""
    result = run("find", index, "--where", "lang=en", "--limit", 2, "--offset", 1)
    assert (result.exit_code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[0].startswith('n/3  {"lang": "en", "year": 2003')
    assert lines[1].startswith("   A note about ferries, number 3.")
    assert (len(lines), len(lines[1])) == (4, 203)
    whole = [{"key": d.key, "text": d.text, "metadata": d.metadata} for d in DOCUMENTS]
    assert run_json("find", index) == {"documents": whole}
    assert run_json("find", index, "--where", "year>2005", "--limit", 0) == {"documents": []}
    rows = run("find", index, "--where", "year>=2004", "--jsonl").stdout.splitlines()
    assert [json.loads(row) for row in rows] == whole[4:]
    assert run("find", index, "--where", "year<2004", "--count").stdout == "4\n"
    assert run_json("find", index, "--count", "--max-rss", 10_000) == {"count": 9}
    nothing = run("find", index, "--where", "isbn>7")
    assert (nothing.stdout, nothing.exit_code) == (
        'nothing found; isbn>7 matches numbers only, isbn>"7" matches texts\n',
        0,
    )
    assert run("find", index, "--where", "isbn>7", "--jsonl").stdout == ""


def test_contains(index: Path) -> None:
    """`~=` asks whether a list has the value, or a text the letters; a number stands for its text too."""

    def found(*conditions: str) -> list[str]:
        given = [part for condition in conditions for part in ("--where", condition)]
        return [one["key"] for one in run_json("find", index, *given)["documents"]]

    assert found("tags~=t1") == ["n/1", "n/3", "n/5", "n/7"]
    assert found("tags~=t1", "tags~=all", "lang=de") == ["n/1", "n/7"]
    assert found("isbn~=4") == ["n/4"]
    assert found("$key~=/8") == ["n/8"]
    assert found("lang~=E") == []
    assert run("search", index, "cats", "--mode", "text", "--where", "tags~=t1").stdout.startswith(
        "nothing found: only"
    )


def test_values(index: Path) -> None:
    assert run("values", index, "lang").stdout.splitlines() == [
        '         3  "de"',
        '         3  "en"',
        '         3  "fr"',
        'from "de" to "fr"',
    ]
    shown = run("values", index, "tags", "--limit", 1, "--where", "lang=en").stdout.splitlines()
    assert shown == ['         3  "all"', "       ...  and more: see --limit", 'from "all" to "t1"']
    assert run_json("values", index, "year", "--limit", 2) == {
        "field": "year",
        "values": [{"value": 2000, "documents": 1}, {"value": 2001, "documents": 1}],
        "more": True,
        "range": [2000, 2008],
    }
    wrong = run("values", index, "land")
    assert (wrong.exit_code, wrong.stderr) == (
        1,
        "edge-embed: no document has the field 'land'; fields: lang, year, tags, isbn\n",
    )


def test_update(index: Path) -> None:
    """By key or by condition; values are JSON where they are JSON."""
    done = run("update", index, "n/1", "n/2", "--set", "year=1999", "--set", "lang=it", "--remove", "tags")
    assert (done.exit_code, done.stdout) == (0, f"{index}: 2 changed\n")
    assert metadata(index, "n/1") == {"lang": "it", "year": 1999, "isbn": "001"}
    given = '{"tags": ["a", {"b": null}], "isbn": null}'
    assert run_json("update", index, "--where", "lang=it", "--set-json", given) == {"changed": 2}
    assert metadata(index, "n/2") == {"lang": "it", "year": 1999, "isbn": None, "tags": ["a", {"b": None}]}
    missing = run("update", index, "n/1", "x", "--set", "a=1", "--json")
    assert missing.exit_code == 1
    assert json.loads(missing.stdout)["error"]["keys"] == ["x"]
    assert "a" not in metadata(index, "n/1")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["n/1"], "Nothing to change"),
        (["--set", "a=1"], "Missing argument 'KEY' or option '--where'"),
        (["n/1", "--where", "lang=en", "--set", "a=1"], "either KEY or --where"),
        (["n/1", "--set", "a"], "'a' is not FIELD=VALUE"),
        (["n/1", "--set", "a=1", "--set", "a=2"], "'a' is named twice"),
        (["n/1", "--set", "a=1", "--set-json", '{"a": 2}'], "'a' is named twice"),
        (["n/1", "--set-json", "[1]"], "expected a JSON object"),
        (["n/1", "--set-json", "{"], "is not JSON"),
        (["n/1", "--set-json", '{"a": 1, "a": 2}'], "a name comes twice"),
        (["--where-json", "null", "--set", "a=1"], "null is no object"),
    ],
)
def test_updates_that_cannot_be_meant(index: Path, arguments: list[str], message: str) -> None:
    result = run("update", index, *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr


def test_delete_by_condition(index: Path) -> None:
    """Only with --yes; without it, and with --dry-run, the number is shown and nothing goes."""
    refused = run("delete", index, "--where", "lang=de")
    assert refused.exit_code == 2
    assert "nothing was deleted: 3 fit --where; --yes deletes them" in refused.stderr
    assert run("delete", index, "--where", "lang=de", "--dry-run").stdout == f"{index}: 3 would be deleted\n"
    assert run_json("delete", index, "--where", "lang=de", "--dry-run", "--yes") == {"would_delete": 3}
    assert run_json("find", index, "--count") == {"count": 9}
    assert run("delete", index, "--where", "lang=de", "--yes").stdout == f"{index}: 3 deleted\n"
    assert run_json("delete", index, "--where", "lang=de", "--yes") == {"deleted": 0}
    assert run_json("delete", index, "n/0", "--dry-run") == {"would_delete": 1, "not_found": []}
    everything = ["--where-json", '{"$key": {"$prefix": ""}}']
    assert run_json("delete", index, *everything, "--yes", "--secure-delete") == {"deleted": 6}
    assert run_json("find", index) == {"documents": []}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Missing argument 'KEY' or option '--where'"),
        (["n/1", "--where", "lang=en", "--yes"], "either KEY or --where"),
        (["--yes"], "Missing argument"),
        (["--where-json", "null", "--yes"], "null is no object"),
        (["--where-json", "{}", "--yes"], "where is {}"),
        (["--where", "land=en", "--yes"], "no document has the field 'land'"),
        (["n/1", "--where-json", "{}"], "either KEY or --where"),
    ],
)
def test_deletions_that_cannot_be_meant(index: Path, arguments: list[str], message: str) -> None:
    """None of them deletes anything."""
    result = run("delete", index, *arguments)
    assert result.exit_code in (1, 2)
    assert message in result.stderr
    assert run_json("find", index, "--count") == {"count": 9}


def test_find_options_that_exclude_each_other(index: Path) -> None:
    for arguments in (
        ["--jsonl", "--json"],
        ["--jsonl", "--count"],
        ["--count", "--limit", 1],
        ["--count", "--offset", 1],
    ):
        assert run("find", index, *arguments).exit_code == 2


def test_damaged_documents_are_said(index: Path) -> None:
    """The others are listed; stderr has a warning."""
    alter(index, "UPDATE doc SET text = 'x' WHERE key = 'n/4'")
    result = run("find", index, "--json")
    assert len(json.loads(result.stdout)["documents"]) == 8
    assert "1 damaged passages" in result.stderr


def test_the_help_of_the_program_has_every_command_once() -> None:
    shown = [line.split()[0] for line in run("--help").stdout.splitlines() if line.startswith("  ")]
    assert sorted(name for name in shown if name in COMMANDS) == sorted(COMMANDS)
    grouped = [name for names in GROUPS.values() for name in names]
    assert sorted(grouped) == sorted(COMMANDS)
