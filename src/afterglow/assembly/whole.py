"""The plan of the trace that most traces are: one tree, whole, of one part, due now.

What `Tree` would say, in a third of the time, for it needs no groups and no queue. Anything that
is not so plain is left to `Tree`: None.
"""

from __future__ import annotations

from collections.abc import Sequence

from afterglow.assembly.entry import Entry, keys_of
from afterglow.assembly.parts import Part, Piece, SegmentPlan, part_message_id
from afterglow.assembly.tree import Plan
from afterglow.config.buffer import BufferConfig

__all__ = ["plan_whole"]


def plan_whole(
    trace: tuple[str, bytes], entries: Sequence[Entry], now_ns: int, config: BufferConfig
) -> Plan | None:
    """The plan of entries that are one whole segment; nothing of the trace went out before."""
    times = [entry.time_ns for entry in entries]
    due_ns = min(
        max(times) + round(config.root_timeout_s * 1e9),
        min(times) + round(config.max_open_s * 1e9),
    )
    n_bytes = 0
    pieces = []
    for number, entry in enumerate(entries):
        if entry.left is not None or any(entry.flags):
            return None
        n_bytes += sum(entry.sizes)
        pieces.append(Piece(number, range(len(entry.flags))))
    if due_ns > now_ns or n_bytes > config.max_segment_bytes:
        return None
    ids = b"".join([entry.span_ids for entry in entries])
    root = _only_root(keys_of(ids), keys_of(b"".join([entry.parents for entry in entries])))
    if root is None:
        return None
    root_span_id = ids[8 * root : 8 * root + 8]
    message_id = part_message_id(*trace, root_span_id, 0, (ids,))
    part = Part(0, True, message_id, pieces, len(ids) // 8, n_bytes)
    return Plan([SegmentPlan(root_span_id, False, [part])], [], None, 0)


def _only_root(keys: list[int], parents: list[int]) -> int | None:
    """Where the root is, if there are no repeats and all lead up to it; else None."""
    index = dict(zip(keys, range(len(keys)), strict=True))
    if len(index) < len(keys) or parents.count(0) != 1:
        return None
    above = list(map(index.get, parents))
    if above.count(None) != 1:
        return None
    root = parents.index(0)
    up: list[int] = [root if at is None else at for at in above]
    # 0 not seen, 1 leads up to the root, 2 on the way there.
    seen = bytearray(len(keys))
    seen[root] = 1
    for start in range(len(up)):
        at = start
        while not seen[at]:
            seen[at] = 2
            at = up[at]
        if seen[at] == 2:
            return None  # a ring
        at = start
        while seen[at] == 2:
            seen[at] = 1
            at = up[at]
    return root
