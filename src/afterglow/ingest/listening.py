"""A socket that listens, or one line that says why there is none."""

from __future__ import annotations

import socket
from typing import Final

from afterglow.errors import SettingError
from afterglow.ingest.access import Address

__all__ = ["BACKLOG", "listening"]

#: Connections that wait to be accepted.
BACKLOG: Final = 1_024


def listening(address: Address) -> socket.socket:
    """A socket that listens there. Raises SettingError, which says why it cannot."""
    try:
        found = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        family, kind, protocol, _, where = found[0]
        sock = socket.socket(family, kind, protocol)
    except OSError as error:
        raise SettingError(f"cannot listen at {address}: {error.strerror}") from None
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(where)
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        raise SettingError(
            f"cannot listen at {address}: {error.strerror}; another collector may run there: "
            "choose another port"
        ) from None
    return sock
