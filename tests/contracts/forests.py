"""Random spans: forests with orphans, rings, self-parents, marked roots and repeats."""

from __future__ import annotations

from hypothesis import strategies as st

from afterglow.model.segment import BufferedSpan

__all__ = ["SPAN_IDS", "TRACES", "batches", "spans", "trace_spans"]

#: Few ids, so that spans meet; `ABSENT` are parents that never come.
SPAN_IDS = [bytes([0, 0, 0, 0, 0, 0, n % 3, n + 1]) for n in range(14)]
ABSENT = [b"absent-%d" % n for n in range(2)]
TRACES = [(project, bytes([n + 1] * 16)) for project in ("shop", "mail") for n in range(2)]


@st.composite
def spans(draw: st.DrawFn, traces: int = len(TRACES), span_ids: int = 14) -> BufferedSpan:
    """Any span; two of one id may differ in all else."""
    project, trace_id = draw(st.sampled_from(TRACES[:traces]))
    ids = SPAN_IDS[:span_ids]
    parent = draw(
        st.one_of(st.none(), st.sampled_from(ids), st.sampled_from(ids), st.sampled_from(ABSENT))
    )
    marked = draw(st.sampled_from([False, False, False, True]))
    size = draw(st.sampled_from([0, 1, 100, 600, 1500]))
    span_id = draw(st.sampled_from(ids))
    payload = span_id + bytes(size) if size else b""
    return BufferedSpan(project, trace_id, span_id, parent, marked, payload)


@st.composite
def trace_spans(draw: st.DrawFn, traces: int = len(TRACES)) -> list[BufferedSpan]:
    """One span of each id in each trace, so that order and splits cannot matter; shuffled."""
    chosen = []
    for project, trace_id in TRACES[:traces]:
        n = draw(st.integers(0, len(SPAN_IDS)))
        for span_id in SPAN_IDS[:n]:
            parent = draw(
                st.one_of(
                    st.none(),
                    st.sampled_from(SPAN_IDS),
                    st.sampled_from(SPAN_IDS),
                    st.sampled_from(ABSENT),
                )
            )
            marked = draw(st.sampled_from([False, False, False, True]))
            chosen.append(BufferedSpan(project, trace_id, span_id, parent, marked, span_id * 3))
    return draw(st.permutations(chosen))


def batches(traces: int = len(TRACES)) -> st.SearchStrategy[list[BufferedSpan]]:
    return st.lists(spans(traces), max_size=12)
