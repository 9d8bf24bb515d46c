"""One traced process, from the start of its interpreter to its end.

`begin` is called by boot/sitecustomize.py, before Python has put the script's directory into
`sys.path` and before any code of the program's. The process that the person started records from
the first moment. Another one (a child) starts its tracer when the first module of the user's own
comes along: most children of most programs never load one, and pay next to nothing.
"""

# Paths as Python's own start treats them; pathlib would change some.
# ruff: noqa: PTH100, PTH109, PTH113, PTH119, PTH120, PTH123, PTH208

from __future__ import annotations

import ast
import atexit
import os
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from importlib.machinery import SourceFileLoader
from types import CodeType, ModuleType
from typing import Any, Protocol

from afterglow.instrument.carried import BOOT, HIDDEN, Carried, child_environment, decoded
from afterglow.instrument.choose import Chooser
from afterglow.instrument.hook import after_import, hook_loader
from afterglow.instrument.script import script_path, take_over

__all__ = ["Recorder", "begin"]


class Recorder(Protocol):
    """What this room needs of a tracer."""

    counts: Callable[[], Mapping[str, int]]
    exit_status: int | None

    def span(self, name: str, /, **attributes: Any) -> Any: ...

    def environment(self) -> dict[str, str]: ...

    def flush(self) -> bool: ...

    def close(self) -> None: ...


def begin(
    text: str,
    trace: Mapping[str, str],
    before: Collection[str],
    make_tracer: Callable[..., Recorder],
    install_otel: Callable[[Recorder], None],
) -> None:
    """Trace this process.

    `text` is what was carried, `trace` the span that started us, `before` the modules that were
    loaded before ours. `install_otel` is called where `--otel` was given.
    """
    carried = decoded(text)
    if any("multiprocessing.resource_tracker" in word for word in sys.orig_argv[:4]):
        return  # a servant of the library's own: it runs nothing of the user's
    process = _Process(carried, dict(trace), frozenset(before), make_tracer)
    process.install_otel = install_otel if carried.otel else None
    process.begin()


