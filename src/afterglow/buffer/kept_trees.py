"""Trees of traces that were looked at and are not due: the next look reads only what is new.

A trace that stays open for long is looked at again and again. What is kept here saves reading it
all each time; it is a shortcut and never the truth, so it may be dropped at any time, and is used
only where the list still begins with the same entry and the same went out before.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Final, NamedTuple

from afterglow.assembly import Piece, Tree

__all__ = ["FIRST_BYTES", "KeptTree", "KeptTrees"]

#: How much of the first entry says that the list is still the same: its time and first span id, and
#: the generation where it is what was left.
FIRST_BYTES: Final = 40
_SPANS: Final = 500_000


class KeptTree(NamedTuple):
    """A tree, the list it was read from, and repeats that were found in it and still lie there.

    `roots`: what was remembered then; `until_ns`: when the first of that is forgotten.
    """

    first: bytes
    roots: bytes | None
    until_ns: int
    tree: Tree
    duplicates: list[Piece]


class KeptTrees:
    """The newest trees, so many spans in all; safe in many threads: who takes one has it alone."""

    def __init__(self, max_spans: int = _SPANS) -> None:
        self._max_spans = max_spans
        self._lock = threading.Lock()
        self._trees: OrderedDict[bytes, KeptTree] = OrderedDict()
        self._spans = 0

    def take(self, name: bytes) -> KeptTree | None:
        """Have the tree of a trace; it is not kept any more."""
        if not self._trees:
            return None
        with self._lock:
            kept = self._trees.pop(name, None)
            if kept is not None:
                self._spans -= len(kept.tree)
            return kept

    def keep(self, name: bytes, kept: KeptTree) -> None:
        """Keep a tree that nobody works with any more."""
        with self._lock:
            old = self._trees.pop(name, None)
            self._spans += len(kept.tree) - (len(old.tree) if old else 0)
            self._trees[name] = kept
            while self._spans > self._max_spans:
                _, oldest = self._trees.popitem(last=False)
                self._spans -= len(oldest.tree)
