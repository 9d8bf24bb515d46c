"""`opentelemetry-instrument`, really: what it finds of ours, and when ours steps back."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

import afterglow
from afterglow.model.span import Span

APP = """
from opentelemetry import trace
provider = trace.get_tracer_provider()
with trace.get_tracer("app").start_as_current_span("work"):
    pass
print(type(provider).__module__)
"""


class Program:
    """A folder with a program that is instrumented from outside."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.database = folder / "traces.db"
        self.write("app.py", APP)
        self.environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("AFTERGLOW_", "OTEL_", "PYTHON", "TRACE"))
        } | {
            "AFTERGLOW_DATABASE": str(self.database),
            "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "*",  # they take a second to load
        }

    def write(self, name: str, source: str) -> None:
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(source)

    def run(self, *words: str, **variables: str) -> tuple[str, str]:
        """What it prints, and what is said on stderr."""
        done = subprocess.run(
            [*words, "app.py"],
            cwd=self.folder,
            env={**self.environment, **variables},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        return done.stdout.strip(), done.stderr.strip()

    def instrumented(self, **variables: str) -> tuple[str, str]:
        command = Path(sys.executable).parent / "opentelemetry-instrument"
        return self.run(str(command), sys.executable, **variables)

    def spans(self) -> list[Span]:
        with afterglow.open(self.database) as database:
            return list(database.spans())

    def another_distro(self) -> None:
        """A package beside ours, as somebody else's distro is one."""
        self.write(
            "other_distro.py",
            "from opentelemetry import trace\n"
            "from opentelemetry.instrumentation.distro import BaseDistro\n"
            "class Distro(BaseDistro):\n"
            "    def _configure(self, **kwargs): print('other distro')\n"
            "class Provider(trace.NoOpTracerProvider): pass\n"
            "class Configurator:\n"
            "    def configure(self, auto_instrumentation_version=None, **kwargs):\n"
            "        print('other configurator', bool(auto_instrumentation_version))\n"
            "        trace.set_tracer_provider(Provider())\n",
        )
        info = "other_distro-1.0.dist-info"
        self.write(f"{info}/METADATA", "Metadata-Version: 2.1\nName: other-distro\nVersion: 1.0\n")
        self.write(
            f"{info}/entry_points.txt",
            "[opentelemetry_distro]\nother = other_distro:Distro\n"
            "[opentelemetry_configurator]\nother = other_distro:Configurator\n",
        )


@pytest.fixture
def program(tmp_path: Path) -> Program:
    return Program(tmp_path)


def test_nothing_but_the_command_is_needed(program: Program) -> None:
    out, err = program.instrumented(OTEL_SERVICE_NAME="shop", OTEL_TRACES_EXPORTER="none")
    assert (out, err) == ("afterglow.otel.provider", "")
    assert [span.name for span in program.spans()] == ["work"]
    with afterglow.open(program.database) as database:
        resource = database.processes()[0].resource
    assert resource["service.name"] == "shop"
    assert resource["telemetry.auto.version"]


@pytest.mark.parametrize("ours_is_found_first", [False, True])
def test_another_distro_is_not_replaced_unasked(
    program: Program, ours_is_found_first: bool
) -> None:
    program.another_distro()
    before = [sysconfig.get_path("purelib")] if ours_is_found_first else []
    out, err = program.instrumented(PYTHONPATH=os.pathsep.join([*before, str(program.folder)]))
    assert out.splitlines() == ["other distro", "other configurator True", "other_distro"]
    assert "afterglow" in err  # whichever came first, one line says who is left out
    assert not program.database.exists()
    assert not Path(f"{program.database}.d").exists()


def test_ours_by_name_beside_another(program: Program) -> None:
    program.another_distro()
    out, _ = program.instrumented(PYTHONPATH=str(program.folder), OTEL_PYTHON_DISTRO="afterglow")
    assert out == "afterglow.otel.provider"
    assert [span.name for span in program.spans()] == ["work"]


def test_the_other_by_name(program: Program) -> None:
    program.another_distro()
    out, _ = program.instrumented(PYTHONPATH=str(program.folder), OTEL_PYTHON_DISTRO="other")
    assert out.splitlines() == ["other distro", "other configurator True", "other_distro"]


def test_a_setting_that_cannot_be_used_is_one_line(program: Program) -> None:
    out, err = program.instrumented(AFTERGLOW_MAX_QUEUE_SIZE="many")
    assert out == "opentelemetry.trace"
    assert err == (
        "AFTERGLOW_MAX_QUEUE_SIZE='many' is not a whole number. This program runs without spans"
    )


def test_the_provider_by_its_variable(program: Program) -> None:
    out, err = program.run(
        sys.executable, OTEL_PYTHON_TRACER_PROVIDER="afterglow", OTEL_PROPAGATORS="b4, tracecontext"
    )
    assert out == "afterglow.otel.provider"
    assert err == (
        "OTEL_PROPAGATORS=b4, tracecontext: no propagator b4 is installed; it is left out"
    )
    assert [span.name for span in program.spans()] == ["work"]


def test_without_the_sdk(program: Program) -> None:
    program.write("app.py", "import sys\nsys.modules['opentelemetry.sdk'] = None\n" + APP +
                  "print(provider.resource.attributes['service.name'])\n")  # fmt: skip
    out, err = program.run(
        sys.executable,
        OTEL_PYTHON_TRACER_PROVIDER="afterglow",
        OTEL_TRACES_SAMPLER="parentbased_always_on",
        OTEL_RESOURCE_ATTRIBUTES="service.name=shop",
    )
    assert (out.splitlines(), err) == (["afterglow.otel.provider", "shop"], "")
    assert [span.name for span in program.spans()] == ["work"]


def test_death_by_sigterm_loses_nothing(program: Program) -> None:
    program.write(
        "app.py",
        "import os, signal, subprocess, sys\n" + APP + "if os.fork() == 0:\n"
        "    trace.get_tracer('app').start_span('in the child').end()\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "assert os.wait()[1] == signal.SIGTERM\n"
        "subprocess.run([sys.executable, '-c', 'from opentelemetry import trace;'\n"
        "    'trace.get_tracer(chr(97)).start_span(\"started\").end()'], check=True)\n",
    )
    program.instrumented()
    assert {span.name for span in program.spans()} == {"work", "in the child", "started"}
    with afterglow.open(program.database) as database:
        assert len(database.runs()) == 1  # the child that was started is part of it
        books = database.ledger()
    assert (books["recorded"], books["written"], books["in_flight"]) == (3, 3, 0)
