"""examples/notes: prompts within a budget, answers of servers on loopback, citations that are looked up."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from builders.examples import FOLDER, example, language_model

from edge_embed import Embedder

notes = example("notes")
FERRY = "# Ferries\n\nThe ferry to the island leaves at nine.\n"
BREAD = "Bread with rye needs a hot oven, and three hours of patience.\n"
ASK = "when does the boat leave?"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two notes, in a working folder of their own."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "ferry.md").write_text(FERRY)
    (tmp_path / "notes" / "bread.txt").write_text(BREAD)
    return tmp_path / "notes"


def answered(capfd: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = notes.main(["notes", ASK, *arguments])
    said = capfd.readouterr()
    return status, said.out, said.err


def test_prompt(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Without a server the prompt is printed; its sources are numbered, the best first, and name file and place."""
    status, out, _ = answered(capfd)
    assert status == 0
    assert out.index("[1] notes/ferry.md, Ferries\n# Ferries") < out.index(
        "[2] notes/bread.txt, characters 0 to 62\nBread"
    )
    assert f"Question: {ASK}" in out


def test_budget(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Sources together stay within the budget, which the best ones get; where none fits that is said."""
    ferry = Embedder().count_tokens([FERRY])[0]
    _, out, _ = answered(capfd, "--budget", str(ferry))
    assert "[1] notes/ferry.md" in out
    assert "bread" not in out
    status, out, err = answered(capfd, "--budget", "3")
    assert (status, out) == (1, "")
    assert "notes: notes has nothing that fits a budget of 3 tokens" in err


def test_folder_is_read_again(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A changed note is found as it is now, a deleted one no more."""
    answered(capfd)
    (folder / "ferry.md").write_text(FERRY.replace("nine", "ten"))
    (folder / "bread.txt").unlink()
    _, out, _ = answered(capfd)
    assert "leaves at ten" in out
    assert "[2]" not in out


def test_folders_do_not_mix(folder: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Each folder has its index beside it, of the bundle that asks; a question without a word is an error."""
    monkeypatch.setenv("EDGE_EMBED_BUNDLE", "static")
    answered(capfd)
    (folder.parent / "work").mkdir()
    (folder.parent / "work" / "plan.txt").write_text("The plan is secret.")
    assert notes.main(["work/", ASK]) == 0
    assert "ferry" not in capfd.readouterr().out
    assert {path.name for path in folder.parent.glob("*.db")} == {"notes.notes.db", "work.notes.db"}
    assert notes.main(["work", ""]) == 1
    assert "the query is empty" in capfd.readouterr().err
    (folder.parent / "empty").mkdir()
    assert notes.main(["empty", ASK]) == 1
    assert "notes: empty has nothing that can be read" in capfd.readouterr().err


@pytest.mark.parametrize("openai", [True, False])
def test_answer(folder: Path, capfd: pytest.CaptureFixture[str], openai: bool) -> None:
    """Both kinds of servers are asked as they want it; each [n] is shown with its file, or said to be none."""
    message = {"message": {"role": "assistant", "content": "At nine [1], with bread [2, 7]."}}
    reply = json.dumps({"choices": [message]} if openai else message).encode()
    with language_model(reply) as (address, asked):
        status, out, err = answered(capfd, "--llm", address + ("/v1" if openai else ""), "--model", "small")
    assert status == 0
    assert out.splitlines() == [
        "At nine [1], with bread [2, 7].",
        "[1] notes/ferry.md, Ferries",
        "[2] notes/bread.txt, characters 0 to 62",
    ]
    assert "do not rely on it: the answer cites [7], which are no sources" in err
    ((path, body),) = asked
    assert path == ("/v1/chat/completions" if openai else "/api/chat")
    assert (body["model"], body["stream"], ASK in body["messages"][0]["content"]) == ("small", False, True)


@pytest.mark.parametrize(
    ("reply", "code", "said"),
    [
        (b'{"error": "no such model"}', 200, "{'error': 'no such model'}"),
        (b'["message"]', 200, "['message']"),
        (b'{"message": {"content": null}}', 200, "{'message': {'content': None}}"),
        (b"{", 200, "Expecting"),
        (b"", 404, "Not Found"),
    ],
)
def test_bad_answers(reply: bytes, code: int, said: str) -> None:
    """No answer, no JSON, an error of the server: it is said which."""
    said = re.escape(f"/api/chat gave no answer: {said}")
    with language_model(reply, code) as (address, _), pytest.raises(ValueError, match=said):
        notes.ask(address, "small", "a prompt")


def test_answer_without_sources(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """An answer that cites nothing is shown with a warning; a server that is not there is one line."""
    with language_model(b'{"message": {"content": "At nine."}}') as (address, _):
        status, out, err = answered(capfd, "--llm", address)
    assert (status, out) == (0, "At nine.\n")
    assert "do not rely on it: the answer cites no source" in err
    status, out, err = answered(capfd, "--llm", address)
    assert (status, out) == (1, "")
    assert re.search(r"/api/chat gave no answer: .*Connection refused$", err.splitlines()[-1])


@pytest.mark.parametrize(
    "address", ["http://example.org/v1", "https://127.0.0.1@evil.example/", "ftp://127.0.0.1", "x"]
)
def test_notes_stay_here(folder: Path, capfd: pytest.CaptureFixture[str], address: str) -> None:
    """An address of another machine is refused before anything is read."""
    with pytest.raises(SystemExit, match="2"):
        notes.main(["notes", ASK, "--llm", address])
    assert "notes stay on this machine" in capfd.readouterr().err


@pytest.mark.slow
def test_watch(folder: Path) -> None:
    """--watch: questions get answers from notes that are written while they are asked."""
    command = [sys.executable, str(FOLDER / "notes" / "notes.py"), "notes", "--watch", "--budget", "40"]
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes, env={**os.environ, "PYTHONUNBUFFERED": "1"}) as program:
        assert program.stdin is not None
        assert program.stdout is not None
        (folder / "tides.md").write_text("High tide is at seven in the evening.")
        for _ in range(100):
            program.stdin.write("when is high tide?\n")
            program.stdin.flush()
            prompt = "".join(iter(program.stdout.readline, "Question: when is high tide?\n"))
            if "at seven in the evening" in prompt:
                break
        else:
            raise AssertionError("the new note was not found")
        program.stdin.close()
        assert program.wait() == 0
