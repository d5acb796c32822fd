"""The token: from a file that only its owner can read, from the environment, or made at random."""

import os
import secrets
import stat
from pathlib import Path

from edge_embed_runtime.errors import InputError

VARIABLE = "EDGE_EMBED_TOKEN"
LEAST, MOST = 16, 1024


def read_token(path: str | os.PathLike[str]) -> str:
    """The token in a file. Raises InputError where others can read the file, or it holds no token."""
    file = Path(path)
    try:
        with file.open("rb") as opened:
            status = os.fstat(opened.fileno())
            content = opened.read(MOST + 3) if stat.S_ISREG(status.st_mode) else b""
    except OSError as error:
        raise InputError(f"the token file {file} cannot be read: {error.strerror}", path=file) from None
    if not stat.S_ISREG(status.st_mode):
        raise InputError(f"the token file {file} is not a file", path=file)
    if os.name == "posix" and status.st_mode & 0o077:
        raise InputError(f"the token file {file} can be read or written by others: chmod 600 {file}", path=file)
    return _checked(content.strip().decode("latin-1"), f"the token file {file}")


def take_token() -> str | None:
    """The token in EDGE_EMBED_TOKEN, which is removed from the environment; None where there is none."""
    given = os.environ.pop(VARIABLE, "")
    return _checked(given, VARIABLE) if given else None


def new_token() -> str:
    """256 random bits."""
    return secrets.token_urlsafe(32)


def _checked(token: str, where: str) -> str:
    """A token that a header can hold, and nobody guesses; messages do not show it."""
    if not LEAST <= len(token) <= MOST or not all("!" <= character <= "~" for character in token):
        raise InputError(
            f"{where} must hold one token of {LEAST} to {MOST} visible ASCII characters without spaces, as "
            '`python -c "import secrets; print(secrets.token_urlsafe())"` makes'
        )
    return token