class _Process:
    def __init__(
        self,
        carried: Carried,
        trace: dict[str, str],
        before: frozenset[str],
        make_tracer: Callable[..., Recorder],
    ) -> None:
        self._carried = carried
        self._trace = trace
        self._before = before
        self._make_tracer = make_tracer
        self._chooser = Chooser(carried.roots, carried.include, carried.exclude)
        self._startup_path = list(sys.path)
        self._first_pid = os.getpid() if carried.first else None
        self._tracer: Recorder | None = None
        self._spans: Any = None  # site.Spans, once there is a tracer
        self.install_otel: Callable[[Recorder], None] | None = None
        self._is_hooked = False
        self._main_module = _module_after_m()
        #: What to do when a module is about to be loaded. Only then do we stand in sys.meta_path,
        #: and only until the module that we wait for has come.
        self._on_load: dict[str, Callable[[], None]] = {
            "multiprocessing": lambda: after_import(
                "multiprocessing.process", self._children.follow_multiprocessing
            ),
            "multiprocessing.spawn": lambda: after_import("runpy", self._patch_runpy),
            "_pytest.assertion": lambda: after_import(
                "_pytest.assertion.rewrite", self._patch_pytest
            ),
        }

    def begin(self) -> None:
        from afterglow.instrument.children import Children
        from afterglow.instrument.ending import handle_sigterm

        handle_sigterm(self._leave)
        self._children = Children(self._additions, self._headers, self._before_exec, self._leave)
        self._children.follow()
        if self._first_pid is not None:
            atexit.register(self._fold)  # before the tracer's own, so it runs after that
        script = script_path()
        traced = script is not None and self._chooser.traced(_name_of_file(script), script)
        if traced or self._first_pid is not None:
            self._started()
        hook_loader(self._module_code)
        self._is_hooked = True
        self._join_otel()
        if script is not None:
            take_over(script, self._script_code, _forget_boot)
        for name in [name for name in self._on_load if name in sys.modules]:
            self._on_load.pop(name)()
        self._hide_modules(os.path.dirname(os.path.realpath(script)) if script else os.getcwd())

    # --- the tracer -----------------------------------------------------------------------

    def _started(self) -> Any:
        """The makers of sites, with a tracer behind them."""
        if self._spans is None:
            with self._as_at_startup():
                from afterglow.config import RunConfig
                from afterglow.instrument.site import Rule, Spans

                carried = self._carried
                tracer = self._make_tracer(
                    carried.database, run_id=carried.run_id, **carried.settings
                )
                config = RunConfig(
                    collapse=carried.collapse,
                    collapse_calls=carried.collapse_calls,
                    collapse_below_us=carried.collapse_below_us,
                )
                self._spans = spans = Spans(tracer, Rule(config))
            tracer.counts = spans.counts
            os.register_at_fork(after_in_child=spans.after_fork)
            self._tracer = tracer
            self._join_otel()
        return self._spans

    def _join_otel(self) -> None:
        """Once there is a tracer; what the instrumentations import may be the person's to trace."""
        install = self.install_otel
        if install is None or self._tracer is None or not self._is_hooked:
            return
        self.install_otel = None
        with self._as_at_startup():
            install(self._tracer)

    @contextmanager
    def _as_at_startup(self) -> Iterator[None]:
        """Import what is ours as Python's start would, not from the program's directory."""
        path = sys.path[:]
        hidden = {name: os.environ.pop(name, None) for name in HIDDEN}
        before = set(sys.modules)
        sys.path[:] = [*self._startup_path, self._carried.home]
        os.environ.update(self._trace)  # the tracer looks for its caller there
        try:
            yield
        finally:
            sys.path[:] = path
            for name, value in hidden.items():
                os.environ.pop(name, None)
                if value is not None:
                    os.environ[name] = value
            self._before -= set(sys.modules) - before

    def _hide_modules(self, folder: str) -> None:
        """The program must find its own module where it has one of the same name as one that we
        loaded and that Python alone would not have: a `queue.py` beside the script."""
        try:
            own = {name.partition(".")[0] for name in os.listdir(folder)}
        except OSError:
            return
        for name in set(sys.modules) - self._before:
            top = name.partition(".")[0]
            if top in own and top not in ("afterglow", "sitecustomize"):
                del sys.modules[name]

    # --- code -------------------------------------------------------------------------------

    def _module_code(self, name: str, path: str, loader: SourceFileLoader) -> CodeType | None:
        """For hook.py: a module's instrumented code, or None."""
        _forget_boot()
        if name in self._on_load:
            self._on_load.pop(name)()
        is_main = name == f"{self._main_module}.__main__" or (
            name == self._main_module and not loader.is_package(name)
        )
        if is_main:
            self._main_module = None
        # What a child runs may be anybody's: only the first process runs what the person named.
        named = is_main and self._first_pid is not None
        functions = self._chooser.traced(name, path, named=named)
        if not functions and not (is_main and self._tracer is not None):
            return None
        return self._code(path, name, lambda: loader.get_data(path), functions, is_main)

    def _script_code(self, path: str) -> CodeType | None:
        """For script.py."""
        if path.endswith(".pyc") or self._tracer is None:
            return None
        name = _name_of_file(path)
        functions = self._chooser.traced(name, path, named=self._first_pid is not None)
        return self._code(path, name, lambda: _contents(path), functions, True)

    def _tree_code(self, tree: ast.Module, path: str) -> CodeType | None:
        """For pytest_modules.py."""
        return self._code(path, _name_of_file(path), lambda: tree, True, False)

    def _code(
        self,
        path: str,
        module: str,
        source: Callable[[], bytes | ast.Module],
        functions: bool,
        main: bool,
    ) -> CodeType | None:
        try:
            from afterglow.instrument.compiling import code_of_source, code_of_tree

            spans = self._started()
            if spans.off:
                return None

            def site(kind: str, name: str, file: str, line: int) -> Any:
                if kind == "main":
                    return self._main()
                return spans.site(kind, f"{module}.{name}", file, line)

            given = source()
            if isinstance(given, ast.Module):
                return code_of_tree(given, path, site, functions=functions, main=main)
            return code_of_source(given, path, site, functions=functions, main=main)
        except (SyntaxError, OSError, ValueError):
            return None  # Python will say it itself; ValueError: a null byte
        except Exception as error:  # noqa: BLE001  never break the program
            _say(f"{path} runs without spans: {type(error).__name__}: {error}")
            return None

    def _main(self) -> Any:
        from afterglow.instrument.ending import Main

        def tell(status: int) -> None:
            if self._tracer is not None:
                self._tracer.exit_status = status

        return Main(tell)

    def _patch_runpy(self, module: ModuleType) -> None:
        """multiprocessing runs the parent's script again, in spawned children, by runpy."""
        plain: Any = module._get_code_from_file

        def _get_code_from_file(*arguments: Any) -> Any:
            path = os.path.abspath(os.fsdecode(arguments[-1]))
            name = _name_of_file(path)
            if self._chooser.traced(name, path):
                code = self._code(path, name, lambda: _contents(path), True, False)
                if code is not None:
                    # Python 3.11 gives the file, too; what it gives is what it was given.
                    return (code, arguments[-1]) if len(arguments) > 1 else code
            return plain(*arguments)

        vars(module)["_get_code_from_file"] = _get_code_from_file

    def _patch_pytest(self, module: ModuleType) -> None:
        from afterglow.instrument.pytest_modules import patch_assertion_rewriting

        def traced(path: str) -> bool:
            return self._chooser.traced(_name_of_file(path), path)

        patch_assertion_rewriting(module, traced, self._tree_code)

    # --- children, and the end ----------------------------------------------------------------

    def _headers(self) -> Mapping[str, str]:
        if self._tracer is not None:
            return self._tracer.environment() or self._trace
        return self._trace

    def _additions(self, own: Mapping[str, str]) -> Mapping[str, str]:
        carried = self._carried._replace(first=False)
        return child_environment(carried, self._headers(), own)

    def _before_exec(self, path: Any) -> None:
        """Perhaps the last moment of this program; `execvp` tries one path after the other."""
        if self._tracer is not None:
            if isinstance(path, str | bytes) and os.path.isfile(path) and os.access(path, os.X_OK):
                self._tracer.close()
            else:
                self._tracer.flush()

    def _leave(self, status: int) -> None:
        """The process is about to go, without Python's own end."""
        if self._tracer is not None:
            self._tracer.exit_status = status
            self._tracer.close()

    def _fold(self) -> None:
        """Have what was recorded folded."""
        if os.getpid() != self._first_pid:
            return
        from afterglow.instrument.after import close_run

        if self._tracer is not None:
            self._tracer.close()
        close_run(self._carried, self._children.plain_spawn)


def _forget_boot() -> None:
    """Take our sitecustomize out of sys.modules, where the import of it has left it."""
    module = sys.modules.get("sitecustomize")
    if module is not None and (getattr(module, "__file__", None) or "").startswith(BOOT):
        del sys.modules["sitecustomize"]


def _module_after_m() -> str | None:
    """The module of `python -m module`, if that is how we were started."""
    if not sys.argv or sys.argv[0] != "-m":
        return None
    word = sys.orig_argv[-len(sys.argv)]
    return word.partition("m")[2] if word.startswith("-") else word


def _name_of_file(path: str) -> str:
    """A script as a module would be called: the file's name; a directory's for __main__.py."""
    folder, name = os.path.split(path)
    stem = name.removesuffix(".py")
    return f"{os.path.basename(folder)}.__main__" if stem == "__main__" else stem


def _contents(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _say(message: str) -> None:
    if sys.stderr is not None:
        sys.stderr.write(f"afterglow: {message}\n")
