"""What sits in the code of each instrumented function: opens its spans, or counts its calls.

A `Site` is a constant of the function's code object (instrument/compiling.py puts it there), so
the program has no name for it. The code reads these attributes, and only these:

    hot      true once calls are counted instead of recorded
    calls    how many were counted; `calls += 1` in the function itself is the whole cost
    add      the same count for lambdas, in which no assignment can stand
    opened   () -> what `with` enters, in a call that is recorded
    done     (what opened gave, value) -> value: the end of a lambda's call

A store into a slot between a load from it and nothing else is atomic under the interpreter lock
(3.11 to 3.13 look for other threads at jumps backwards and at calls only), so no count is lost.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, Final, Protocol

from afterglow.clock import monotonic_ns
from afterglow.config import RunConfig
from afterglow.record.span import NoopSpan, Span

__all__ = ["Rule", "Site", "SpanSource", "Spans"]

#: Tracing a call costs about 1.5 us. Where calls follow each other faster than this, tracing
#: them would take more time than the program, however long each (recursive) call lasts.
_PERIOD_NS: Final = 4_000


class SpanSource(Protocol):
    """What this room needs of a tracer."""

    def span(self, name: str, /, **attributes: Any) -> Span: ...


#: While the whole program makes calls as fast as that, this share of `collapse_calls` is enough:
#: or a thousand small functions, a thousand calls of each, would be a million spans.
_SHARE_IN_A_HURRY: Final = 20
#: How fast the program is going is seen anew after so many looks.
_LOOKS: Final = 16


class Rule:
    """When a function turns into a count: looked at after every so many calls."""

    def __init__(self, config: RunConfig) -> None:
        self.calls = config.collapse_calls if config.collapse else 1 << 62
        #: A site asks after so many calls; most of the times, it is too early.
        self.step = max(1, self.calls // _SHARE_IN_A_HURRY)
        self.below_ns = round(config.collapse_below_us * 1_000)
        self.period_ns = min(_PERIOD_NS, self.below_ns)

    def collapses(self, calls: int, elapsed_ns: int, ended: int, busy_ns: int) -> bool:
        """Whether `calls` begun in `elapsed_ns`, of which `ended` took `busy_ns`, are too short.

        Either the mean call that ended was shorter than `collapse_below_us`, or calls followed
        each other so fast that tracing them would double the time (a deep recursion, in which
        none ends).
        """
        if ended and busy_ns < self.below_ns * ended:
            return True
        return elapsed_ns < self.period_ns * calls


class Site:
    """One function of the program. Owner of the counts: whichever thread calls it."""

    __slots__ = (
        "_counter",
        "add",
        "begun",
        "busy_ns",
        "calls",
        "done",
        "ended",
        "hot",
        "light",
        "look_at",
        "looked_at",
        "looked_ns",
        "name",
        "opened",
        "step_at",
        "step_ns",
        "steps",
    )

    opened: Callable[[], Any]
    done: Callable[[Any, Any], Any]
    add: Callable[[], int]

    def __init__(self, name: str, look_at: int) -> None:
        self.name = name
        self.hot = False
        self.light = False  # a generator's yields no longer change the context
        self.look_at = self.step_at = look_at
        self.begun = self.looked_at = 0  # calls, all told
        self.steps = 0  # of a generator: resumptions
        self.looked_ns = monotonic_ns()
        self.ended = self.busy_ns = self.step_ns = 0  # since the last look
        self.forget_counts()

    def forget_counts(self) -> None:
        """At the start, and in a forked child: the parent reports what it counted."""
        self.calls = 0
        self._counter = itertools.count(1)
        self.add = self._counter.__next__

    @property
    def counted(self) -> int:
        """Calls that were counted instead of recorded."""
        return self.calls + int(repr(self._counter)[6:-1]) - 1  # repr is "count(5)"

    def collapse(self) -> None:
        """From now on count: the code does it itself, or what stands in `opened` does."""
        self.opened = self._count  # first: a lambda's code reads `done` before it
        self.done = {}.get  # (key, value) -> value, for there is no such key
        self.hot = True

    def _count(self) -> Any:
        self.calls += 1
        return NOTHING

    def __reduce__(self) -> tuple[Any, ...]:
        # Code objects that travel (cloudpickle) must not need a tracer where they arrive.
        return inert, (self.name,)


def inert(name: str) -> Site:
    """A site that only counts."""
    site = Site(name, 1 << 62)
    site.light = True
    site.collapse()
    return site


class _Nothing:
    """What `with` enters in place of a span: nothing but C functions run.

    `"".format` takes any arguments and returns "", which is false: as `__exit__` it swallows no
    exception. It is no function of Python, so it is not bound and takes no frame.
    """

    __slots__ = ()
    light = True  # where a generator looks
    __enter__: Any  # gives the object itself, set below
    __exit__ = "".format

    # As in GeneratorSpan.

    def again(self) -> None:
        return None

    def pause(self, value: Any) -> Any:
        return value

    resume = delegate = pause


NOTHING: Final = _Nothing()
_Nothing.__enter__ = itertools.repeat(NOTHING).__next__


class Spans:
    """Makes the sites of one tracer, and knows them all."""

    def __init__(self, source: SpanSource, rule: Rule) -> None:
        # Here, for it makes classes of its own from the class of the tracer's spans.
        from afterglow.instrument.spans import make_openers

        self._rule = rule
        self._sites: list[Site] = []
        #: Whether the program as a whole makes more calls than can be traced; by whoever looks.
        self._hurry = False
        self._looks = 0
        self._since_ns = monotonic_ns()
        probe = source.span("")
        #: A tracer that is off makes spans of no use: then nothing need be instrumented.
        self.off = isinstance(probe, NoopSpan)
        if not self.off:
            self._open = make_openers(type(probe), self.look, self.look_at_steps)

    def site(self, kind: str, name: str, path: str, line: int) -> Site:
        """The site of a new function; `kind` is function, generator, whole or lambda."""
        site = Site(name, self._rule.step)
        attributes = {"code.file.path": path, "code.line.number": line}
        site.light = kind == "whole"
        site.opened, site.done = self._open[kind](site, attributes)
        self._sites.append(site)
        return site

    def look(self, site: Site) -> None:
        """After some calls: is it time to count them instead?"""
        now_ns = monotonic_ns()
        rule = self._rule
        site.look_at = site.begun + rule.step
        self._looks += 1
        if self._looks == _LOOKS:
            self._hurry = now_ns - self._since_ns < rule.period_ns * rule.step * _LOOKS
            self._looks, self._since_ns = 0, now_ns
        calls = site.begun - site.looked_at
        is_due = calls >= rule.calls
        if not is_due and not self._hurry:
            return
        if rule.collapses(calls, now_ns - site.looked_ns, site.ended, site.busy_ns):
            site.collapse()
        if is_due:
            site.looked_at, site.looked_ns = site.begun, now_ns
            site.ended = site.busy_ns = 0

    def look_at_steps(self, site: Site) -> None:
        """After some yields of a generator: is each so short that it must cost nothing?"""
        rule = self._rule
        site.light = site.step_ns < rule.below_ns * rule.step
        site.step_at = site.steps + rule.step
        site.step_ns = 0

    def counts(self) -> dict[str, int]:
        """Counted calls by name, since the start of this process."""
        found: dict[str, int] = {}
        for site in self._sites:  # only ever appended to
            counted = site.counted
            if counted:
                found[site.name] = found.get(site.name, 0) + counted
        return found

    def after_fork(self) -> None:
        """In a forked child."""
        for site in self._sites:
            site.forget_counts()
