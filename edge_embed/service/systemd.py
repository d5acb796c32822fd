"""What systemd hands to a service, and wants to hear: sd_listen_fds(3) and sd_notify(3), without its library."""

import os
import socket
from contextlib import suppress

from edge_embed_runtime.errors import InputError

FIRST = 3
VARIABLES = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")


def passed_sockets() -> list[socket.socket]:
    """The sockets that systemd opened for this process; none where it did not. Programs that this one starts do not
    see them. Raises InputError for what is no listening socket."""
    given = {name: os.environ.pop(name, "") for name in VARIABLES}
    if given["LISTEN_PID"] != str(os.getpid()):
        return []
    if not given["LISTEN_FDS"].isdecimal():
        raise InputError(f"LISTEN_FDS is {given['LISTEN_FDS'][:20]!r}, expected a number of sockets")
    return [_listening(FIRST + i) for i in range(int(given["LISTEN_FDS"]))]


def _listening(descriptor: int) -> socket.socket:
    try:
        found = socket.socket(fileno=descriptor)
        found.set_inheritable(False)
        listens = found.type == socket.SOCK_STREAM and found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError as error:
        raise InputError(f"descriptor {descriptor} of LISTEN_FDS is no socket: {error.strerror}") from None
    if not listens:
        raise InputError(f"descriptor {descriptor} of LISTEN_FDS does not listen: use ListenStream= and Accept=no")
    return found


def notify(state: str) -> None:
    """Tell systemd "READY=1", "WATCHDOG=1" or "STOPPING=1", where it wants to hear (Type=notify)."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address[:1] not in ("/", "@"):
        return
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        sender.sendto(state.encode(), address.replace("@", "\0", 1) if address[0] == "@" else address)


def watchdog_seconds() -> int | None:
    """After how many seconds systemd is to hear "WATCHDOG=1" again: half of WatchdogSec=, after which it starts the
    service again. None where it does not wait for that."""
    given, process = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID")
    if not given.isdecimal() or process not in (None, str(os.getpid())):
        return None
    return int(given) // 2_000_000
