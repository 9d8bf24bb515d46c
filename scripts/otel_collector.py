"""The OpenTelemetry Collector and its load generator, built here with Go: peers to compare with.

    python3 scripts/otel_collector.py       builds both into .cache/otelcol, a minute; says where

The collector has what a comparison needs and no more: OTLP in, groupbytrace and tail sampling,
a file and OTLP out. Where Go is missing, or its modules cannot be had, `built` raises NotHere
with one line that says so. Needs the standard library only.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

CACHE = Path(__file__).resolve().parent.parent / ".cache" / "otelcol"

#: All modules of one release: those of two do not go together.
RELEASE = "v0.161.0"
CORE = "go.opentelemetry.io/collector"
CONTRIB = "github.com/open-telemetry/opentelemetry-collector-contrib"

MANIFEST = f"""\
dist:
  name: otelcol
  output_path: ./source
  module: example.org/otelcol
  version: {RELEASE[1:]}
receivers:
  - gomod: {CORE}/receiver/otlpreceiver {RELEASE}
processors:
  - gomod: {CONTRIB}/processor/groupbytraceprocessor {RELEASE}
  - gomod: {CONTRIB}/processor/tailsamplingprocessor {RELEASE}
exporters:
  - gomod: {CONTRIB}/exporter/fileexporter {RELEASE}
  - gomod: {CORE}/exporter/otlphttpexporter {RELEASE}
  - gomod: {CORE}/exporter/debugexporter {RELEASE}
"""


class NotHere(RuntimeError):
    """The peers cannot be built here; the message says why."""


class Built(NamedTuple):
    """Two programs."""

    collector: Path
    telemetrygen: Path


def built() -> Built:
    """Where the two programs are; they are built the first time. Raises NotHere."""
    found = Built(CACHE / "otelcol", CACHE / "bin" / "telemetrygen")
    stamp = CACHE / "release"
    if stamp.exists() and stamp.read_text() == RELEASE + MANIFEST:
        return found
    go = shutil.which("go")
    if go is None:
        raise NotHere("the OpenTelemetry Collector is built with Go, which is not here")
    (CACHE / "bin").mkdir(parents=True, exist_ok=True)
    (CACHE / "manifest.yaml").write_text(MANIFEST)
    _run(go, "install", f"{CORE}/cmd/builder@{RELEASE}")
    _run(go, "install", f"{CONTRIB}/cmd/telemetrygen@{RELEASE}")
    _run(str(CACHE / "bin" / "builder"), "--config", "manifest.yaml", "--skip-compilation")
    _run(go, "build", "-trimpath", "-o", str(found.collector), ".", at=CACHE / "source")
    stamp.write_text(RELEASE + MANIFEST)
    return found


def _run(*command: str, at: Path = CACHE) -> None:
    done = subprocess.run(
        command,
        cwd=at,
        env={**os.environ, "GOBIN": str(CACHE / "bin")},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        last = done.stdout.strip().splitlines()[-1:] or ["it did not say why"]
        raise NotHere(f"the OpenTelemetry Collector cannot be built: {last[0]}")


if __name__ == "__main__":
    try:
        print(*built(), sep="\n")
    except NotHere as error:
        sys.exit(f"otel_collector: {error}")
