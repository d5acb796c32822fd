"""Which tests run always, which only with others of their sort."""

from collections.abc import Collection, Iterable
from typing import Any

import pytest

# Tests with clients of others, which leave connections open.
CLIENTS = [pytest.mark.clients, pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")]


def slow_but(names: Iterable[Any], quick: Collection[Any]) -> list[Any]:
    """Values of a parameter: those of `quick` for every run of the tests, the others for that of the slow ones."""
    return [name if name in quick else pytest.param(name, marks=pytest.mark.slow) for name in names]
