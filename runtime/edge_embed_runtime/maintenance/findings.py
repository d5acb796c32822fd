"""What is wrong with an index, by what can be done about it."""

from dataclasses import dataclass, field
from typing import NamedTuple


class Damage(NamedTuple):
    """A document and what is wrong with it. The key is as it is stored, which may be what is damaged."""

    key: str
    what: str


@dataclass
class Findings:
    """Damage by what can be done about it; documents and passages by their ids."""

    documents: int = 0
    passages: int = 0
    broken: dict[int, Damage] = field(default_factory=dict)  # text whole, passages not: can be embedded again
    lost: dict[int, Damage] = field(default_factory=dict)
    places: dict[int, Damage] = field(default_factory=dict)  # where their places are damaged
    stray_places: int = 0  # documents that have places, and are not there
    thumbnails: dict[int, Damage] = field(default_factory=dict)  # where their small pictures are damaged
    stray_media: int = 0  # documents whose pictures are known, and are not there
    strays: list[int] = field(default_factory=list)  # passages of no document
    facts: list[str] = field(default_factory=list)
    tables: list[str] = field(default_factory=list)
    blocks: list[int] = field(default_factory=list)  # of binary codes
    words: list[str] = field(default_factory=list)
    content: list[str] = field(default_factory=list)  # documents that are not those of the last commit
    unreadable: list[str] = field(default_factory=list)
    orphans: list[tuple[str, str]] = field(default_factory=list)  # of no passage: (table, what is wrong)

    def problems(self) -> list[str]:
        strays = [f"{len(self.strays)} passages belong to no document"] if self.strays else []
        codes = [f"{len(self.blocks)} blocks of binary codes are damaged or not up to date"] if self.blocks else []
        others = [what for _, what in self.orphans]
        others += [f"places of {self.stray_places} documents that are not there"] if self.stray_places else []
        others += [f"pictures of {self.stray_media} documents that are not there"] if self.stray_media else []
        return [*self.facts, *self.content, *self.unreadable, *self.tables, *strays, *others, *codes, *self.words]
