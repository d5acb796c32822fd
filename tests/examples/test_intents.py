"""examples/intents: sentences to intents and slots, and what is refused."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from builders.examples import FOLDER, example

from edge_embed import Embedder

intents = example("intents")
HOME: dict[str, Any] = json.loads((FOLDER / "intents" / "home.json").read_text())


@pytest.fixture(scope="module")
def matcher() -> Any:
    return intents.Matcher(HOME, Embedder(threads=1), intents.THRESHOLDS["minilm"])


@pytest.mark.parametrize(
    ("command", "intent", "slots"),
    [
        ("Turn on the kitchen light", "TurnOn", {"light": "kitchen light"}),
        ("dim the desk lamp to twenty-five percent", "SetBrightness", {"light": "desk lamp", "number": 25}),
        ("make it 21.5 degrees in the living room", "SetTemperature", {"room": "living room", "number": 21.5}),
        ("shut the garage door", "CloseCover", {"door": "garage door"}),
        ("set a timer for zero minutes", "StartTimer", {"number": 0, "unit": "minutes"}),
        ("set a 2-hour timer", "StartTimer", {"number": 2, "unit": "hour"}),
        ("set the temperature to -5 degrees", "SetTemperature", {"number": -5}),
        ("set the volume to one hundred percent", "SetVolume", {"number": 100}),
        ("tell me when 12 minutes have passed", "StartTimer", {"number": 12, "unit": "minutes"}),
        ("will there be rain this evening?", "GetWeather", {}),
    ],
)
def test_understands(matcher: Any, command: str, intent: str, slots: dict[str, Any]) -> None:
    found = matcher.match(command)
    assert (found.intent, found.slots) == (intent, slots)
    assert 0.6 <= found.score <= 1.001


@pytest.mark.parametrize(
    "command",
    [
        "who painted the Mona Lisa?",  # no command for a home
        "turn on the desk lamp and the ceiling light",  # two of one slot
        "turn off the heater in 10 minutes",  # a number that no sentence about heaters has: not now
        "unlock the gate and the front door",
        "don't open the garage door",
        "never ever turn off the heater",
        "set the temperature to minus five degrees",
        "set a timer for two hundred seconds",
        "set a timer for an hour and 5 minutes",
        "turn on the lamp at 5 pm",
        "turn off the heater tomorrow",
        "unlock the front door if somebody rings",
        "",
    ],
)
def test_refuses(matcher: Any, command: str) -> None:
    """What is not understood as a whole is not done in part."""
    assert matcher.match(command).intent is None


def test_sentences(matcher: Any) -> None:
    """Of sentences in other words most are understood, few wrongly; of those that are no commands none."""
    rows = [line.split("\t") for line in (FOLDER / "intents" / "sentences.tsv").read_text().splitlines()]
    commands = [(wanted, matcher.match(command).intent) for wanted, command in rows if wanted != "-"]
    assert {wanted for wanted, _ in commands} == {*HOME["intents"]}
    assert sum(wanted == found for wanted, found in commands) >= 0.8 * len(commands)
    assert sum(found not in (wanted, None) for wanted, found in commands) <= 0.05 * len(commands)
    others = [matcher.match(command).intent for wanted, command in rows if wanted == "-"]
    assert others == [None] * 32


def test_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A command as arguments, or one a line; a home that names slots without values is refused."""
    assert intents.main(["--bundle", "static", "open", "the", "gate"]) == 0
    assert json.loads(capsys.readouterr().out)["intent"] == "OpenCover"
    monkeypatch.setattr("sys.stdin", io.StringIO("lock the gate\n\nunlock the gate\n"))
    assert intents.main(["--bundle", "static"]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(entry["intent"], entry["slots"]) for entry in found] == [
        ("LockDoor", {"door": "gate"}),
        ("UnlockDoor", {"door": "gate"}),
    ]
    for home, said in (
        ({"slots": {}, "intents": {"Go": ["go to {place}"]}}, "sentences name slots that have no values: place"),
        ({"slots": {}, "intents": {}}, "there is no sentence"),
        ({"slots": {}}, "expected {"),
        ([], "expected {"),
    ):
        (tmp_path / "home.json").write_text(json.dumps(home))
        assert intents.main(["--home", str(tmp_path / "home.json"), "--bundle", "static", "go"]) == 2
        assert f"intents: {said}" in capsys.readouterr().err


def test_variants() -> None:
    assert intents.variants("open it [now] or [then] later") == [
        "open it  or  later",
        "open it  or then later",
        "open it now or  later",
        "open it now or then later",
    ]
