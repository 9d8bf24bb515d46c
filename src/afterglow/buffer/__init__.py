"""Span buffers: spans wait here until their trees are there (docs/architecture.md).

The names below are imported when they are first used: a back end brings its library along.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from afterglow.buffer.memory import MemoryBuffer
    from afterglow.buffer.redis import RedisBuffer
    from afterglow.model.segment import BufferedSpan

__all__ = ["BufferedSpan", "MemoryBuffer", "RedisBuffer"]

_HOMES = {
    "BufferedSpan": "afterglow.model.segment",
    "MemoryBuffer": "afterglow.buffer.memory",
    "RedisBuffer": "afterglow.buffer.redis",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(home), name)
