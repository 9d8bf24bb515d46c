"""A program finds, does and says under `afterglow run` what it does under plain Python."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

import pytest

from tests.instrument.conftest import Side

Program = Callable[[str], Side]

LOOKS_ROUND = '''
"""What a program can see of itself and of its interpreter."""
import builtins, inspect, os, pickle, signal, sys, threading, traceback, warnings

def f(a, b: int = 1, *c, d, **e) -> str:
    """Its docstring."""
    return "x"

async def coroutine(): pass
def generator(): yield
async def async_generator(): yield

class Kind:
    __private = 1
    def method(self): return self.__private
    @staticmethod
    def static(): return 1
    @classmethod
    def of_class(cls): return cls.__name__

def seen():
    print(__name__, __file__, __spec__, __package__, type(__loader__).__name__, __doc__)
    print(sorted(globals()), sys.argv, sys.orig_argv, sys.path)
    print(sys.flags, sys.warnoptions, sys.getrecursionlimit(), sys.gettrace(), sys.getprofile())
    print(sys.meta_path, sys.excepthook is sys.__excepthook__, sorted(os.environ))
    print(sorted(dir(builtins)), sys.modules["__main__"].f is f)
    print([signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)])
    print("sitecustomize" in sys.modules, [n for n in sys.modules if "boot" in n and "_" not in n])

def described():
    print(inspect.signature(f), inspect.iscoroutinefunction(coroutine), f.__doc__)
    print(inspect.isgeneratorfunction(generator), inspect.isasyncgenfunction(async_generator))
    print(inspect.getsource(f), f.__code__.co_varnames, f.__code__.co_firstlineno, f.__qualname__)
    print(pickle.loads(pickle.dumps(f)) is f, type(pickle.loads(pickle.dumps(Kind()))) is Kind)
    print(Kind().method(), Kind.static(), Kind.of_class(), Kind.__doc__)

def stacks():
    traceback.print_stack()
    print([frame.function for frame in inspect.stack()])

def warns(): warnings.warn("careful", stacklevel=2)

def locals_of(x):
    y = 1
    return locals()

def locals_of_generator():
    z = 1
    yield locals()
    yield dir()

seen()
described()
stacks()
warns()
print(locals_of(2), list(locals_of_generator()), [locals_of(i) for i in range(2)])
1 is 1
'''


def test_a_script_finds_what_it_would(program: Program) -> None:
    side = program(LOOKS_ROUND)
    assert side.same("app.py", "a", "--b").status == 0
    assert side.same("./app.py").status == 0
    assert side.same(str(side.folder / "app.py")).status == 0


def test_a_module_finds_what_it_would(side: Side) -> None:
    side.write("pack/__init__.py", "")
    side.write("pack/__main__.py", LOOKS_ROUND.replace("__spec__", "__spec__.name"))
    side.write("pack/inner.py", LOOKS_ROUND.replace("__spec__", "__spec__.name"))
    assert side.same("-m", "pack", "a", "b").status == 0
    assert side.same("-m", "pack.inner").status == 0


@pytest.mark.parametrize(
    "ending",
    [
        "sys.exit()",
        "sys.exit(7)",
        "sys.exit(300)",
        "sys.exit('words')",
        "raise SystemExit",
        "raise ValueError('x')",
        "raise KeyboardInterrupt",
        "raise ExceptionGroup('g', [ValueError(1), TypeError(2)])",
        "os._exit(4)",
        "sys.excepthook = lambda *a: print('hook', a[0].__name__); {}['k']",
        "threading.Timer(0.2, f, ['later']).start()",
        "threading.Thread(target=lambda: 1 / 0, name='t').start()",
        "def chained():\n    try: 1/0\n"
        "    except ZeroDivisionError as e: raise KeyError(1) from e\n"
        "chained()",
        "def recur(n):\n    return recur(n + 1)\nprint(deep(900))\n"
        + ("recur(0)" if sys.version_info >= (3, 12) else ""),
        "import module_that_fails",
        "import module_with_bad_syntax",
        "import nothing_like_it",
    ],
)
def test_an_end_is_the_same(program: Program, ending: str) -> None:
    side = program(
        "import atexit, os, sys, threading\n"
        "def f(word): print(word, flush=True)\n"
        "def deep(n): return 1 + deep(n - 1) if n else 0\n"
        "atexit.register(f, 'at exit')\n"
        f"f('begun')\n{ending}\n"
    )
    side.write("module_that_fails.py", "def f(): return {}['k']\nf()\n")
    side.write("module_with_bad_syntax.py", "x = (\n")
    side.same("app.py")
    with side.open() as database:
        (run,) = database.runs()
        assert run.state == "finished"
        wanted = side.plain("app.py").status
        assert run.exit_status == wanted


@pytest.mark.parametrize(
    "words",
    [
        ["nothing.py"],
        ["-m", "nothing"],
        ["-m", "folder.sub"],
        ["folder"],
        ["bad.py"],
        ["bad_return.py"],
        ["null.py"],
    ],
)
def test_what_cannot_be_run_is_said_by_python(side: Side, words: list[str]) -> None:
    side.write("folder/sub/__init__.py", "")
    side.write("bad.py", "def f(:\n    pass\n")
    side.write("bad_return.py", "def f():\n    return 1\nreturn 2\n")
    side.write("null.py", "x = 1\0\n")
    outcome = side.same(*words)
    assert outcome.status != 0
    assert "afterglow" not in outcome.err


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_script_that_may_not_be_read(program: Program) -> None:
    side = program("print(1)")
    (side.folder / "app.py").chmod(0)
    assert side.same("app.py").status == 2


def test_stdin_is_the_programs(program: Program) -> None:
    side = program(
        "import sys\ndef f(x): return x.upper()\nfor line in sys.stdin: print(f(line))\n"
    )
    assert "ABC" in side.same("app.py", given="abc\ndef\n").out
    assert side.same("-", "x", given="import sys; print(sys.argv, __name__)\n").status == 0


def test_a_directory_and_a_zip_with_a_main(side: Side) -> None:
    import zipfile

    side.write(
        "folder/__main__.py", "import sys\ndef f(): return sys.argv\nprint(f(), sys.path[0])"
    )
    side.same("folder", "x")
    with zipfile.ZipFile(side.folder / "app.pyz", "w") as archive:
        archive.writestr("__main__.py", "import sys; print(sys.argv, __file__)")
    side.same("app.pyz", "y")


def test_a_module_beside_the_script_hides_one_that_we_have_loaded(program: Program) -> None:
    side = program("import queue, platform, json\nprint(queue.MINE, platform.MINE)\n")
    side.write("queue.py", "MINE = 1\n")
    side.write("platform.py", "MINE = 2\n")
    assert side.same("app.py").out == "1 2\n"


def test_the_users_own_sitecustomize_is_run(program: Program) -> None:
    side = program("import sys, sitecustomize\nprint(sitecustomize.__file__, sys.path)\n")
    side.write("site/sitecustomize.py", "print('customised')\n")
    side.environment["PYTHONPATH"] = str(side.folder / "site")
    plain, traced = side.plain("app.py"), side.traced("app.py")
    assert plain.out.startswith("customised\n")
    # Once more, by the command itself: that is a Python like any other.
    assert traced == plain._replace(out="customised\n" + plain.out)


@pytest.mark.parametrize("option", [["-I"], ["-E"], ["-P"], ["-O"], ["-W", "error"], ["-u"]])
def test_options_of_the_interpreter_go_on(program: Program, option: list[str]) -> None:
    side = program(
        "import sys\ndef f(): assert False, 'asserted'\nprint(sys.argv, __debug__)\nf()\n"
    )
    plain = side._run([sys.executable, *option, "app.py"], "")
    traced = side._run([sys.executable, *option, *side.command("app.py")[1:]], "")
    assert traced == plain
    assert side.edges() == {("app.f", None): 1}


def test_generators_closed_and_thrown_into_elsewhere(program: Program) -> None:
    side = program(
        "def g():\n"
        "    try:\n"
        "        yield 1\n"
        "        yield 2\n"
        "    except ValueError as e:\n"
        "        print('caught', e)\n"
        "        yield 3\n"
        "    finally:\n"
        "        print('closed')\n"
        "def d():\n"
        "    print('result', (yield from g()))\n"
        "x = g(); next(x); print(x.throw(ValueError('v')))\n"
        "for _ in x: pass\n"
        "y = d(); next(y); y.close()\n"
        "z = g(); next(z); del z\n"
        "print(list((lambda: (yield 5))()), list(d()))\n"
        "left_open = g(); next(left_open)\n"
        "def bad():\n"
        "    yield 1\n"
        "    raise KeyError('k')\n"
        "list(bad())\n"
    )
    assert side.same("app.py").status == 1


def test_doctest_and_code_that_travels(program: Program) -> None:
    side = program(
        "import doctest, pickle, copyreg\n"
        "def f(x):\n"
        "    '''\n"
        "    >>> f(1)\n"
        "    2\n"
        "    >>> f(2)\n"
        "    4\n"
        "    '''\n"
        "    return x + 1\n"
        "print(doctest.testmod())\n"
        "consts = f.__code__.co_consts\n"
        "print(len(pickle.loads(pickle.dumps(consts))) == len(consts))\n"
    )
    assert side.same("app.py").status == 0


def test_nothing_of_ours_goes_into_pycache(program: Program) -> None:
    side = program("import helper\nhelper.f()\n")
    side.write("helper.py", "def f(): return 1\n")
    side.traced("app.py")
    assert list(side.folder.rglob("*.pyc")) == []
    side.plain("app.py")
    side.traced("app.py")
    assert side.edges() == {("helper.f", None): 2}
    (cached,) = side.folder.rglob("*.pyc")
    assert b"afterglow" not in cached.read_bytes()
