"""Which spans are recorded: the SDK's samplers where it is installed, else the same by name.

Specification: OTEL_TRACES_SAMPLER and OTEL_TRACES_SAMPLER_ARG, and the built-in samplers of
the trace SDK.
"""

from __future__ import annotations

import enum
import logging
import os
import re
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

from afterglow.otel.api import HAS_SDK, trace_api

__all__ = ["AlwaysOff", "AlwaysOn", "Choice", "Decision", "ParentBased", "RatioBased", "Result",
           "choice_of", "from_environment"]  # fmt: skip

logger = logging.getLogger(__name__)

_MASK64 = (1 << 64) - 1
#: The bound below which every trace id's lower half is.
EVERY = 1 << 64


class Decision(enum.Enum):
    """What a sampler says of a span."""

    DROP = 0
    RECORD_ONLY = 1
    RECORD_AND_SAMPLE = 2

    def is_recording(self) -> bool:
        return self is not Decision.DROP

    def is_sampled(self) -> bool:
        return self is Decision.RECORD_AND_SAMPLE


class Result(NamedTuple):
    """A decision, the attributes that the span shall have, and the trace state."""

    decision: Decision
    attributes: Any = None
    trace_state: Any = None


def _state_of(context: Any) -> Any:
    span_context = trace_api.get_current_span(context).get_span_context()
    return span_context.trace_state if span_context.is_valid else None


class AlwaysOn:
    """Every span."""

    def should_sample(
        self, parent_context: Any, trace_id: int, name: str, kind: Any = None,
        attributes: Any = None, links: Any = None, trace_state: Any = None,
    ) -> Result:  # fmt: skip
        return Result(Decision.RECORD_AND_SAMPLE, attributes, _state_of(parent_context))

    def get_description(self) -> str:
        return "AlwaysOnSampler"


class AlwaysOff:
    """No span."""

    def should_sample(
        self, parent_context: Any, trace_id: int, name: str, kind: Any = None,
        attributes: Any = None, links: Any = None, trace_state: Any = None,
    ) -> Result:  # fmt: skip
        return Result(Decision.DROP, None, _state_of(parent_context))

    def get_description(self) -> str:
        return "AlwaysOffSampler"


class RatioBased:
    """The share of traces whose lower 64 bits are below the ratio (TraceIdRatioBased)."""

    def __init__(self, ratio: float) -> None:
        if not 0.0 <= ratio <= 1.0:
            raise ValueError(f"a ratio is 0 to 1, not {ratio}")
        self.ratio = ratio
        self._bound = round(ratio * (1 << 64))

    def should_sample(
        self, parent_context: Any, trace_id: int, name: str, kind: Any = None,
        attributes: Any = None, links: Any = None, trace_state: Any = None,
    ) -> Result:  # fmt: skip
        state = _state_of(parent_context)
        if trace_id & _MASK64 < self._bound:
            return Result(Decision.RECORD_AND_SAMPLE, attributes, state)
        return Result(Decision.DROP, None, state)

    def get_description(self) -> str:
        return f"TraceIdRatioBased{{{self.ratio}}}"


class ParentBased:
    """As the parent was decided; `root` decides where there is none."""

    def __init__(self, root: Any) -> None:
        self._root = root

    def should_sample(
        self, parent_context: Any, trace_id: int, name: str, kind: Any = None,
        attributes: Any = None, links: Any = None, trace_state: Any = None,
    ) -> Result:  # fmt: skip
        parent = trace_api.get_current_span(parent_context).get_span_context()
        if not parent.is_valid:
            result: Result = self._root.should_sample(
                parent_context, trace_id, name, kind, attributes, links
            )
            return result
        if parent.trace_flags.sampled:
            return Result(Decision.RECORD_AND_SAMPLE, attributes, parent.trace_state)
        return Result(Decision.DROP, None, parent.trace_state)

    def get_description(self) -> str:
        return (
            f"ParentBased{{root:{self._root.get_description()},"
            "remoteParentSampled:AlwaysOnSampler,remoteParentNotSampled:AlwaysOffSampler,"
            "localParentSampled:AlwaysOnSampler,localParentNotSampled:AlwaysOffSampler}"
        )


