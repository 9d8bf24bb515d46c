"""The Lua scripts of the data path, by name, with the digests that call them."""

from __future__ import annotations

from hashlib import sha1
from typing import Final, NamedTuple

from afterglow.buffer.control_keys import script

__all__ = ["SCRIPTS", "Script"]


class Script(NamedTuple):
    """A script's text and the digest that EVALSHA wants."""

    text: bytes
    sha: bytes


def _read(name: str) -> Script:
    text = script(name).encode()
    return Script(text, sha1(text).hexdigest().encode())


SCRIPTS: Final = {name: _read(name) for name in ("append", "due", "seal", "acknowledge", "release")}
