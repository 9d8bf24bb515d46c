"""The spans that instrumented code opens: measured ones, and those of generators and lambdas.

They are made from the class of the tracer's own spans, so that recording costs what it costs
there, and are as careful: nothing here raises into the program, also at the recursion limit.
"""

from __future__ import annotations

from collections.abc import Callable
from types import GeneratorType, TracebackType
from typing import Any

from afterglow.clock import monotonic_ns
from afterglow.instrument.site import NOTHING, Site
from afterglow.record.context import current
from afterglow.record.span import Span

__all__ = ["make_openers"]

Look = Callable[[Site], None]
Opener = Callable[[Site, dict[str, Any]], tuple[Callable[[], Any], Callable[[Any, Any], Any]]]

#: An exception that ends an iteration is no failure of the function that raises it.
_CONTROL = (StopIteration, StopAsyncIteration)


def make_openers(live: type[Span], look: Look, look_at_steps: Look) -> dict[str, Opener]:
    """By kind of function: what makes (open, done) of a site."""
    now = monotonic_ns
    get, set_, reset = current.get, current.set, current.reset
    enter, leave = live.__enter__, live.__exit__
    base: Any = live
    late: list[tuple[Span, int]] = []

    def leave_late() -> None:
        """End the spans that the recursion limit kept from ending in full."""
        while late:
            span, end_ns = late.pop()
            try:
                span.error("RecursionError")
                span.core.finish(span, end_ns)
            except RecursionError:
                late.append((span, end_ns))
                return

    class MeasuredSpan(base):  # type: ignore[misc]
        """A span that tells its site how long it took."""

        __slots__ = ("site",)
        site: Site
        token: Any  # in the slots of the tracer's own class

        def __exit__(
            self,
            exc_type: type[BaseException] | None,
            exception: BaseException | None,
            traceback: TracebackType | None,
        ) -> None:
            end_ns = now()
            site = self.site
            try:
                site.busy_ns += end_ns - self.start_ns
                site.ended += 1
            except AttributeError:
                pass  # not recorded: it has no start
            try:
                if exception is None or isinstance(exception, _CONTROL):
                    leave(self, None, None, None)
                else:
                    leave(self, exc_type, exception, traceback)
                if late:
                    leave_late()
            except RecursionError:
                # No room for a call: what ends next, further up, ends this one, too.
                late.append((self, end_ns))
                if self.token is not None:
                    reset(self.token)
                    self.token = None

    class GeneratorSpan(MeasuredSpan):
        """The span of a generator: current only while the generator's own code runs.

        Its methods are called by the rewritten code (instrument/generators.py): `pause` before
        each yield, `resume` after it, `again` where an exception thrown in at a yield arrives,
        `delegate` before a `yield from`. Once `light`, yields are left alone.
        """

        __slots__ = ("inner", "lending", "light", "outer", "paused", "since_ns", "used_ns")
        outer: Any

        def __enter__(self) -> GeneratorSpan:
            outer = get()
            enter(self)
            self.token = None
            self.lending = False
            self.used_ns = 0
            if type(outer) is GeneratorSpan and outer.lending:
                outer.lending = False
                outer = outer.outer  # whoever consumes that generator, consumes this one
            self.outer = outer
            self.inner = self
            self.light = self.paused = self.site.light
            if self.light:
                set_(outer)
            self.since_ns = now()
            return self

        def pause(self, value: Any) -> Any:
            if not self.paused:
                self.inner = get()
                set_(self.outer)
                self.paused = True
                self._step()
            return value

        def resume(self, value: Any) -> Any:
            self.lending = False
            if not self.light:
                self.again()
            return value

        def again(self) -> None:
            if self.paused and not self.light:
                self.outer = get()
                set_(self.inner)
                self.paused = False
                self.since_ns = now()

        def delegate(self, iterator: Any) -> Any:
            """Before a `yield from`: a generator of ours takes care of the context itself, and
            must find this one as its parent; any other iterator runs in the consumer's."""
            if type(iterator) is GeneratorType and not self.paused and _is_fresh(iterator):
                self.inner = get()
                self.paused = self.lending = True
                set_(self)
                self._step()
                return iterator
            return self.pause(iterator)

        def _step(self) -> None:
            used_ns = now() - self.since_ns
            self.used_ns += used_ns
            site = self.site
            site.step_ns += used_ns
            site.steps += 1
            if site.steps >= site.step_at:
                look_at_steps(site)
            if site.light and not self.lending:
                self.light = True

        def __exit__(
            self,
            exc_type: type[BaseException] | None,
            exception: BaseException | None,
            traceback: TracebackType | None,
        ) -> None:
            if not self.paused:
                set_(self.outer)
                self.used_ns += now() - self.since_ns
            # What counts is the time that it ran, not how long its consumer kept it; of a light
            # one that is not known, so all of it.
            site = self.site
            if not self.light and self.trace is not None:
                site.busy_ns -= now() - self.start_ns - self.used_ns
            super().__exit__(exc_type, exception, traceback)

    class LambdaCall:
        """Lives on the stack while a lambda's expression is evaluated: if that raises, the stack
        is unwound and this goes, which ends the span. (`try` is no expression.)"""

        __slots__ = ("span",)

        span: Any

        def __del__(self) -> None:
            span = self.span
            if span is not None:
                self.span = None
                span.error()
                span.__exit__(None, None, None)

    def opener(made_of: type[Any]) -> Opener:
        def make(
            site: Site, attributes: dict[str, Any]
        ) -> tuple[Callable[[], Any], Callable[[Any, Any], Any]]:
            name, copy = site.name, attributes.copy

            def open_span() -> Any:
                try:
                    site.begun += 1
                    if site.begun >= site.look_at:
                        look(site)
                    span = made_of()
                    span.name = name
                    span.attributes = copy()
                    span.site = site
                except RecursionError:
                    return NOTHING  # let the program's own next call be the one that fails
                return span

            return open_span, second

        return make

    def lambda_opener(
        site: Site, attributes: dict[str, Any]
    ) -> tuple[Callable[[], Any], Callable[[Any, Any], Any]]:
        open_span, _ = opener(MeasuredSpan)(site, attributes)

        def open_call() -> Any:
            call = LambdaCall()
            call.span = None
            span = open_span()
            span.__enter__()
            call.span = None if span is NOTHING else span
            return call

        def done(call: Any, value: Any) -> Any:
            span = getattr(call, "span", None)  # None: it turned into a count meanwhile
            if span is not None:
                call.span = None
                span.__exit__(None, None, None)
            return value

        return open_call, done

    return {
        "function": opener(MeasuredSpan),
        "generator": opener(GeneratorSpan),
        "whole": opener(MeasuredSpan),
        "lambda": lambda_opener,
    }


def second(_first: Any, value: Any) -> Any:
    return value


def _is_fresh(generator: Any) -> bool:
    """Not begun, and of instrumented code that will record it."""
    if generator.gi_running or generator.gi_suspended:
        return False
    for constant in generator.gi_code.co_consts:
        if type(constant) is Site:
            return not constant.hot and not constant.light
    return False
