"""What lets a span stand in the context variable itself, where a Context is expected."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from afterglow.otel.api import SPAN_KEY
from afterglow.otel.inherited import Inherited

__all__ = ["AsContext"]


class AsContext:
    """Answers as the Context would that holds this span above what is beneath it."""

    inherited: Inherited

    def get(self, key: str, default: Any = None) -> Any:
        return self if key == SPAN_KEY else self.inherited.base.get(key, default)

    def __getitem__(self, key: str) -> Any:
        return self if key == SPAN_KEY else self.inherited.base[key]

    def __contains__(self, key: object) -> bool:
        return key == SPAN_KEY or key in self.inherited.base

    def copy(self) -> dict[str, Any]:
        return {**self.inherited.base, SPAN_KEY: self}

    def keys(self) -> Any:
        return self.copy().keys()

    def values(self) -> Any:
        return self.copy().values()

    def items(self) -> Any:
        return self.copy().items()

    def __iter__(self) -> Iterator[str]:
        return iter(self.copy())

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, dict) and self.copy() == other)

    __hash__ = object.__hash__
