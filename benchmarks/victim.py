"""A program that is killed: records steadily, and notes outside itself how far it came.

    python -m benchmarks.victim DATABASE NOTE

NOTE is a file of 16 bytes, mapped into memory, which survives the kill: the wall-clock time of
the newest finished span, and how many there are.
"""

from __future__ import annotations

import mmap
import struct
import sys
import time
from pathlib import Path


def main() -> None:
    import afterglow

    database, note = map(Path, sys.argv[1:])
    tracer = afterglow.Tracer(database)
    with note.open("r+b") as file, mmap.mmap(file.fileno(), 16) as seen:
        made = 0
        while True:
            for _ in range(10):
                with tracer.span("work", number=made):
                    pass
                made += 1
                seen[:] = struct.pack("<qq", time.time_ns(), made)
            time.sleep(0.001)


if __name__ == "__main__":
    main()