_NAMED: dict[str, Callable[[float], Any]] = {
    "always_on": lambda _: AlwaysOn(),
    "always_off": lambda _: AlwaysOff(),
    "traceidratio": RatioBased,
    "parentbased_always_on": lambda _: ParentBased(AlwaysOn()),
    "parentbased_always_off": lambda _: ParentBased(AlwaysOff()),
    "parentbased_traceidratio": lambda ratio: ParentBased(RatioBased(ratio)),
}


def from_environment() -> Any:
    """The sampler that OTEL_TRACES_SAMPLER names; what cannot be used is said, and not used."""
    if HAS_SDK:
        from opentelemetry.sdk.trace import sampling

        return sampling._get_from_env_or_default()
    name = os.environ.get("OTEL_TRACES_SAMPLER", "").strip().lower() or "parentbased_always_on"
    make = _NAMED.get(name)
    if make is None:
        logger.warning("OTEL_TRACES_SAMPLER=%s is not known; it takes %s", name, ", ".join(_NAMED))
        return ParentBased(AlwaysOn())
    text = os.environ.get("OTEL_TRACES_SAMPLER_ARG", "").strip()
    try:
        return make(float(text or 1.0))
    except ValueError:
        logger.warning("OTEL_TRACES_SAMPLER_ARG=%s is no ratio of 0 to 1; taken as 1", text)
        return make(1.0)


class Choice(NamedTuple):
    """A sampler, and how much of it the hot path may leave out.

    `plain_roots`: it records every root, and `plain_children`: it follows a recorded local parent.
    `root_bound`: it records the roots whose trace id's lower half is below; None: it is asked.
    `leaves_out`: it follows a local parent that is left out. `drops`: it records nothing.
    `rule`: the first two of children hold only below spans that were begun by this rule.
    `refusal` is the budget of the recorder's own settings, asked at roots.
    """

    sampler: Any
    should_sample: Callable[..., Any] | None
    plain_roots: bool
    plain_children: bool
    refusal: Callable[[int | bytes], str | None] | None
    root_bound: int | None = None
    leaves_out: bool = False
    drops: bool = False
    rule: str = ""


def choice_of(sampler: Any, refusal: Callable[[int | bytes], str | None] | None) -> Choice:
    """Told by the description that every sampler has; one that is not known is always asked."""
    described = str(sampler.get_description()) if _is_known(sampler) else ""
    default = ParentBased(AlwaysOn()).get_description()
    _, _, delegates = default.partition(",")
    follows = described.startswith("ParentBased{root:") and described.endswith(delegates)
    root = described[len("ParentBased{root:") : -len(delegates) - 1] if follows else described
    bound = _bound(root)
    on = described == "AlwaysOnSampler"
    by_ratio = not follows and described.startswith("TraceIdRatioBased{")
    return Choice(
        sampler=sampler,
        should_sample=None if described == default else sampler.should_sample,
        plain_roots=bound == EVERY and refusal is None,
        plain_children=follows or on or by_ratio,
        refusal=refusal,
        root_bound=bound if refusal is None else None,
        leaves_out=follows or by_ratio,
        drops=described == "AlwaysOffSampler",
        rule=sys.intern(described) if by_ratio else "",
    )


def _is_known(sampler: Any) -> bool:
    """Whether it is one of the specification's: a class made from one may decide anything."""
    if type(sampler).__module__ not in (__name__, "opentelemetry.sdk.trace.sampling"):
        return False
    if getattr(getattr(sampler, "_decision", None), "name", "") == "RECORD_ONLY":
        return False  # described as AlwaysOnSampler
    inner = [part for part in vars(sampler).values() if hasattr(part, "should_sample")]
    return all(map(_is_known, inner))


def _bound(root: str) -> int | None:
    """Of a root's trace id's lower 64 bits; None for a sampler that must be asked."""
    if root == "AlwaysOnSampler":
        return EVERY
    if root == "AlwaysOffSampler":
        return 0
    ratio = re.fullmatch(r"TraceIdRatioBased\{([0-9.e+-]+)\}", root)
    return None if ratio is None else round(float(ratio[1]) * EVERY)
