"""What tests do to files and processes behind the program's back."""

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any


def refused_after_fork(use: Callable[[], object], kind: type[Exception]) -> bool:
    """Whether a call in a forked child raises an error of this kind that speaks of the fork."""
    child = os.fork()
    if child == 0:
        try:
            use()
        except kind as error:
            os._exit(0 if "fork" in str(error) else 2)
        os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def alter(path: Path, *statements: str, parameters: tuple[Any, ...] = ()) -> None:
    """Change a closed index file behind the index's back; `parameters` are those of each statement."""
    db = sqlite3.connect(path)
    for statement in statements:
        db.execute(statement, parameters)
    db.commit()
    db.close()
