"""Records for tests of back ends, and a cut in the line to a server."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from typing import Any

from afterglow.keep.backend import Changes, Put
from afterglow.keep.entry import Record

__all__ = ["Line", "fresh", "record"]


def record(trace_id: str, **values: Any) -> Record:
    """An entry as its store would hand it over."""
    given: dict[str, Any] = {
        "kind": "semantic",
        "curve": "power",
        "decay_rate": 0.01,
        "anchor": 0.5,
        "anchor_tick": 0,
        "peak_strength": 0.5,
        "valence": 0.0,
        "intensity": 0.0,
        "confidence": 0.5,
        "tags": (),
        "origin": "direct_experience",
        "source_id": None,
        "created_at": 1,
        "last_reinforced": 1,
        "reinforcement_count": 0,
        "parent_id": None,
        "unresolved": False,
        "consolidation_candidate": False,
        "embedding": None,
        "payload": "1",
    }
    return Record(trace_id=trace_id, **{**given, **values})


def fresh(*records: Record) -> Changes:
    """A flush of entries that are new."""
    return Changes(puts=[Put(each, fresh=True) for each in records], ingested=len(records))


class Line:
    """A line to a server that can be cut at a word of the client's: before the word is through
    (`before`), or after the server has done what it says, so that the answer is lost."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._word: bytes | None = None
        self._before = False
        self.cuts = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def cut_at(self, word: bytes, *, before: bool) -> None:
        """Once."""
        self._before = before
        self._word = word

    def close(self) -> None:
        # Wakes the thread that accepts, which would take one more otherwise.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._to))
                silent = threading.Event()
                for work in (
                    lambda c=client, s=server, q=silent: self._upward(c, s, q),
                    lambda c=client, s=server, q=silent: self._downward(c, s, q),
                ):
                    threading.Thread(target=_quietly(work), daemon=True).start()

    def _upward(
        self, client: socket.socket, server: socket.socket, silent: threading.Event
    ) -> None:
        while octets := client.recv(1 << 16):
            word = self._word
            if word is not None and word in octets:
                self._word = None
                self.cuts += 1
                if not self._before:
                    silent.set()
                    server.sendall(octets)
                    # The server says when it is done; nobody else hears it.
                    server.recv(1 << 16)
                break
            server.sendall(octets)
        for end in (client, server):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _downward(
        self, client: socket.socket, server: socket.socket, silent: threading.Event
    ) -> None:
        # Looks before it takes, so that the answer to the word stays for whoever waits for it.
        while server.recv(1, socket.MSG_PEEK) and not silent.is_set():
            client.sendall(server.recv(1 << 16))


def _quietly(work: Callable[[], None]) -> Callable[[], None]:
    def run() -> None:
        with contextlib.suppress(OSError):
            work()

    return run
