"""Facts have types in the program and are text in the file, as every release has written them."""

from typing import Any

import numpy as np
import pytest

from edge_embed_runtime.storage.schema import Facts, SideModel
from edge_embed_runtime.vectors.rotation import Frame

# As the release before facts had types wrote them.
ROWS = {
    "fingerprint": "abcd",
    "bundle": "a model",
    "dim": "8",
    "space": "yes",
    "words": "plain",
    "fields": '["lang", "n"]',
    "frame": '{"centre": null, "turned": false}',
    "sparse": '["12", "s", 300]',
    "late": "yes",
    "normal": "NFKC",
    "crc": "3992310195",
}
FACTS = Facts(
    "abcd",
    "a model",
    8,
    space=True,
    words="plain",
    fields=("lang", "n"),
    sparse=SideModel("12", "s", 300),
    late=True,
    normal="NFKC",
)


class Forged(Facts):
    """Rows with other texts, and the checksum of these."""

    texts: dict[str, str] = {}  # noqa: RUF012

    def _texts(self) -> dict[str, str]:
        return {**super()._texts(), **self.texts}


def forged(monkeypatch: pytest.MonkeyPatch, **texts: str) -> dict[str, str]:
    monkeypatch.setattr(Forged, "texts", texts)
    return Forged(**vars(FACTS)).rows()


def test_facts_are_stored_as_by_earlier_releases() -> None:
    """Byte by byte, with the same checksum; read again they are the same."""
    assert FACTS.rows() == ROWS
    assert Facts.from_rows(ROWS) == FACTS
    assert FACTS.attached == {"sparse": SideModel("12", "s", 300)}


def test_later_facts_that_say_nothing_are_not_stored() -> None:
    """So that files of earlier releases, and files for them, are whole."""
    rows = Facts("f", "b", 8).rows()
    assert set(rows) == {"fingerprint", "bundle", "dim", "space", "words", "fields", "frame", "crc"}
    assert rows["space"] == ""
    assert Facts.from_rows(rows) == Facts("f", "b", 8)


def test_a_frame_is_read_with_every_bit() -> None:
    """Its centre is a part of the checksum."""
    centre = np.random.default_rng(0).standard_normal(8).astype(np.float32)
    rows = Facts("f", "b", 8, frame=Frame(centre, turned=True)).rows()
    read = Facts.from_rows(rows)
    assert read is not None
    assert read.frame.turned
    np.testing.assert_array_equal(read.frame.centre, centre)
    assert read.rows() == rows


@pytest.mark.parametrize(
    "texts",
    [
        {"space": "maybe"},
        {"late": "perhaps"},
        {"words": "klingon"},
        {"normal": "NFX"},
        {"dim": "8.0"},
        {"dim": "008"},
        {"fields": '["lang"'},
        {"fields": "7"},
        {"sparse": '["12", "s"]'},
        {"sparse": '["12", "s", 300, 4]'},
        {"multi": "[" * 100_000},
    ],
)
def test_facts_that_this_release_does_not_know_are_refused(
    texts: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where their checksum fits."""
    assert Facts.from_rows(forged(monkeypatch)) == FACTS
    assert Facts.from_rows(forged(monkeypatch, **texts)) is None


@pytest.mark.parametrize("change", [{"dim": "9"}, {"dim": None}, {"crc": "1"}, {"crc": None}, {"bundle": b"x"}])
def test_damaged_facts_are_none(change: dict[str, Any]) -> None:
    """The checksum covers all of them, and SQLite does not enforce types when it reads."""
    assert Facts.from_rows({**ROWS, **change}) is None


def test_a_frame_of_another_dim_is_no_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    """Opening says what is wrong with it."""
    rows = forged(monkeypatch, frame=Frame(np.ones(4, np.float32)).to_json())
    with pytest.raises(ValueError, match="not a frame of 8 dimensions"):
        Facts.from_rows(rows)
