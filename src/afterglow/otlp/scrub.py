"""Values that are secret, taken out before anything is kept: by the key of their attribute.

Most requests have no such key, so a request is searched as a whole, as bytes and in lower case, for
the longest literal of each pattern; only where one is found is every attribute looked at.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from fnmatch import translate
from typing import Any, Final

__all__ = ["SCRUBBED", "Scrubber"]

SCRUBBED: Final = "[scrubbed]"

#: So many keys are remembered; a sender that makes up keys starts it anew.
_MOST_KEYS: Final = 10_000


class Scrubber:
    """Replaces the values of attributes whose key is like a pattern: `*password*`, in any case.

    Patterns are those of the shell; those that begin with `!` name keys that are left alone.
    """

    def __init__(self, patterns: Iterable[str]) -> None:
        wanted = [pattern.lower() for pattern in patterns if pattern and pattern != "!"]
        secret = [pattern for pattern in wanted if not pattern.startswith("!")]
        spared = [pattern[1:] for pattern in wanted if pattern.startswith("!")]
        self._secret = _any_of(secret)
        self._spared = _any_of(spared)
        self._needles = [_longest_literal(pattern).encode() for pattern in secret]
        self._known: dict[str, bool] = {}

    def may_be_in(self, body: bytes) -> bool:
        """Whether a request can have such a key at all; False is certain."""
        lowered = body.lower()
        return any(needle in lowered for needle in self._needles)

    def scrub(self, pairs: Any) -> int:
        """Replace secret values in a list of protobuf KeyValue, nested ones too; how many were."""
        changed = 0
        for pair in pairs:
            if self._is_secret(pair.key):
                if pair.value.string_value != SCRUBBED:
                    pair.value.Clear()
                    pair.value.string_value = SCRUBBED
                    changed += 1
            else:
                for inner in _inner_pairs(pair.value):
                    changed += self.scrub(inner)
        return changed

    def _is_secret(self, key: str) -> bool:
        known = self._known.get(key)
        if known is None:
            lowered = key.lower()
            known = bool(self._secret.match(lowered)) and not self._spared.match(lowered)
            if len(self._known) >= _MOST_KEYS:
                self._known.clear()
            self._known[key] = known
        return known


def _inner_pairs(value: Any) -> Iterator[Any]:
    """The lists of KeyValue inside a value, in arrays too."""
    kind = value.WhichOneof("value")
    if kind == "kvlist_value":
        yield value.kvlist_value.values
    elif kind == "array_value":
        for item in value.array_value.values:
            yield from _inner_pairs(item)


def _any_of(patterns: list[str]) -> re.Pattern[str]:
    return re.compile("|".join(map(translate, patterns)) or "(?!)")


def _longest_literal(pattern: str) -> str:
    """What every key that is like the pattern has in it."""
    return max(re.split(r"\[[^]]*\]|[*?]", pattern), key=len)
