"""LoRA adapters (arXiv:2106.09685) that a bundle keeps apart from its base, and which of them embeds a text.

The weights of all adapters lie in the model's own file, one after the other along the rank, in the order of the
manifest. The model takes the number of one as the input `adapter` and cuts its rows out; 0, which it takes where it
is given nothing, is none: rows of rank 0, whose products add nothing.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from edge_embed_runtime.checks import listed, shown
from edge_embed_runtime.errors import InputError

# The model's input: int64 [1], a number of an adapter, counted from 1.
INPUT = "adapter"
# Names the weights without any adapter, also where a role has one.
BASE = "base"
MAX_ADAPTERS = 1024


@dataclass(frozen=True)
class Adapter:
    """One adapter of a bundle.

    roles:  whose texts it embeds where the caller names no adapter
    prompt: put before texts where the caller names this adapter; None means what the role says
    """

    name: str
    roles: list[str] = field(default_factory=list)
    prompt: str | None = None


def parse_adapters(content: object) -> list[Adapter]:
    """The adapters of a manifest. Raises ValueError, TypeError or KeyError."""
    if not isinstance(content, list) or len(content) > MAX_ADAPTERS:
        raise TypeError(f"adapters must be a list of at most {MAX_ADAPTERS}")
    found = [Adapter(entry["name"], list(entry["roles"]), entry["prompt"]) for entry in content]
    names = [adapter.name for adapter in found]
    roles = [role for adapter in found for role in adapter.roles]
    if not all(isinstance(name, str) and name for name in (*names, *roles)):
        raise TypeError("adapters and their roles must have names")
    if not all(adapter.prompt is None or isinstance(adapter.prompt, str) for adapter in found):
        raise TypeError("the prompt of an adapter must be a text")
    if len({*names, BASE}) <= len(names) or len(set(roles)) < len(roles):
        raise ValueError(f"adapters {listed(names)} must differ, none is named {BASE!r}, and a role has one at most")
    return found


class Adapters:
    """The adapters of one bundle, as an embedder uses them.

    given: of the manifest
    chosen: the name of the one that embeds every text, BASE for none, or None: each role has its own

    Raises InputError for a name that the bundle does not have.
    """

    def __init__(self, given: Sequence[Adapter], chosen: str | None, what: str) -> None:
        self._given, self._what = list(given), what
        self._numbers = {adapter.name: number for number, adapter in enumerate(given, start=1)}
        self._roles = {role: adapter.name for adapter in given for role in adapter.roles}
        if chosen is not None:
            self._check(chosen)
        self.chosen: str | None = chosen

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._numbers)

    def fingerprint(self, of_bundle: str) -> str:
        """Vectors of one adapter, and those of the base alone, are not of the same space as those of another."""
        if self.chosen is None:
            return of_bundle
        return hashlib.sha256(f"{of_bundle} adapter {self.chosen}".encode()).hexdigest()[:32]

    def prompts(self, by_role: Mapping[str, str]) -> dict[str, str]:
        """Prompts by role, those of the bundle unless the chosen adapter has its own."""
        own = self._prompt(self.chosen)
        return dict(by_role) if own is None else dict.fromkeys(by_role, own)

    def choose(self, name: str | None, role: str | None) -> tuple[int, str | None]:
        """The number of what embeds a text, and the prompt that goes with it where that is not the role's.

        name: what the caller asks for in this call, or None
        """
        if name is not None:
            self._check(name)
            return self._numbers.get(name, 0), self._prompt(name)
        if self.chosen is not None:
            return self._numbers.get(self.chosen, 0), self._prompt(self.chosen)
        return self._numbers.get(self._roles.get(role or "", BASE), 0), None

    def _prompt(self, name: str | None) -> str | None:
        number = self._numbers.get(name or BASE, 0)
        return self._given[number - 1].prompt if number else None

    def _check(self, name: Any) -> None:
        if not isinstance(name, str) or (name != BASE and name not in self._numbers):
            known = f"its adapters are {listed(self._numbers)}" if self._numbers else "it has no adapters"
            raise InputError(
                f"{self._what} has no adapter {shown(name)}: {known}; {BASE!r} means none of them",
                option="adapter",
                value=shown(name),
            )
