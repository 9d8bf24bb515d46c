"""Begins the tracing in an interpreter that a traced program starts (or `afterglow run` itself).

Python imports this at its start, because this folder is in PYTHONPATH (instrument/carried.py).
It leaves no trace of that, begins, and hands on to the sitecustomize that would have been
imported without us. Whatever Python finds it must be able to read it; another than ours only
loses the variables.
"""

# Paths as Python's own start treats them; pathlib would change some.
# ruff: noqa: BLE001, PTH100, PTH120, UP031
# mypy: ignore-errors

import os
import sys

_OURS = sys.modules[__name__]


def _leave_no_trace():
    """Take our variables and our folder away; what was carried, and the trace's variables."""
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [path for path in sys.path if path != here]
    sys.path_importer_cache.pop(here, None)
    python_path = os.environ.get("PYTHONPATH", "")
    if python_path == here:
        del os.environ["PYTHONPATH"]
    elif python_path.startswith(here + os.pathsep):
        os.environ["PYTHONPATH"] = python_path[len(here) + 1 :]
    return os.environ.pop("AFTERGLOW_CARRIED", None)


def _begin():
    before = set(sys.modules)
    text = _leave_no_trace()
    if not text or sys.version_info < (3, 11):
        return
    import json

    fields = json.loads(text)
    trace = {}
    for name in ("TRACEPARENT", "TRACESTATE"):
        if name in os.environ:
            trace[name] = os.environ.pop(name)
        if name in fields["hidden"]:
            os.environ[name] = fields["hidden"][name]
    if fields["prefix"] != sys.prefix:
        return
    sys.path.append(fields["home"])
    try:
        from afterglow.instrument.process import begin
    finally:
        sys.path.remove(fields["home"])

    def make_tracer(*arguments, **settings):
        # The joint of the parts: it is above this room, which must not import it by itself.
        from importlib import import_module

        return import_module("afterglow.wiring").Tracer(*arguments, **settings)

    def install_otel(tracer):
        import_module = __import__("importlib").import_module
        import_module("afterglow.otel.distro").install(tracer)

    begin(text, trace, before, make_tracer, install_otel)


def _say_why():
    sys.stderr.write("afterglow: this process is not traced: %s\n" % (sys.exc_info()[1],))


def _chain():
    """The sitecustomize that would have been."""
    sys.modules.pop("sitecustomize", None)
    try:
        import sitecustomize  # noqa: F401
    except ImportError as error:
        if error.name != "sitecustomize":
            raise
        sys.modules["sitecustomize"] = _OURS  # the import of ours, under way, looks for it


try:
    _begin()
except Exception:
    _say_why()
_chain()
