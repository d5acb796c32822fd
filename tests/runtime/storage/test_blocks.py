"""Binary codes in the index file: blocks by id, damage made good from the rows, what verify says of them."""

import sqlite3

import numpy as np
import pytest

from edge_embed_runtime.storage.bitblocks import BLOCK, Blocks
from edge_embed_runtime.vectors.types import Ids, Words

DIM = 100  # two words


class Table:
    """A table `bits` over the words of some ids; `derived` counts the blocks that were made anew."""

    def __init__(self) -> None:
        self.db = sqlite3.connect(":memory:", isolation_level=None)
        self.db.execute("CREATE TABLE bits (block INTEGER PRIMARY KEY, places BLOB, words BLOB, crc INTEGER)")
        self.db.execute("CREATE TABLE vec (id INTEGER PRIMARY KEY)")
        self.truth: dict[int, list[int]] = {}
        self.derived: list[int] = []
        self.blocks = Blocks(self.db, DIM, self.derive)

    def derive(self, block: int) -> tuple[Ids, Words]:
        self.derived.append(block)
        ids = sorted(id_ for id_ in self.truth if id_ // BLOCK == block)
        return np.array(ids, np.int64), np.array([self.truth[i] for i in ids], np.uint64).reshape(-1, 2)

    def add(self, ids: list[int]) -> None:
        for id_ in ids:
            self.truth[id_] = [id_ * 7919, 2**63 + id_]
            self.db.execute("INSERT INTO vec VALUES (?)", (id_,))
        self.blocks.add(np.array(ids, np.int64), np.array([self.truth[i] for i in ids], np.uint64).reshape(-1, 2))

    def remove(self, ids: list[int]) -> None:
        for id_ in ids:
            self.truth.pop(id_, None)
            self.db.execute("DELETE FROM vec WHERE id = ?", (id_,))
        self.blocks.remove(np.array(ids, np.int64))

    def loaded(self, after: int = 0) -> dict[int, list[int]]:
        found: dict[int, list[int]] = {}
        for ids, words in self.blocks.load(after):
            assert (np.diff(ids) > 0).all()
            found |= dict(zip(ids.tolist(), words.tolist(), strict=True))
        assert list(found) == sorted(found)
        return found


@pytest.fixture
def table() -> Table:
    return Table()


def test_blocks_hold_what_was_added_and_not_removed(table: Table) -> None:
    """Commits of any size, over borders of blocks and far apart; removals in any order, of what is not there too."""
    random, last = np.random.default_rng(0), 0
    for _ in range(60):
        ids = (last + 1 + np.cumsum(random.integers(1, 40, random.integers(0, 30)))).tolist()
        table.add(ids)
        last = max([last, *ids]) + int(random.integers(0, 1000))
        table.remove(random.permutation([*list(table.truth)[:: int(random.integers(2, 9))], 10**6]).tolist())
        assert table.loaded() == table.truth
        after = int(random.integers(0, last + 1))
        assert table.loaded(after) == {id_: words for id_, words in table.truth.items() if id_ > after}
    assert table.blocks.count() == len(table.truth)
    assert table.derived == []  # nothing was damaged


def test_an_empty_block_leaves_no_row(table: Table) -> None:
    """A block whose last passage goes is gone."""
    table.add([1, 2, BLOCK])
    table.remove([2, 1])
    assert table.db.execute("SELECT block FROM bits").fetchall() == [(1,)]


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE bits SET words = zeroblob(length(words)) WHERE block = 1",
        "UPDATE bits SET words = x'00' WHERE block = 1",
        "UPDATE bits SET places = x'' WHERE block = 1",
        "UPDATE bits SET crc = crc + 1 WHERE block = 1",
        "UPDATE bits SET words = 'text', places = 7 WHERE block = 1",
        "UPDATE bits SET places = NULL WHERE block = 1",
    ],
)
def test_a_damaged_block_is_made_anew(table: Table, damage: str) -> None:
    """Damage changes no result; writing to a block mends it; verify sees it."""
    table.add([5, BLOCK + 3, BLOCK + 9, 2 * BLOCK])
    table.db.execute(damage)
    assert not table.blocks.fits(1)
    assert table.loaded() == table.truth
    assert table.blocks.fits(0)
    table.add([2 * BLOCK + 1])  # another block: this one stays as it is
    assert not table.blocks.fits(1)
    table.remove([BLOCK + 3])
    assert table.blocks.fits(1)
    table.db.execute(damage)
    table.add([BLOCK + 200])
    assert table.blocks.fits(1)
    table.db.execute(damage)
    table.blocks.replace(1)
    assert table.blocks.fits(1)
    assert table.loaded() == table.truth


def test_fits_compares_with_the_rows(table: Table) -> None:
    """A block that is whole but lacks a passage, has one too many, or another code, does not fit."""
    table.add([1, 2, 3])
    assert table.blocks.fits(0)
    for change in ({1: None}, {2: [0, 0]}, {4: [1, 1]}):
        kept = dict(table.truth)
        for id_, words in change.items():
            table.truth.pop(id_, None)
            if words is not None:
                table.truth[id_] = words
        if 1 in change:
            table.db.execute("DELETE FROM vec WHERE id = 1")
        assert not table.blocks.fits(0)
        table.truth = kept
    # a passage whose row is there but damaged keeps its code
    table.db.execute("INSERT OR IGNORE INTO vec VALUES (1)")
    del table.truth[1]
    assert table.blocks.fits(0)
