"""Commands for a home: python intents.py [COMMAND], or a command a line on stdin; prints INTENT and slots as JSON.

home.json has sentences for each intent, as Home Assistant has them, and the values of slots. A value in a command is
replaced by the name of its slot: "dim the desk lamp to 20" -> "dim the light to number". Of the sentences with exactly
these slots the nearest gives the intent; where it is too far away, or there is none, the intent is null.
"""

import argparse
import json
import re
import sys
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np

from edge_embed import EdgeEmbedError, Embedder

# Least cosine, by bundle: chosen on the odd lines of sentences.tsv (see bench/examples.py).
THRESHOLDS = {"minilm": 0.6, "static": 0.6}
# To vectors "don't open it", and "open it when I call", are near to "open it": refused by their words.
NEVER = re.compile(r"\b(?:do not|don['’]t|never)\b(?! need)|\bminus\b")
NOT_NOW = re.compile(
    r"\b(?:if|unless|when|until|before|after|later|tonight|tomorrow|except)\b|\d ?[ap]\.?m\b|\d:\d\d|o['’]clock"
)
TIMES = {"number", "unit"}  # slots of commands that may say when
SMALL = """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen
seventeen eighteen nineteen"""
TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
NUMBERS = {word: float(number) for number, word in enumerate(SMALL.split())}
NUMBERS |= {word: 10.0 * number for number, word in enumerate(TENS.split(), 2)}
ONES = SMALL.split()[1:10]
NUMBERS |= {f"{ten}{dash}{one}": NUMBERS[ten] + NUMBERS[one] for ten in TENS.split() for one in ONES for dash in " -"}
NUMBERS |= dict.fromkeys(["hundred", "a hundred", "one hundred"], 100.0)  # "two hundred" is two numbers, and refused


class Match(NamedTuple):
    """intent: None where the command is not understood; score: its cosine to the nearest sentence"""

    intent: str | None
    slots: dict[str, str | float]
    score: float


class Matcher:
    """home: what home.json holds, {"slots": {name: [value, ...]}, "intents": {name: [sentence, ...]}}"""

    def __init__(self, home: dict[str, Any], embedder: Embedder, threshold: float) -> None:
        if not isinstance(home, dict) or not all(isinstance(home.get(part), dict) for part in ("slots", "intents")):
            raise ValueError('expected {"slots": {NAME: [VALUE, ...]}, "intents": {NAME: [SENTENCE, ...]}}')
        self._embedder, self._threshold = embedder, threshold
        self._slot = {value.casefold(): slot for slot, values in home["slots"].items() for value in values}
        words = sorted({*self._slot, *NUMBERS}, key=len, reverse=True)  # "kitchen light" before "kitchen"
        self._values = re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, words))}|-?\d+(?:\.\d+)?)(?!\w)")
        several = [(intent, text) for intent, texts in home["intents"].items() for text in texts]
        sentences = [(intent, sentence) for intent, text in several for sentence in variants(text)]
        if not sentences:
            raise ValueError("there is no sentence")
        self._intents = [intent for intent, _ in sentences]
        self._slots = [frozenset(re.findall(r"\{(\w+)\}", sentence)) for _, sentence in sentences]
        if unknown := frozenset().union(*self._slots) - {*home["slots"]}:
            raise ValueError(f"sentences name slots that have no values: {', '.join(sorted(unknown))}")
        self._vectors = embedder.encode([re.sub(r"[{}]", "", sentence) for _, sentence in sentences])

    def match(self, command: str) -> Match:
        text = command.casefold()
        found = [(value[0], self._slot.get(value[0], "number")) for value in self._values.finditer(text)]
        slots = {slot: _number(value) if slot == "number" else value for value, slot in found}
        fits = np.array([own == slots.keys() for own in self._slots])
        asked = self._values.sub(lambda value: self._slot.get(value[0], "number"), text)
        cosines = np.where(fits, self._vectors @ self._embedder.encode([asked])[0], -1)
        best = int(cosines.argmax())
        score = float(cosines[best])
        unsure = len(found) > len(slots)  # of two lights it is not for us to choose one
        other = NEVER.search(text) or (slots.keys() - TIMES and NOT_NOW.search(text))
        if score < self._threshold or unsure or other:
            return Match(None, {}, score)
        return Match(self._intents[best], slots, score)


def _number(value: str) -> float:
    return NUMBERS[value] if value in NUMBERS else float(value)


def variants(sentence: str) -> list[str]:
    """With and without what is optional: "open it [now]" -> ["open it ", "open it now"]"""
    before, bracket, rest = sentence.partition("[")
    inner, _, after = rest.partition("]")
    return [before + part + end for part in ("", inner) for end in variants(after)] if bracket else [sentence]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", nargs="*", help="without it, commands are read line by line")
    parser.add_argument("--home", type=Path, default=Path(__file__).parent / "home.json")
    parser.add_argument("--bundle", choices=[*THRESHOLDS], default="minilm", help="static is faster [%(default)s]")
    options = parser.parse_args(arguments)
    try:
        embedder = Embedder(options.bundle, threads=1)
        matcher = Matcher(json.loads(options.home.read_text("utf-8")), embedder, THRESHOLDS[options.bundle])
        for command in [" ".join(options.command)] if options.command else filter(str.strip, sys.stdin):
            began = perf_counter()
            found = matcher.match(command.strip())
            took = round(1e3 * (perf_counter() - began), 2)
            print(json.dumps({**found._asdict(), "score": round(found.score, 3), "ms": took}), flush=True)
    except (EdgeEmbedError, OSError, ValueError) as error:
        print(f"intents: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:  # the way to end it
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
