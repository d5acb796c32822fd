"""Sockets that the service listens on, and who can connect to them."""

import ipaddress
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from edge_embed_runtime.errors import InputError

BACKLOG = 512
# Seconds that a server at a unix socket has to take a connection.
PATIENCE = 1.0


@dataclass(frozen=True)
class Listening:
    """A socket that listens.

    local: whether only this machine's programs can connect; of a unix socket, only this user's
    port:  None for a unix socket
    name:  where clients find it
    host:  the address that it is bound to, where that is one of this machine's and not all of them
    file:  of a unix socket that was made here: its path, device and inode
    """

    socket: socket.socket
    local: bool
    port: int | None
    name: str
    host: str | None = None
    file: tuple[Path, int, int] | None = None

    def close(self) -> None:
        """Close it; take a unix socket out of its folder, unless another has taken its place."""
        self.socket.close()
        if self.file is not None:
            path, *identity = self.file
            with suppress(OSError):
                status = path.lstat()
                if [status.st_dev, status.st_ino] == identity:
                    path.unlink()


def listen_tcp(host: str, port: int) -> Listening:
    """Listen on an address of this machine. Raises InputError where that cannot be."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        # of the two of "localhost" the one that more clients try first
        family, kind, protocol, _, address = min(found, key=lambda each: each[0] != socket.AF_INET)
    except (OSError, UnicodeError) as error:
        raise InputError(f"{host!r} is no address of this machine: {error}", option="host") from None
    made = socket.socket(family, kind, protocol)
    try:
        if os.name == "posix":
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
        made.listen(BACKLOG)
    except OSError as error:
        made.close()
        raise InputError(f"{host}:{port} cannot be listened on: {error.strerror}", option="port") from None
    return of_socket(made)


def listen_unix(path: str | os.PathLike[str]) -> Listening:
    """Listen on a unix socket that only this user can connect to. What a server left there that has ended is replaced.

    Raises InputError where another server listens, or there is something else.
    """
    if not hasattr(socket, "AF_UNIX"):
        raise InputError("this system has no unix sockets: leave out --unix", option="unix")
    place = Path(path).absolute()
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _alone(place.parent):
            _make_room(place)
            before = os.umask(0o177)
            try:
                made.bind(str(place))
            finally:
                os.umask(before)
            made.listen(BACKLOG)
        status = place.lstat()
    except OSError as error:
        made.close()
        reason = error.strerror or str(error)
        raise InputError(f"the unix socket {place} cannot be made: {reason}", path=place, option="unix") from None
    except BaseException:
        made.close()
        raise
    return Listening(made, True, None, f"unix:{place}", file=(place, status.st_dev, status.st_ino))


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Of several services that start at a time, one looks for what is left in a folder and takes its place. Where
    the file system has no locks, nothing is locked."""
    import fcntl  # Windows has none

    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def of_socket(made: socket.socket) -> Listening:
    """A socket that listens already, as systemd passes one."""
    address = made.getsockname()
    if made.family == getattr(socket, "AF_UNIX", None):
        name = os.fsdecode(address) if isinstance(address, bytes | str) else ""
        return Listening(made, _is_private(name), None, f"unix:{name}")
    host, port = address[:2]
    shown = f"[{host}]" if ":" in host else host
    number = ipaddress.ip_address(host.partition("%")[0])
    alone = None if number.is_unspecified else shown
    return Listening(made, number.is_loopback, port, f"http://{shown}:{port}", alone)


def _is_private(path: str) -> bool:
    """Whether only this user can connect to a unix socket. Anyone can to one without a file."""
    try:
        return path[:1] == "/" and stat.S_IMODE(Path(path).lstat().st_mode) & 0o077 == 0
    except OSError:
        return False


def _make_room(place: Path) -> None:
    """Take a socket away that nobody listens on. Raises InputError for anything else that is there."""
    try:
        status = place.lstat()
    except FileNotFoundError:
        return
    except OSError as error:
        raise InputError(f"the unix socket {place} cannot be made: {error.strerror}", path=place) from None
    if not stat.S_ISSOCK(status.st_mode):
        raise InputError(f"{place} is there, and is no socket: give --unix another path", path=place, option="unix")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.settimeout(PATIENCE)
        try:
            asking.connect(str(place))
        except ConnectionRefusedError:
            place.unlink(missing_ok=True)
            return
        except OSError as error:  # one that is there, and too busy
            raise InputError(
                f"the unix socket {place} is in use: {error.strerror or error}", path=place, option="unix"
            ) from None
    raise InputError(f"another server listens on the unix socket {place}", path=place, option="unix")
