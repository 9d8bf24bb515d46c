"""Child processes are traced, too, and their first spans are children of the span that started
them.

Environments are changed at the last moment, where Python hands them to the system, so the
program sees its own. multiprocessing's forkserver starts children by another process: with
them, the parent's span travels in the process object.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from afterglow.record.context import current, remote_parent

__all__ = ["Children"]

#: () of the child's own environment -> what to set in it.
Additions = Callable[[Mapping[str, str]], Mapping[str, str]]

_SPAN_KEY = "afterglow_parent"


class Children:
    """Follows what this process starts.

    `additions(environment)` says what to set in a child that would have that environment;
    `headers()` are those of the current span; `before_exec(path)` is called when this process may
    be about to become another program; `leave()` before it leaves by os._exit.
    """

    def __init__(
        self,
        additions: Additions,
        headers: Callable[[], Mapping[str, str]],
        before_exec: Callable[[Any], None],
        leave: Callable[[int], None],
    ) -> None:
        self._additions = additions
        self._headers = headers
        self._before_exec = before_exec
        self._leave = leave
        self.plain_spawn = os.posix_spawn

    def follow(self) -> None:
        """Once a process."""
        import _posixsubprocess

        fork_exec = self._with_list(_posixsubprocess.fork_exec)
        _posixsubprocess.fork_exec = fork_exec
        if "subprocess" in sys.modules:
            vars(sys.modules["subprocess"])["_fork_exec"] = fork_exec
        os.posix_spawn = self._with_mapping(os.posix_spawn)
        os.posix_spawnp = self._with_mapping(os.posix_spawnp)
        self._follow_exec()
        self._follow_system()
        self._follow_exit()

    def _extended(self, environment: Mapping[Any, Any]) -> dict[Any, Any]:
        own = {os.fsdecode(name): os.fsdecode(value) for name, value in environment.items()}
        return {**own, **self._additions(own)}

    def _with_list(self, plain: Callable[..., int]) -> Any:
        """The sixth argument is the environment: None, or a list of b"NAME=value"."""

        @_in_place_of(plain)
        def fork_exec(*arguments: Any) -> int:
            environment, preexec_fn = arguments[5], arguments[-2]
            if environment is None and preexec_fn is not None:
                with self._in_the_systems_environment():  # which preexec_fn may change
                    forked: int = plain(*arguments)
                    return forked
            if environment is None:
                own: Mapping[str, str] = os.environ
            else:
                pairs = (os.fsdecode(entry).partition("=") for entry in environment)
                own = {name: value for name, _, value in pairs}
            entries = [
                os.fsencode(f"{name}={value}") for name, value in self._extended(own).items()
            ]
            return plain(*arguments[:5], entries, *arguments[6:])

        return fork_exec

    def _with_mapping(self, plain: Callable[..., Any]) -> Any:
        """The third argument is the environment."""

        @_in_place_of(plain)
        def spawn(path: Any, argv: Any, env: Any, **options: Any) -> Any:
            environment = os.environ if env is None else env  # None: from 3.13 on
            return plain(path, argv, self._extended(environment), **options)

        return spawn

    def _follow_exec(self) -> None:
        plain = os.execve

        @_in_place_of(plain)
        def execve(path: Any, argv: Any, env: Any) -> Any:
            self._before_exec(path)
            return plain(path, argv, self._extended(env))

        @_in_place_of(os.execv)
        def execv(path: Any, argv: Any, /) -> Any:
            self._before_exec(path)
            return plain(path, argv, self._extended(os.environ))

        os.execve = execve
        os.execv = execv

    def _follow_system(self) -> None:
        plain = os.system

        @_in_place_of(plain)
        def system(command: Any) -> int:
            with self._in_the_systems_environment():
                return plain(command)

        os.system = system

    @contextmanager
    def _in_the_systems_environment(self) -> Iterator[None]:
        """Set what we add where C finds it, not in os.environ; for a moment."""
        added = self._additions(os.environ)
        for name, value in added.items():
            os.putenv(name, value)
        try:
            yield
        finally:
            for name in added:
                if name in os.environ:
                    os.putenv(name, os.environ[name])
                else:
                    os.unsetenv(name)

    def _follow_exit(self) -> None:
        plain = os._exit

        @_in_place_of(plain)
        def _exit(status: int) -> Any:
            self._leave(status)
            plain(status)

        os._exit = _exit

    def follow_multiprocessing(self, module: ModuleType) -> None:
        """`multiprocessing.process`, when it has been loaded."""
        process: Any = module.BaseProcess
        plain_start, plain_bootstrap = process.start, process._bootstrap

        @functools.wraps(plain_start)
        def start(self_: Any) -> None:
            headers = self._headers()
            if headers:
                self_._config[_SPAN_KEY] = dict(headers)
            try:
                plain_start(self_)
            finally:
                self_._config.pop(_SPAN_KEY, None)

        @functools.wraps(plain_bootstrap)
        def _bootstrap(self_: Any, parent_sentinel: Any = None) -> int:
            headers = self_._config.pop(_SPAN_KEY, None)
            # A forked child still has the span itself, which says more than its header.
            if headers and current.get() is None:
                current.set(remote_parent({name.lower(): value for name, value in headers.items()}))
            status: int = plain_bootstrap(self_, parent_sentinel)
            return status

        process.start, process._bootstrap = start, _bootstrap


def _in_place_of(plain: Any) -> Callable[[Callable[..., Any]], Any]:
    """A function that looks like the builtin that it replaces."""

    def dressed(function: Callable[..., Any]) -> Any:
        wrapper: Any = functools.wraps(plain)(function)
        del wrapper.__wrapped__
        wrapper.__text_signature__ = plain.__text_signature__
        return wrapper

    return dressed
