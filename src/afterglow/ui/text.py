"""Text from the watched program, made safe and short enough for a terminal."""

from __future__ import annotations

import re
from typing import Any, Final

from rich.cells import cell_len, chop_cells

__all__ = ["attribute_texts", "cell_len", "clip", "command_line", "printable", "shorten"]

# Controls (an ESC in a name could drive the terminal), line ends, what turns the direction of
# writing, and surrogates.
_UNPRINTABLE: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]"
)

_PART: Final = re.compile("[.:/]")
_HEAD: Final = 4  # columns of the beginning that stay

# OpenTelemetry's names for where the code is.
_FILE: Final = "code.file.path"
_LINE: Final = "code.line.number"


def printable(text: str) -> str:
    """The text with every character that would act instead of show written as an escape."""
    if text.isascii() and text.isprintable():
        return text
    return _UNPRINTABLE.sub(lambda match: repr(match[0])[1:-1], text)


def shorten(text: str, width: int, *, mark: str = "…") -> str:
    """At most `width` columns: the middle goes, for a name's ends tell most.

    As many whole parts of a dotted name stay at its end as have room, the function foremost.
    """
    if cell_len(text) <= width:
        return text
    room = width - cell_len(mark)
    if room <= 1:
        return _head(text, width)
    tail = (room * 2 + 2) // 3
    for part in _PART.finditer(text):
        rest = cell_len(text[part.end() :])
        if rest <= room - _HEAD:
            # Parts so short that a good deal of a longer one has room beside them are no end.
            tail = rest if rest > room // 3 else tail
            break
    return _head(text, room - tail) + mark + _head(text[::-1], tail)[::-1]


def clip(text: str, width: int, *, mark: str = "…") -> str:
    """At most `width` columns: the end goes."""
    if cell_len(text) <= width:
        return text
    return _head(text, max(width - cell_len(mark), 0)) + mark


def _head(text: str, width: int) -> str:
    if width <= 0:
        return ""
    # Only so much of a text as could fit is looked at: it may be megabytes long.
    parts = chop_cells(text[: width + 1], width)
    return parts[0] if parts else ""


def command_line(argv: tuple[str, ...]) -> str:
    """A program's arguments as a person would type them, in one printable line.

    Of an absolute path to the program its name is left; of one to a package's __main__.py,
    the package's.
    """
    import shlex

    if not argv:
        return "(unknown program)"
    program, *arguments = argv
    if program.startswith("/"):
        folder, _, name = program.rpartition("/")
        program = folder.rpartition("/")[2] if name == "__main__.py" and folder else name
    return printable(shlex.join([program, *arguments]))


def attribute_texts(attributes: dict[str, Any]) -> list[str]:
    """`key=value` for each, quoted where the value has spaces, each at most 60 columns.

    Where the code is comes last, as `file.py:12`.
    """
    others = {k: v for k, v in attributes.items() if k not in (_FILE, _LINE)}
    texts = [clip(printable(f"{key}={_value(value)}"), 60) for key, value in others.items()]
    if _FILE in attributes:
        file = str(attributes[_FILE]).replace("\\", "/").rpartition("/")[2]
        line = f":{attributes[_LINE]}" if _LINE in attributes else ""
        texts.append(clip(printable(f"{file}{line}"), 60))
    return texts


def _value(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, float):
        return f"{value:.6g}"
    text = value if isinstance(value, str) else repr(value)
    text = text[:200]
    return f'"{text}"' if isinstance(value, str) and (" " in text or not text) else text
