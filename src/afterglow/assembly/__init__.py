"""Pure rules: which segment a span is in, when it is due, how it is cut into parts.

    spans --subsegments--> entries --Tree.extend--> groups --Tree.plan(now)--> what goes out

A trace is all spans of one (project, trace id). A span is a *root* if it has no parent, names
itself as parent, is marked as one, or if its parent is neither held nor remembered as gone out;
its segment is everything under it, down to the next root. A ring of parents has its smallest
span id as root. Spans under one that went out before belong to the segment it went out in.

A segment is due when nothing was added to it for `root_timeout_s` if its root was seen, else
(orphans, rings) for `timeout_s`; or `max_open_s` after its first held addition. Only spans that
count are additions, repeats are not.

Both buffers keep their spans as they like and follow these rules, so that the same spans give the
same segments, parts and message ids, whoever takes them and however often.
"""

from afterglow.assembly.entry import (
    NO_SPAN,
    Entry,
    Subsegment,
    index_bucket,
    keys_of,
    not_spans,
    remember,
    subsegments,
)
from afterglow.assembly.parts import Part, Piece, SegmentPlan, ids_of_pieces, part_message_id
from afterglow.assembly.tree import Plan, Tree, plan
from afterglow.assembly.whole import plan_whole

__all__ = [
    "NO_SPAN",
    "Entry",
    "Part",
    "Piece",
    "Plan",
    "SegmentPlan",
    "Subsegment",
    "Tree",
    "ids_of_pieces",
    "index_bucket",
    "keys_of",
    "not_spans",
    "part_message_id",
    "plan",
    "plan_whole",
    "remember",
    "subsegments",
]
