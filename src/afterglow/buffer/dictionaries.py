"""The zstd dictionary that small blobs are squeezed with: who trains it, and where it is.

The first worker that has seen enough spans trains one, and all adopt the one that was there
first. A copy lies in the slot of each bucket whose entries use it; the script that appends them
sees that it is there, and lives longer than they do, or appends nothing. So an entry can always be
read, by any process, after a failover, a move of its slot, or when somebody emptied Redis.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from typing import Final

import zstandard

from afterglow.buffer.keys import Keys
from afterglow.buffer.routing import AwayError, Command, Router, command
from afterglow.buffer.squeeze import Squeezer
from afterglow.model.segment import BufferedSpan

__all__ = ["Dictionaries"]

_SAMPLES: Final = 2_000
#: Of one batch at most so many, so that they are of many batches.
_BATCH_SAMPLES: Final = 100
_SAMPLE_BYTES: Final = 8_192
_DICTIONARY_BYTES: Final = 16 << 10
#: What four spans together are to save to make one worth it.
_WORTH: Final = 0.85
_TOGETHER: Final = 4


class Dictionaries:
    """One worker's part in it; safe in many threads."""

    def __init__(self, router: Router, keys: Keys, squeezer: Squeezer, ttl_s: int) -> None:
        self._router = router
        self._keys = keys
        self._squeezer = squeezer
        self._ttl_s = ttl_s
        #: Held by the one thread that samples or trains; the others go on without.
        self._lock = threading.Lock()
        self._samples: list[bytes] = []
        self._asked = False
        self._done = False

    def see(self, spans: Sequence[BufferedSpan]) -> None:
        """Spans came by: learn from them, until there is a dictionary (or none is worth it)."""
        if self._done or not self._lock.acquire(blocking=False):
            return
        try:
            if not self._asked:
                self._asked = True
                self._done = self._adopt()
            some = spans[:: max(len(spans) // _BATCH_SAMPLES, 1)]
            self._samples += [one.payload for one in some if 0 < len(one.payload) <= _SAMPLE_BYTES]
            if not self._done and len(self._samples) >= _SAMPLES:
                self._done = True
                if not self._adopt():
                    self._train()
                self._samples = []
        except AwayError:
            self._samples = []
            self._done = False
        finally:
            self._lock.release()

    def key(self, bucket: int, dictionary: int) -> bytes:
        """Where a dictionary lies for the entries of a bucket."""
        return b"%s%08x" % (self._keys.dictionary[bucket], dictionary)

    def put(self, buckets: Iterable[int], dictionary: int) -> list[Command]:
        """The commands that write a dictionary into the slots of buckets."""
        content = self._squeezer.content(dictionary)
        keys = [self.key(bucket, dictionary) for bucket in buckets]
        return [command(key, b"SET", key, content, b"EX", 3 * self._ttl_s) for key in keys]

    def fetch(self, wanted: Iterable[tuple[int, int]]) -> None:
        """Learn dictionaries, each (bucket, id), that this process does not know."""
        keys = [self.key(*one) for one in dict.fromkeys(wanted)]
        answers, _ = self._router.run([command(key, b"GET", key) for key in keys])
        for content in answers:
            if isinstance(content, bytes):
                self._squeezer.learn(content)

    def _adopt(self) -> bool:
        """Use the dictionary that all use; False if there is none."""
        (content,), _ = self._router.run(
            [command(self._keys.training, b"GET", self._keys.training)]
        )
        if not isinstance(content, bytes):
            return False
        self._squeezer.current = self._squeezer.learn(content)
        return True

    def _train(self) -> None:
        """Train one, and offer it to all if it is worth it; the first that does so wins."""
        held_out = self._samples[::4]
        trained_on: list[bytes | bytearray | memoryview] = [
            one for at, one in enumerate(self._samples) if at % 4
        ]
        try:
            trained = zstandard.train_dictionary(_DICTIONARY_BYTES, trained_on)
        except zstandard.ZstdError:
            return  # too few bytes, or nothing in common: then none is worth it
        plain = zstandard.ZstdCompressor(level=1)
        better = zstandard.ZstdCompressor(level=1, dict_data=trained)
        before = after = 0
        for at in range(0, len(held_out), _TOGETHER):
            blob = b"".join(held_out[at : at + _TOGETHER])
            before += len(plain.compress(blob))
            after += len(better.compress(blob))
        if after <= _WORTH * before:
            key = self._keys.training
            self._router.run([command(key, b"SET", key, trained.as_bytes(), b"NX")])
            self._adopt()
