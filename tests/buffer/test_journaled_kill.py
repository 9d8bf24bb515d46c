"""A buffer with a journal in a process that is killed with SIGKILL again and again."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

from afterglow.buffer.journaled import JournaledBuffer
from tests.buffer.test_journaled import CONFIG, SECOND, SMALL, keys, take

CHILD = """
import sys
from pathlib import Path
from afterglow.buffer.journaled import JournaledBuffer
from tests.buffer.test_journaled import CONFIG, SECOND, SMALL, numbered, span, take
buffer = JournaledBuffer.open(sys.argv[1], CONFIG, SMALL)
number = int(sys.argv[2])
while True:
    for _ in range(5):
        number += 1
        assert buffer.add([span(number * 3 + i, trace=number) for i in range(3)], 0).accepted == 3
    parts = take(buffer, 9 * SECOND)[:4]
    ids = ",".join(str(int.from_bytes(i)) for p in parts for i in p.span_ids)
    print("added", number, flush=True)
    buffer.acknowledge(parts)
    print("gone", ids, flush=True)
"""


def test_kill_9_in_a_loop(tmp_path: Path) -> None:
    """What a child said that it took is there or has gone; what it said that went is not there."""
    chance = random.Random(7)
    added: set[int] = set()
    gone: set[int] = set()
    for run in range(6):
        first = run * 100_000
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(tmp_path), str(first)],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert child.stdout is not None
        lines = [child.stdout.readline() for _ in range(chance.randrange(2, 30))]
        child.kill()
        lines += child.stdout.readlines()
        child.stdout.close()
        child.wait()
        for what, _, value in (line.strip().partition(" ") for line in lines if line[-1:] == "\n"):
            if what == "added":
                added.update(range((first + 1) * 3, int(value) * 3 + 3))
            else:
                gone.update(map(int, value.split(",")))
    buffer = JournaledBuffer.open(tmp_path, CONFIG, SMALL)
    books = buffer.ledger()
    assert books.balanced and books.dropped == {}
    held = [int.from_bytes(name) for _, name in keys(take(buffer, 99 * SECOND))]
    assert len(set(held)) == len(held) == books.held
    assert gone and gone.isdisjoint(held)
    # A child may have died between its last acknowledgement and what it said of it.
    assert len(added - gone - set(held)) <= books.delivered - len(gone) <= 6 * 12
    buffer.close()
