"""Reading a spool that another process may be writing: no lock is taken, nothing is mended."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from afterglow.spool.folder import file_name, numbered_files, trouble
from afterglow.spool.frames import PREFIX_BYTES, Frame, Position, frames, salt_of

__all__ = ["look_into"]

_READ_BYTES = 1 << 18


def look_into(folder: Path) -> Iterator[tuple[Position, bytes, bool]]:
    """Every good record, in order, as far as there are any now: position, body, whether it is the
    header of its file. What is damaged, or forgotten meanwhile, is passed over. Raises SpoolError.
    """
    try:
        numbers, _ = numbered_files(folder)
    except FileNotFoundError:
        return
    except OSError as error:
        raise trouble("reading", folder, error) from error
    for number in numbers:
        path = folder / file_name(number)
        try:
            with path.open("rb", _READ_BYTES) as file:
                salt = salt_of(file.read(PREFIX_BYTES))
                if salt is None:
                    continue
                for one in frames(file, PREFIX_BYTES, path.stat().st_size, salt):
                    if isinstance(one, Frame):
                        at = Position(number, one.offset)
                        yield at, one.body, one.offset == PREFIX_BYTES
        except FileNotFoundError:
            continue
        except OSError as error:
            raise trouble("reading", path, error) from error
