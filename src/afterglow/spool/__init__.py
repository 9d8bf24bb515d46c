"""A durable log in the numbered files of one folder: appended to, read in order, forgotten by file.

    folder/lock                 held by the process that has it open
    folder/000000000001.spool   prefix, header record, records ...
    folder/000000000002.spool

A record that `append` has returned for survives `kill -9`. Its end may be torn by a death or a full
disk: that is seen and cut off. Records damaged in the middle are skipped to the next good one, a
file that cannot be read at all is set aside; both are counted and reported.
"""

from afterglow.spool.frames import START, Position
from afterglow.spool.spool import Fsync, Spool, SpoolCounts, SpoolFile

__all__ = ["START", "Fsync", "Position", "Spool", "SpoolCounts", "SpoolFile"]
