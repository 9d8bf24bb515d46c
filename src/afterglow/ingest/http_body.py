"""Reading the body of a request: piece by piece, never more than we said we hold."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Literal

__all__ = ["BodyReader", "Gone", "Receive", "Waiting"]

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

#: Why there is no body: too large, too much waits already, too slow, or the peer has gone.
Gone = Literal["too_large", "crowded", "timeout", "left"]


class Waiting:
    """Bytes of bodies in hand, of all connections. Of one loop."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self.held_bytes = 0

    def claim(self, n_bytes: int) -> bool:
        """Hold so many more, unless that is too much beside what others hold."""
        if self.held_bytes and self.held_bytes + n_bytes > self._max_bytes:
            return False
        self.held_bytes += n_bytes
        return True

    def free(self, n_bytes: int) -> None:
        """What was claimed is done with."""
        self.held_bytes -= n_bytes


class BodyReader:
    """Reads one body. What it claimed of `waiting` is its own until `close`."""

    def __init__(self, waiting: Waiting, *, max_bytes: int, timeout_s: float) -> None:
        self._waiting = waiting
        self._max_bytes = max_bytes
        self._timeout_s = timeout_s
        self._claimed = 0

    async def read(self, receive: Receive) -> bytes | Gone:
        """The whole body, or why there is none."""
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._pieces(receive)
        except TimeoutError:
            return "timeout"

    async def _pieces(self, receive: Receive) -> bytes | Gone:
        pieces: list[bytes] = []
        while True:
            message = await receive()
            if message["type"] != "http.request":
                return "left"
            piece: bytes = message.get("body", b"")
            if self._claimed + len(piece) > self._max_bytes:
                return "too_large"
            if piece:
                if not self._waiting.claim(len(piece)):
                    return "crowded"
                self._claimed += len(piece)
                pieces.append(piece)
            if not message.get("more_body", False):
                return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def close(self) -> None:
        """The body is done with."""
        self._waiting.free(self._claimed)
        self._claimed = 0
