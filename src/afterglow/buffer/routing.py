"""Commands to the nodes that own their slots: one pipeline a node, all nodes at once.

redis-py connects, logs in and parses; which node gets what, and what happens when the answer is
that it moved, is decided here. A call ends when every command has its answer or the deadline
is over, whatever the cluster goes through meanwhile.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple

import hiredis
from redis.crc import key_slot
from redis.exceptions import (
    AskError,
    AuthenticationError,
    BusyLoadingError,
    ClusterDownError,
    ConnectionError,
    MasterDownError,
    MovedError,
    NoScriptError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TimeoutError,
    TryAgainError,
)

from afterglow.buffer.replicas import Replicas
from afterglow.buffer.scripts import SCRIPTS
from afterglow.clock import Clock, SystemClock
from afterglow.errors import SpanBufferError

__all__ = ["AwayError", "Command", "Router", "command", "evalsha", "pack", "slot_of"]

SLOTS: Final = 16_384
_FIRST_PAUSE_S: Final = 0.005
_LONGEST_PAUSE_S: Final = 0.2
#: Replicas answer in a millisecond, or something is wrong with them.
_WAIT_MS: Final = 1_000
_NOT_NOW = (TryAgainError, ClusterDownError, BusyLoadingError, MasterDownError)
_ASKING: Final = hiredis.pack_command((b"ASKING",))

pack: Callable[[tuple[Any, ...]], bytes] = hiredis.pack_command
slot_of: Callable[[bytes], int] = key_slot


class AwayError(SpanBufferError):
    """A node did not answer before the deadline; the same call may succeed later."""


class Command(NamedTuple):
    """A packed command and the slot of its keys; several may be packed into one (`answers`)."""

    slot: int
    packed: bytes
    answers: int = 1


def command(key: bytes, *words: Any) -> Command:
    """A command for the slot of a key."""
    return Command(slot_of(key), pack(words))


def evalsha(slot: int, name: str, keys: Sequence[bytes], words: Iterable[Any]) -> Command:
    """A call of a script of ours, with all its keys."""
    return Command(slot, pack((b"EVALSHA", SCRIPTS[name].sha, len(keys), *keys, *words)))


class Router:
    """Connections to the nodes of one Redis or cluster; safe in many threads.

    `connect(host, port)` makes a connection of redis-py's that is not open yet.
    """

    def __init__(
        self,
        connect: Callable[[str, int], Any],
        seeds: Sequence[tuple[str, int]],
        *,
        url: str,
        is_cluster: bool,
        timeout_s: float,
        clock: Clock | None = None,
    ) -> None:
        self._connect = connect
        self._seeds = list(seeds)
        self._url = url
        self.is_cluster = is_cluster
        self._timeout_ns = round(timeout_s * 1e9)
        self._clock = clock or SystemClock()
        self._never = threading.Event()
        #: Guards the table of slots while it is read anew; readers take it as it is.
        self._refreshing = threading.Lock()
        self._slots: list[tuple[str, int]] = [self._seeds[0]] * SLOTS
        self._idle: dict[tuple[str, int], deque[Any]] = {}
        self._closed = False
        self._replicas = Replicas(lambda node: self.run_on(node, b"ROLE"), self._clock)
        if is_cluster:
            self.refresh()

    def masters(self) -> list[tuple[str, int]]:
        """The nodes that own slots, as far as we know."""
        return sorted(set(self._slots))

    def run(self, commands: Sequence[Command], replicas: int = 0) -> tuple[list[Any], int]:
        """Send all, wait for all. Returns the answers, in order, and how many replicas were
        missing that should have the writes (0: all have them).

        An answer may be a ResponseError (memory is full); what a cluster goes through (moved
        slots, elections, scripts unknown) is met here, until the deadline: AwayError.
        """
        answers: list[Any] = [None] * len(commands)
        todo = list(range(len(commands)))
        asked: dict[int, tuple[str, int]] = {}
        deadline_ns = self._clock.monotonic_ns() + self._timeout_ns
        pause_s = _FIRST_PAUSE_S
        missing = 0
        last: Exception | None = None
        while todo:
            left_ns = deadline_ns - self._clock.monotonic_ns()
            if left_ns <= 0 and last is not None:
                raise AwayError(f"{self._url} did not take the call in time: {_one_line(last)}")
            groups: dict[tuple[str, int], list[int]] = {}
            for i in todo:
                node = asked.get(i) or self._slots[commands[i].slot]
                groups.setdefault(node, []).append(i)
            found = self._exchange(groups, commands, asked, replicas, max(left_ns, 1_000_000))
            todo, again = [], _Again()
            asked = {}
            for i, answer in found.answers:
                if isinstance(answer, Exception) and again.meets(answer, i, asked):
                    todo.append(i)
                    last = answer
                else:
                    answers[i] = answer
            missing = max(missing, found.missing)
            if again.refresh:
                self._refresh_quietly()
            for node in {self._slots[commands[i].slot] for i in todo} if again.load else ():
                self._load_scripts(node)
            if todo and again.wait:
                self._clock.wait(self._never, pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
        return answers, missing

    def sure(self, commands: Sequence[Command], replicas: int = 0) -> list[Any]:
        """The answers of commands that Redis does not refuse. Raises SpanBufferError if it does.

        Replicas that do not confirm are not waited for any longer: flushing goes on.
        """
        answers, _ = self.run(commands, replicas)
        for answer in answers:
            if isinstance(answer, Exception):
                raise SpanBufferError(f"{self._url} refused a command: {_one_line(answer)}")
        return answers

    def run_on(self, node: tuple[str, int], *words: Any) -> Any:
        """One command on one node. Raises AwayError."""
        try:
            connection = self._take(node)
            connection.send_packed_command([pack(words)], check_health=False)
            answer = connection.read_response(disable_decoding=True)
        except (RedisError, OSError) as error:
            if isinstance(error, ResponseError) and not isinstance(error, ConnectionError):
                self._give(node, connection)
                raise
            self._drop(node)
            raise AwayError(f"{node[0]}:{node[1]} is away: {_one_line(error)}") from None
        self._give(node, connection)
        return answer

    def refresh(self) -> None:
        """Ask a node which owns what. Raises AwayError when none says."""
        last: Exception | None = None
        known = [*dict.fromkeys([*self._slots, *self._seeds])]
        for node in known:
            try:
                table = self.run_on(node, b"CLUSTER", b"SLOTS")
            except (AwayError, RedisError) as error:
                last = error
                continue
            slots = list(self._slots)
            for begin, end, (host, port, *_), *_rest in table:
                name = host.decode() if host else node[0]
                slots[begin : end + 1] = [(name, int(port))] * (end + 1 - begin)
            self._slots = slots
            for new in set(slots) - set(known):
                self._replicas.look(new)
            return
        raise AwayError(f"no node of {self._url} says who owns which slots: {_one_line(last)}")

    def close(self) -> None:
        """Close every connection."""
        self._closed = True
        for node in list(self._idle):
            self._drop(node)

    def _refresh_quietly(self) -> None:
        if not self.is_cluster or not self._refreshing.acquire(blocking=False):
            return
        try:
            with suppress(AwayError):
                self.refresh()
        finally:
            self._refreshing.release()

    def _exchange(
        self,
        groups: dict[tuple[str, int], list[int]],
        commands: Sequence[Command],
        asked: dict[int, tuple[str, int]],
        replicas: int,
        left_ns: int,
    ) -> _Found:
        found = _Found()
        sent = []
        for node, members in groups.items():
            packed = [
                _ASKING + commands[i].packed if i in asked else commands[i].packed for i in members
            ]
            wanted = self._replicas.wanted(node, replicas)
            if wanted:
                wait_ms = min(max(left_ns // 1_000_000, 1), _WAIT_MS)
                packed.append(pack((b"WAIT", wanted, wait_ms)))
            try:
                connection = self._take(node)
                connection.send_packed_command([b"".join(packed)], check_health=False)
            except (RedisError, OSError) as error:
                self._drop(node)
                found.answers += [(i, _lost(error)) for i in members]
            else:
                sent.append((node, connection, members, wanted))
        for node, connection, members, wanted in sent:
            at = 0
            try:
                for i in members:
                    if i in asked:
                        _read(connection)
                    answer = _read(connection)
                    if commands[i].answers > 1:
                        answer = [
                            answer,
                            *(_read(connection) for _ in range(commands[i].answers - 1)),
                        ]
                    found.answers.append((i, answer))
                    at += 1
                if wanted:
                    had = _read(connection)
                    # Where nothing was written there is nothing to have.
                    if any(not isinstance(answer, Exception) for _, answer in found.answers[-at:]):
                        short = self._replicas.missing(node, wanted, had)
                        found.missing = max(found.missing, short)
            except (RedisError, OSError) as error:
                self._drop(node)
                with suppress(RedisError, OSError):
                    connection.disconnect()
                if at == len(members):
                    found.missing = max(found.missing, wanted)
                found.answers += [(i, _lost(error)) for i in members[at:]]
            else:
                self._give(node, connection)
        return found

    def _load_scripts(self, node: tuple[str, int]) -> None:
        with suppress(AwayError, RedisError):
            for script in SCRIPTS.values():
                self.run_on(node, b"SCRIPT", b"LOAD", script.text)

    def _take(self, node: tuple[str, int]) -> Any:
        if self._closed:
            raise SpanBufferError(f"the buffer at {self._url} was closed")
        try:
            return self._idle.setdefault(node, deque()).pop()
        except IndexError:
            connection = self._connect(*node)
            connection.connect()
            return connection

    def _give(self, node: tuple[str, int], connection: Any) -> None:
        if self._closed:
            connection.disconnect()
        else:
            self._idle.setdefault(node, deque()).append(connection)

    def _drop(self, node: tuple[str, int]) -> None:
        """Connections of a node that failed are as dead as the one that showed it."""
        idle = self._idle.pop(node, None)
        while idle:
            with suppress(IndexError, RedisError, OSError):
                idle.pop().disconnect()


class _Found:
    """Answers of one round, by number of the command; and how many replicas are missing."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, Any]] = []
        self.missing = 0


class _Again:
    """What one round's answers call for before the next."""

    def __init__(self) -> None:
        self.refresh = self.load = self.wait = False

    def meets(self, error: Exception, i: int, asked: dict[int, tuple[str, int]]) -> bool:
        """Whether the command is to be sent again; notes what to do before that."""
        if isinstance(error, AuthenticationError):
            return False
        if isinstance(error, MovedError):
            self.refresh = True
        elif isinstance(error, AskError):
            asked[i] = (error.host, int(error.port))
        elif isinstance(error, NoScriptError):
            self.load = True
        elif isinstance(error, ReadOnlyError | ConnectionError | TimeoutError | OSError):
            self.refresh = self.wait = True
        elif isinstance(error, _NOT_NOW):
            self.refresh = self.refresh or isinstance(error, ClusterDownError)
            self.wait = True
        else:
            return False
        return True


def _read(connection: Any) -> Any:
    try:
        return connection.read_response(disable_decoding=True)
    except (ResponseError, BusyLoadingError) as error:
        return error


def _lost(error: Exception) -> Exception:
    return error if isinstance(error, RedisError | OSError) else ConnectionError(str(error))


def _one_line(error: Exception | None) -> str:
    return " ".join(str(error).split()) or type(error).__name__
