"""The line of `afterglow run`: what stands before the script is ours, the rest is the program's.

Read by hand and not by click, for two reasons: the watched program must find its modules as
unloaded as under plain `python` (one of its own may be called click), and the first word
that is no option of ours ends our part, whatever follows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

__all__ = ["FLAGS", "VALUES", "HelpWanted", "RunLine", "RunLineError", "parse"]

#: Options that take a value: the field they fill, how help names the value, and what it says.
VALUES: Final[dict[str, tuple[str, str, str]]] = {
    "--db": ("database", "FILE", "Where to record (default: the setting `database`)."),
    "--send": ("database", "URL", "Send spans there by OTLP: http://HOST:4318, grpc://HOST:4317."),
    "--include": ("include", "GLOB", "Trace these modules or paths, too; may be repeated."),
    "--exclude": ("exclude", "GLOB", "Never trace these modules or paths; may be repeated."),
    "--service": ("service_name", "NAME", "service.name of the run."),
    "--run-id": ("run_id", "ID", "Call the run this (default: a random id)."),
    "--max-spans-per-second": ("max_spans_per_second", "N", "Record whole traces up to this rate."),
}
#: Options that take none.
FLAGS: Final[dict[str, tuple[str, str]]] = {
    "--otel": ("otel", "Record what is instrumented with OpenTelemetry, too, in the same trees."),
    "--no-collapse": ("no_collapse", "Record every call, however short and frequent."),
    "--quiet": ("quiet", "Print nothing when the program has ended."),
    "-q": ("quiet", ""),
}


class RunLineError(Exception):
    """The line cannot be understood; the message says which word."""


class HelpWanted(Exception):
    """`--help` stands before the script."""


class RunLine(NamedTuple):
    """What to run, and the settings that were given; None where one was not."""

    target: str
    is_module: bool
    arguments: tuple[str, ...]
    database: str | None = None
    include: tuple[str, ...] | None = None
    exclude: tuple[str, ...] | None = None
    service_name: str | None = None
    run_id: str | None = None
    max_spans_per_second: float | None = None
    no_collapse: bool = False
    quiet: bool = False
    otel: bool = False


def parse(words: Sequence[str]) -> RunLine:
    """The words after `afterglow run`. Raises RunLineError, or HelpWanted."""
    found: dict[str, object] = {}
    at = 0
    while at < len(words):
        word = words[at]
        at += 1
        if word in ("--help", "-h"):
            raise HelpWanted
        if word.startswith("-m") and not word.startswith("--"):
            # As python has it: `-m module`, or `-mmodule`.
            module, at = (word[2:], at) if word[2:] else (_next(words, at, word, "MODULE"), at + 1)
            return _line(module, True, words[at:], found)
        if word == "--":
            return _line(_next(words, at, word, "SCRIPT"), False, words[at + 1 :], found)
        if not word.startswith("-") or word == "-":
            return _line(word, False, words[at:], found)
        at = _option(words, at, found)
    raise RunLineError("there is nothing to run: name a script, or a module after -m")


def _option(words: Sequence[str], at: int, found: dict[str, object]) -> int:
    """Take the option before `at`, and its value; where the next word is."""
    option, equals, value = words[at - 1].partition("=")
    if option in FLAGS:
        if equals:
            raise RunLineError(f"{option} takes no value")
        found[FLAGS[option][0]] = True
        return at
    if option not in VALUES:
        raise RunLineError(f"no such option of afterglow run: {option}")
    field, value_name, _ = VALUES[option]
    if not equals:
        value = _next(words, at, option, value_name)
        at += 1
    if not value:
        raise RunLineError(f"{option} needs a value: {value_name}")
    if field in ("include", "exclude"):
        found[field] = (*_texts(found.get(field)), value)
    elif field == "max_spans_per_second":
        found[field] = _number(option, value)
    else:
        found[field] = value
    return at


def _texts(value: object) -> tuple[str, ...]:
    return value if isinstance(value, tuple) else ()


def _number(option: str, value: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise RunLineError(f"{option} takes a number, and {value!r} is none") from None


def _next(words: Sequence[str], at: int, option: str, value_name: str) -> str:
    if at >= len(words):
        raise RunLineError(f"{option} needs a value: {value_name}")
    return words[at]


def _line(
    target: str, is_module: bool, arguments: Sequence[str], found: dict[str, object]
) -> RunLine:
    if not target:
        raise RunLineError("the name of what to run is empty")
    return RunLine(target, is_module, tuple(arguments), **found)  # type: ignore[arg-type]
