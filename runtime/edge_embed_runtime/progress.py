"""Progress of long work, on a terminal."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress_bar(total: int, show: bool, label: str = "embedding") -> Iterator[Callable[[int], None]]:
    """A bar on stderr that counts to `total`, where that is a terminal; click is imported only when one is shown."""
    if not show or not total or sys.stderr is None or not sys.stderr.isatty():
        yield lambda _: None
        return
    import click

    with click.progressbar(length=total, label=label, file=sys.stderr) as bar:
        yield bar.update
