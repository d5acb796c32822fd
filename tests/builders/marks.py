"""Which of many rows of a test run always, and which with the slow ones."""

from collections.abc import Collection, Iterable
from typing import Any

import pytest


def slow_but(names: Iterable[Any], quick: Collection[Any]) -> list[Any]:
    """Values of a parameter: those of `quick` for every run of the tests, the others for that of the slow ones."""
    return [name if name in quick else pytest.param(name, marks=pytest.mark.slow) for name in names]
